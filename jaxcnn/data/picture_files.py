"""Picture files in a folder, told by their suffix or by their first bytes."""

import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from jaxcnn.data.decode import decode, read_bytes
from jaxcnn.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
"""Files that are taken for pictures without a look into them."""
_NO_PICTURES = {
    ".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".pdf", ".doc", ".docx", ".xls",
    ".xlsx", ".db", ".ini", ".log", ".py", ".ipynb", ".m", ".sh", ".npy", ".npz", ".mat", ".pkl", ".pt", ".pth", ".h5", ".zip",
    ".gz", ".tar", ".7z", ".rar", ".mp4", ".avi", ".mov", ".mkv", ".mp3", ".wav",
}  # fmt: skip
_RAW = "camera raw"
_RAW_SUFFIXES = {".dng", ".cr2", ".nef", ".arw", ".orf", ".rw2", ".pef", ".srw"}
"""TIFF files of which OpenCV reads the thumbnail."""
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
_COMMON = {"a picture", "JPEG", "PNG", "GIF", "WebP", "BMP", "TIFF", "PNM"}  # read wherever OpenCV and Pillow are
_PATTERNS = [(name, re.compile(pattern, re.DOTALL)) for name, pattern in _SIGNATURES]


@dataclasses.dataclass
class Found:
    """What lies in a folder and the folders in it: paths of files, in order."""

    pictures: list[str] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    """Files that are no pictures."""
    unreadable: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """{format: pictures of it, which can't be decoded here}"""
    hidden: list[str] = dataclasses.field(default_factory=list)
    """Folders that were passed over: hidden ones, and those that systems leave behind."""
    folders: set[str] = dataclasses.field(default_factory=set)
    """Names of the other folders in the folder, at any depth."""


def search(root: Path) -> Found:
    """The pictures in `root`, and what else is in it but hidden files. Raises UserError for a folder that can't be read."""
    found, by_format = Found(), defaultdict(list)
    for where, folders, files in _walk(root):
        found.hidden += [os.path.join(where, name) for name in folders if is_hidden(name)]
        found.folders.update(name for name in folders if not is_hidden(name))
        for path in (os.path.join(where, name) for name in files if not is_hidden(name)):
            by_format[format_of(path)].append(path)
    found.others = sorted(by_format.pop("", []))
    for name, paths in by_format.items():
        if name in _COMMON or (name != _RAW and _can_be_decoded(paths)):
            found.pictures += paths
        else:
            found.unreadable[name] = sorted(paths)
    found.pictures.sort()
    return found


def holds_pictures(root: Path) -> bool:
    """Whether a folder or a folder in it holds a picture, of whatever format."""
    return any(format_of(os.path.join(where, name)) for where, _, files in _walk(root) for name in files if not is_hidden(name))


def loose_pictures(root: Path) -> list[str]:
    """The pictures, of whatever format, in a folder itself."""
    return [entry.path for entry in _visible(root) if not entry.is_dir() and format_of(entry.path)]


def visible_folders(root: Path) -> list[Path]:
    """The folders in `root` that are not hidden, by name."""
    return [Path(entry.path) for entry in _visible(root) if entry.is_dir()]


def refuse_broken_links(root: Path) -> None:
    """Raises UserError for a link in `root` to nothing, unless its suffix is a file's: it may have been a class."""
    for entry in _visible(root):
        suffix = os.path.splitext(entry.name)[1].lower()
        if entry.is_symlink() and not os.path.exists(entry.path) and suffix not in SUFFIXES | _NO_PICTURES:
            raise UserError(f"{entry.path}: a link to nothing; remove it or, if it was a class, repair it")


def _visible(root: Path) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden, by name. Raises UserError where it can't be read."""
    try:
        with os.scandir(root) as entries:
            return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{root}: can't be read ({error.strerror})") from error


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over by its name: it starts with a dot, or systems make it."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def format_of(path: str) -> str:
    """The format of a file: "a picture" by its suffix, or by its first bytes a format; "" if it is not a picture."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return "a picture"
    if suffix in _NO_PICTURES or not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as file:
            start = file.read(256)
    except OSError:
        return ""
    kind = next((name for name, pattern in _PATTERNS if pattern.match(start)), "")
    return _RAW if kind == "TIFF" and suffix in _RAW_SUFFIXES else kind


def _can_be_decoded(paths: list[str]) -> bool:
    """Whether OpenCV and Pillow, as they were built here, decode one of the first of some pictures of one format."""
    for path in paths[:3]:
        try:
            decode(read_bytes(path), path, 3)
            return True
        except (UserError, RuntimeError):  # OpenCV's decoder of AVIF raises the latter
            continue
    return False


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk, which enters links, but neither hidden folders nor circles."""

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename}: can't be read ({error.strerror})") from error

    for where, folders, files in os.walk(root, onerror=fail, followlinks=True):
        yield where, sorted(folders), files
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for link in (Path(where, name) for name in folders):
            if link.is_symlink() and Path(where).resolve().is_relative_to(link.resolve()):
                raise UserError(f"{link}: a link to a folder that it lies in")
