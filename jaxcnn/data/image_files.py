"""Finds image files in folders, by suffix or by their first bytes."""

import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from jaxcnn.data.decode import decode, read_bytes
from jaxcnn.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
"""Suffixes of files that are accepted as images without reading them."""
_OTHER_SUFFIXES = {
    ".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".pdf", ".doc", ".docx", ".xls",
    ".xlsx", ".db", ".ini", ".log", ".py", ".ipynb", ".m", ".sh", ".npy", ".npz", ".mat", ".pkl", ".pt", ".pth", ".h5", ".zip",
    ".gz", ".tar", ".7z", ".rar", ".mp4", ".avi", ".mov", ".mkv", ".mp3", ".wav",
}  # fmt: skip
_RAW = "camera raw"
_RAW_SUFFIXES = {".dng", ".cr2", ".nef", ".arw", ".orf", ".rw2", ".pef", ".srw"}
"""Camera raw files, which are TIFF files; OpenCV would decode only their thumbnail."""
_SYSTEM_FOLDERS = {
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler",
    "system volume information", "__macosx", "__pycache__", "lost+found",
}  # fmt: skip
_SIGNATURES = (
    ("JPEG", rb"\xff\xd8\xff"), ("PNG", rb"\x89PNG\r\n\x1a\n"), ("GIF", rb"GIF8[79]a"), ("WebP", rb"RIFF....WEBP"),
    ("BMP", rb"BM....\0\0\0\0"), ("TIFF", rb"II[*+]\0|MM\0[*+]"), ("PNM", rb"P[1-7]\s+[\d#W]"),
    ("AVIF", rb"....ftypavi[fs]"), ("HEIC", rb"....ftyp(?:hei|hev|mif1|msf1)"),
    ("JPEG 2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"), ("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    ("JPEG XR", rb"II\xbc\x01"), ("Photoshop", rb"8BPS\0"), ("OpenEXR", rb"\x76\x2f\x31\x01"), ("HDR", rb"#\?R(?:ADIANCE|GBE)"),
    ("icon", rb"\x00\x00\x01\x00[^\x00]\x00"), ("DDS", rb"DDS \x7c"), ("Sun raster", rb"\x59\xa6\x6a\x95"),
    ("FITS", rb"SIMPLE  ="), ("SVG", rb"\s*(?:<\?xml[^>]*>\s*)?<svg"), ("DICOM", rb".{128}DICM"),
)  # fmt: skip
_COMMON = {"image", "JPEG", "PNG", "GIF", "WebP", "BMP", "TIFF", "PNM"}  # decoded by every build of OpenCV and Pillow
_PATTERNS = [(name, re.compile(pattern, re.DOTALL)) for name, pattern in _SIGNATURES]


@dataclasses.dataclass
class Found:
    """The contents of a folder and its subfolders: sorted paths of files."""

    images: list[str] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    """Files that are not images."""
    unreadable: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """{format: images of this format, which the installed libraries cannot decode}"""
    hidden: list[str] = dataclasses.field(default_factory=list)
    """Folders that were ignored: hidden folders and those that operating systems create."""
    folders: set[str] = dataclasses.field(default_factory=set)
    """Names of all other subfolders, at any depth."""


def search(root: Path) -> Found:
    """Returns the images and other contents of `root`, without hidden files. Raises UserError if a folder cannot be read."""
    found, by_format = Found(), defaultdict(list)
    for folder, folders, files in _walk(root):
        found.hidden += [os.path.join(folder, name) for name in folders if is_hidden(name)]
        found.folders.update(name for name in folders if not is_hidden(name))
        for path in (os.path.join(folder, name) for name in files if not is_hidden(name)):
            by_format[format_of(path)].append(path)
    found.others = sorted(by_format.pop("", []))
    for name, paths in by_format.items():
        if name in _COMMON or (name != _RAW and _can_be_decoded(paths)):
            found.images += paths
        else:
            found.unreadable[name] = sorted(paths)
    found.images.sort()
    return found


def holds_images(root: Path) -> bool:
    """Returns whether a folder or one of its subfolders contains an image of any format."""
    paths = (os.path.join(folder, name) for folder, _, files in _walk(root) for name in files if not is_hidden(name))
    return any(map(format_of, paths))


def loose_images(root: Path) -> list[str]:
    """Returns the images of any format that are directly in a folder."""
    return [entry.path for entry in _visible(root) if not entry.is_dir() and format_of(entry.path)]


def visible_folders(root: Path) -> list[Path]:
    """Returns the folders in `root` that are not hidden, sorted by name."""
    return [Path(entry.path) for entry in _visible(root) if entry.is_dir()]


def refuse_broken_links(root: Path) -> None:
    """Raises UserError for a broken link in `root`, which may have been a class, unless it has a file's suffix."""
    for entry in _visible(root):
        suffix = os.path.splitext(entry.name)[1].lower()
        if entry.is_symlink() and not os.path.exists(entry.path) and suffix not in SUFFIXES | _OTHER_SUFFIXES:
            raise UserError(f"{entry.path}: a broken link; remove it or, if it was a class, repair it")


def _visible(root: Path) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder that are not hidden, sorted by name. Raises UserError if the folder cannot be read."""
    try:
        with os.scandir(root) as entries:
            return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{root}: can't be read ({error.strerror})") from error


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder is ignored by its name: it starts with a dot, or operating systems create it."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def format_of(path: str) -> str:
    """Returns "image" for a known suffix, else the format that the first bytes show, or "" if the file is not an image."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return "image"
    if suffix in _OTHER_SUFFIXES or not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as file:
            start = file.read(256)
    except OSError:
        return ""
    kind = next((name for name, pattern in _PATTERNS if pattern.match(start)), "")
    return _RAW if kind == "TIFF" and suffix in _RAW_SUFFIXES else kind


def _can_be_decoded(paths: list[str]) -> bool:
    """Returns whether the installed OpenCV and Pillow decode any of the first three images of one format."""
    for path in paths[:3]:
        try:
            decode(read_bytes(path), path, 3)
            return True
        except (UserError, RuntimeError):  # OpenCV's AVIF decoder raises RuntimeError
            continue
    return False


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk that follows links, skips hidden folders and raises UserError for circular links."""

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename}: can't be read ({error.strerror})") from error

    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        yield folder, sorted(folders), files
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for link in (Path(folder, name) for name in folders):
            if link.is_symlink() and Path(folder).resolve().is_relative_to(link.resolve()):
                raise UserError(f"{link}: a link to a folder that contains it")
