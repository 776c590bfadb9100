"""Collections of picture files with one folder for each class."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxcnn.data.files import existing
from jaxcnn.data.sources import PARTS, Dataset, FileSource
from jaxcnn.errors import UserError, did_you_mean

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


def folder(root: Path, *, channels: int = 3, group: str = "") -> Dataset:
    """`root` holds one folder a class, or folders train, val and test that do. Names of folders are names of classes.

    Folders inside a class's are searched too. Files whose names do not end as a picture's are passed over, hidden ones
    too. `group` is a regular expression over paths below `root`: what its first group (or all of it) finds is the group.
    """
    if not existing(root).is_dir():
        raise UserError(f'data.root: "{root}" is a file; the source "folder" takes a folder with one folder a class')
    parts = _parts(root)
    class_names = [entry.name for entry in _folders(parts["train"])]
    if len(class_names) < 2:
        loose = sum(_is_picture(name) for name in os.listdir(parts["train"]))
        beside = f" and {loose:,} pictures outside of them" if loose else ""
        raise UserError(
            f'data.root: "{parts["train"]}" holds {len(class_names)} folders{beside}; one a class is meant, at least two'
        )
    sources: dict[str, FileSource] = {}
    for part, where in parts.items():
        paths: list[str] = []
        labels: list[int] = []
        for entry in _folders(where):
            if entry.name not in class_names:
                near = did_you_mean(entry.name, class_names)
                raise UserError(f'{entry}: the class "{entry.name}" is not among those of {parts["train"]}{near}')
            files = sorted(_pictures(entry))
            if not files and part == "train":
                raise UserError(f"{entry}: no picture in it ({', '.join(sorted(SUFFIXES))})")
            paths += files
            labels += [class_names.index(entry.name)] * len(files)
        if not paths:
            raise UserError(f"{where}: no folder of pictures in it, one a class")
        sources[part] = FileSource(np.array(paths), np.array(labels, np.int32), channels=channels)
    groups = _groups([os.path.relpath(path, root) for path in sources["train"].paths], group) if group else None
    return Dataset(sources["train"], sources.get("validation"), sources.get("test"), tuple(class_names), groups)


def _parts(root: Path) -> dict[str, Path]:
    """{"train": …, "validation": …, "test": …}, those that there are; the whole of `root` is for training if none is."""
    parts: dict[str, Path] = {}
    for entry in _folders(root):
        part = PARTS.get(entry.name.lower())
        if part in parts:
            raise UserError(f'{root}: "{parts[part].name}" and "{entry.name}" both are for {part}; one is meant')
        if part:
            parts[part] = entry
    return parts if "train" in parts else {"train": root}


def _folders(root: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
        if broken := [entry for entry in entries if entry.is_symlink() and not entry.exists() and not _is_picture(entry.name)]:
            raise UserError(f"{broken[0]}: a link to nothing; remove it or, if it was a class, mend it")
        return [entry for entry in entries if entry.is_dir()]
    except OSError as error:
        raise UserError(f"{root}: can't be read ({error.strerror})") from error


def _pictures(root: Path) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename}: can't be read ({error.strerror})") from error

    for where, folders, names in os.walk(root, onerror=fail, followlinks=True):
        for link in (Path(where, name) for name in folders):
            if link.is_symlink() and Path(where).resolve().is_relative_to(link.resolve()):
                raise UserError(f"{link}: a link to a folder that it lies in")
        yield from (os.path.join(where, name) for name in names if _is_picture(name))


def _is_picture(name: str) -> bool:
    """Whether a file that is not hidden ends as a picture's."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _groups(paths: Sequence[str], pattern: str) -> np.ndarray:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.group: {pattern!r} is no regular expression: {error}") from error
    matches = [compiled.search(path) for path in paths]
    if missing := [path for path, match in zip(paths, matches, strict=True) if not match]:
        raise UserError(f"data.group: {pattern!r} is not found in {missing[0]!r} and {len(missing) - 1} other paths")
    return np.array([match[match.re.groups and 1] for match in matches if match])
