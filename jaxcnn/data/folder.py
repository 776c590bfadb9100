"""Data sets of image files in one folder per class."""

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxcnn.data.files import existing
from jaxcnn.data.image_files import SUFFIXES, Found, loose_images, search, visible_folders
from jaxcnn.data.layout import Layout, counted, find_layout, names_of_parts, quoted
from jaxcnn.data.sources import Dataset, FileSource
from jaxcnn.errors import UserError, did_you_mean

_NO_LABELS = re.compile("unknown|unlabell?ed|none|dummy|all|tests?|images?|pictures?|photos?", re.IGNORECASE)
"""Usual names of the only folder of a split without labels; tools that require class folders need such a folder."""


def folder(root: Path, *, channels: int = 3, group: str = "", splits: Mapping[str, str] | None = None) -> Dataset:
    """Reads the data set in `root`: one folder per class, or folders for train, val and test that contain the class folders.

    A class has the name of its folder. Subfolders of a class folder are searched too. Hidden folders and files that are not
    images are ignored and counted in the notes. `group` is a regular expression over paths relative to `root`: the text
    matched by its first group (or by all of it) is the example's group. `splits` states the folder of each split, as in
    `find_layout`.

    Raises:
      UserError: the layout is ambiguous, there are fewer than two classes, or a class or a split has no images.
    """
    if not existing(root).is_dir():
        raise UserError(f'data.root: "{root}" is a file; data.name=folder expects a folder with one folder per class')
    layout = find_layout(root, splits)
    class_names = tuple(layout.classes["train"])
    if len(class_names) < 2:
        raise UserError(_too_few_classes(layout.folders["train"], class_names))
    found: dict[str, dict[str, Found]] = {}
    for part, classes in layout.classes.items():
        _check_class_names(layout, part, class_names)
        found[part] = {name: search(class_folder) for name, class_folder in classes.items()}
        if empty := [name for name, files in found[part].items() if not files.images and part == "train"]:
            raise UserError(_no_images(classes[empty[0]], found[part][empty[0]]))
        if not any(files.images for files in found[part].values()):
            raise UserError(f"{layout.folders[part]}: its class folders contain no images")
    everything = [files for classes in found.values() for files in classes.values()]
    if not (splits or {}).get("train"):
        _check_inside(root, everything)
    sources = {part: _source(classes, class_names, channels) for part, classes in found.items()}
    groups = groups_of_paths([os.path.relpath(path, root) for path in sources["train"].paths], group) if group else None
    notes = (*layout.notes, *_ignored(root, layout, everything))
    return Dataset(sources["train"], sources.get("validation"), sources.get("test"), class_names, groups, notes)


def _source(classes: Mapping[str, Found], class_names: Sequence[str], channels: int) -> FileSource:
    paths = [path for files in classes.values() for path in files.images]
    labels = [class_names.index(name) for name, files in classes.items() for _ in files.images]
    return FileSource(np.array(paths), np.array(labels, np.int32), channels=channels)


def _too_few_classes(root: Path, class_names: Sequence[str]) -> str:
    if not root.is_dir():
        return f"{root}: expected folders of at least two classes, found {len(class_names)}"
    loose = len(loose_images(root))
    outside = f" and {counted(loose, 'image')} outside of them" if loose else ""
    inner = visible_folders(root)
    deeper = len(visible_folders(inner[0])) if len(inner) == 1 else 0
    hint = f'; to use the {deeper} folders in "{inner[0].name}", set data.root={inner[0]}' if deeper else ""
    found = f"{counted(len(class_names), 'folder')}{outside}"
    return f'data.root: "{root}" contains {found}; expected one folder per class, at least two{hint}'


def _check_class_names(layout: Layout, part: str, class_names: Sequence[str]) -> None:
    """Raises UserError if a split has no labels, or a class that the training set does not have."""
    classes, split_folder = layout.classes[part], layout.folders[part]
    new = [name for name in classes if name not in class_names]
    loose = loose_images(split_folder) if not classes and split_folder.is_dir() else []
    without = f"--config.data.{part}_split=off trains without it; experiments/predict.py classifies its images"
    if loose or (new == list(classes) and len(new) == 1 and _NO_LABELS.fullmatch(new[0])):
        content = (
            f"{counted(len(loose), 'image')} and no class folders"
            if loose
            else f'only the folder "{new[0]}", which is not a class'
        )
        raise UserError(f"{split_folder}: no labels: it contains {content}; {without}")
    if new:
        near = did_you_mean(new[0], class_names)
        raise UserError(
            f'{classes[new[0]]}: the class "{new[0]}" is not among the classes of {layout.folders["train"]}{near}; '
            f"--config.data.{part}_split=off trains without this split"
        )


def _no_images(class_folder: Path, found: Found) -> str:
    if found.unreadable:
        return f"{class_folder}: no readable images, only {_counted(class_folder, found.unreadable)}"
    return f"{class_folder}: no images ({', '.join(sorted(SUFFIXES))}, or other files with an image's content)"


def _check_inside(root: Path, found: Iterable[Found]) -> None:
    """Raises UserError if the class folders contain folders named like splits, `train`, `test`, …"""
    if inside := sorted(names_of_parts(set[str]().union(*(files.folders for files in found)))):
        options = " ".join(f"'--config.data.{part}_split=*/{name}'" for name, part in names_of_parts(inside).items())
        raise UserError(
            f"{root}: the class folders contain the folders {quoted(inside)}: if these are splits, pass {options}; "
            "if all their images belong together, pass --config.data.train_split=. (or the folder of the training set)"
        )


def _ignored(root: Path, layout: Layout, found: Sequence[Found]) -> list[str]:
    """Returns a line for each kind of file or folder that is not used."""
    others = [path for files in found for path in files.others]
    hidden = [path for files in found for path in files.hidden]
    unreadable: dict[str, list[str]] = {}
    for files in found:
        for kind, paths in files.unreadable.items():
            unreadable.setdefault(kind, []).extend(paths)
    tops = [top for path in layout.folders.values() for top in ([path] if path.is_dir() else visible_folders(root))]
    loose = list(itertools.chain.from_iterable(loose_images(top) for top in dict.fromkeys(tops)))
    return [
        f"ignored {kind_of_file}: {_listed(root, paths)}"
        for kind_of_file, paths in (
            ("hidden folders in class folders", hidden),
            (f"{counted(len(loose), 'image')} outside of the class folders", loose),
            (f"{counted(len(others), 'file')} of other types", others),
            *(
                (f"{counted(len(paths), 'image')} of a format that cannot be read on this system ({kind})", paths)
                for kind, paths in unreadable.items()
            ),
        )
        if paths
    ]


def _counted(root: Path, unreadable: Mapping[str, list[str]]) -> str:
    return ", ".join(f"{len(paths):,} of the format {kind} ({_listed(root, paths)})" for kind, paths in unreadable.items())


def _listed(root: Path, paths: Sequence[str], most: int = 3) -> str:
    return ", ".join(os.path.relpath(path, root) for path in paths[:most]) + (", …" if len(paths) > most else "")


def groups_of_paths(paths: Sequence[str], pattern: str) -> np.ndarray:
    """Returns the group of each path, (N,): the text that the first group of the regular expression (or all of it) matches."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.group: {pattern!r} is not a regular expression: {error}") from error
    matches = [compiled.search(path) for path in paths]
    if missing := [path for path, match in zip(paths, matches, strict=True) if not match]:
        raise UserError(f"data.group: {pattern!r} does not match {missing[0]!r} and {len(missing) - 1} other paths")
    return np.array([match[match.re.groups and 1] for match in matches if match])
