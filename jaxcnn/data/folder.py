"""Collections of picture files with one folder per class."""

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxcnn.data.files import existing
from jaxcnn.data.layout import Layout, counted, find_layout, names_of_parts, quoted
from jaxcnn.data.picture_files import SUFFIXES, Found, loose_pictures, search, visible_folders
from jaxcnn.data.sources import Dataset, FileSource
from jaxcnn.errors import UserError, did_you_mean

_NO_LABELS = re.compile("unknown|unlabell?ed|none|dummy|all|tests?|images?|pictures?|photos?", re.IGNORECASE)
"""The only folder of a part without labels, as those name it who read it with a tool that wants class folders."""


def folder(root: Path, *, channels: int = 3, group: str = "", splits: Mapping[str, str] | None = None) -> Dataset:
    """`root` holds one folder per class, or folders for train, val and test that do. Names of folders are names of classes.

    Folders inside a class's are searched too. Hidden folders and files that are not images are passed over, and counted in
    the notes. `group` is a regular expression over paths below `root`: what its first group (or all of it) finds is the
    group. `splits` states the folders of the parts, as `find_layout` takes them.
    """
    if not existing(root).is_dir():
        raise UserError(f'data.root: "{root}" is a file; the source "folder" takes a folder with one folder per class')
    layout = find_layout(root, splits)
    class_names = tuple(layout.classes["train"])
    if len(class_names) < 2:
        raise UserError(_too_few_classes(layout.folders["train"], class_names))
    found: dict[str, dict[str, Found]] = {}
    for part, classes in layout.classes.items():
        _check_class_names(layout, part, class_names)
        found[part] = {name: search(where) for name, where in classes.items()}
        if empty := [name for name, files in found[part].items() if not files.pictures and part == "train"]:
            raise UserError(_no_pictures(classes[empty[0]], found[part][empty[0]]))
        if not any(files.pictures for files in found[part].values()):
            raise UserError(f"{layout.folders[part]}: no folder of pictures in it, one per class")
    everything = [files for classes in found.values() for files in classes.values()]
    if not (splits or {}).get("train"):
        _check_inside(root, everything)
    sources = {part: _source(classes, class_names, channels) for part, classes in found.items()}
    groups = _groups([os.path.relpath(path, root) for path in sources["train"].paths], group) if group else None
    notes = (*layout.notes, *_passed_over(root, layout, everything))
    return Dataset(sources["train"], sources.get("validation"), sources.get("test"), class_names, groups, notes)


def _source(classes: Mapping[str, Found], class_names: Sequence[str], channels: int) -> FileSource:
    paths = [path for files in classes.values() for path in files.pictures]
    labels = [class_names.index(name) for name, files in classes.items() for _ in files.pictures]
    return FileSource(np.array(paths), np.array(labels, np.int32), channels=channels)


def _too_few_classes(where: Path, class_names: Sequence[str]) -> str:
    if not where.is_dir():
        return f"{where}: the folders there are of {len(class_names)} classes; at least two are wanted"
    loose = len(loose_pictures(where))
    beside = f" and {loose:,} pictures outside of them" if loose else ""
    inner = visible_folders(where)
    deeper = len(visible_folders(inner[0])) if len(inner) == 1 else 0
    hint = f'; if the {deeper} folders in "{inner[0].name}" are meant: data.root={inner[0]}' if deeper else ""
    return f'data.root: "{where}" holds {len(class_names)} folders{beside}; one a class is meant, at least two{hint}'


def _check_class_names(layout: Layout, part: str, class_names: Sequence[str]) -> None:
    """Raises UserError for a part without labels, or with a class that the training set has not."""
    classes, where = layout.classes[part], layout.folders[part]
    new = [name for name in classes if name not in class_names]
    loose = loose_pictures(where) if not classes and where.is_dir() else []
    without = f"--config.data.{part}_split=off trains without it, and experiments/predict.py classifies its pictures"
    if loose or (new == list(classes) and len(new) == 1 and _NO_LABELS.fullmatch(new[0])):
        what = (
            f"{counted(len(loose), 'picture')} and no class folders"
            if loose
            else f'the only folder "{new[0]}", which is no class'
        )
        raise UserError(f"{where}: no labels: it holds {what}; {without}")
    if new:
        near = did_you_mean(new[0], class_names)
        raise UserError(
            f'{classes[new[0]]}: the class "{new[0]}" is not among the classes of {layout.folders["train"]}{near}; '
            f"--config.data.{part}_split=off trains without this set"
        )


def _no_pictures(where: Path, found: Found) -> str:
    if found.unreadable:
        return f"{where}: no picture in it that can be read here, but {_counted(where, found.unreadable)}"
    return f"{where}: no picture in it ({', '.join(sorted(SUFFIXES))}, or others by content)"


def _check_inside(root: Path, found: Iterable[Found]) -> None:
    """Raises UserError where the folders in class folders are called `train`, `test`, …, so classes are split inside."""
    if inside := sorted(names_of_parts(set[str]().union(*(files.folders for files in found)))):
        state = " ".join(f"'--config.data.{part}_split=*/{name}'" for name, part in names_of_parts(inside).items())
        raise UserError(
            f"{root}: the class folders hold folders {quoted(inside)}: if they are parts, say {state}; "
            "if their pictures belong together, --config.data.train_split=. (or the training set's folder)"
        )


def _passed_over(root: Path, layout: Layout, found: Sequence[Found]) -> list[str]:
    """A line for each kind of file or folder that is not used."""
    others = [path for files in found for path in files.others]
    hidden = [path for files in found for path in files.hidden]
    unreadable: dict[str, list[str]] = {}
    for files in found:
        for kind, paths in files.unreadable.items():
            unreadable.setdefault(kind, []).extend(paths)
    tops = [top for where in layout.folders.values() for top in ([where] if where.is_dir() else visible_folders(root))]
    loose = list(itertools.chain.from_iterable(loose_pictures(top) for top in dict.fromkeys(tops)))
    return [
        f"passed over {what}: {_listed(root, paths)}"
        for what, paths in (
            ("hidden folders in class folders", hidden),
            (f"{counted(len(loose), 'picture')} outside of the class folders", loose),
            (f"{counted(len(others), 'file')} of other kinds", others),
            *(
                (f"{counted(len(paths), 'picture')} of a format that can't be read here ({kind})", paths)
                for kind, paths in unreadable.items()
            ),
        )
        if paths
    ]


def _counted(where: Path, unreadable: Mapping[str, list[str]]) -> str:
    return ", ".join(f"{len(paths):,} of the format {kind} ({_listed(where, paths)})" for kind, paths in unreadable.items())


def _listed(root: Path, paths: Sequence[str], most: int = 3) -> str:
    return ", ".join(os.path.relpath(path, root) for path in paths[:most]) + (", …" if len(paths) > most else "")


def _groups(paths: Sequence[str], pattern: str) -> np.ndarray:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.group: {pattern!r} is not a regular expression: {error}") from error
    matches = [compiled.search(path) for path in paths]
    if missing := [path for path, match in zip(paths, matches, strict=True) if not match]:
        raise UserError(f"data.group: {pattern!r} is not found in {missing[0]!r} and {len(missing) - 1} other paths")
    return np.array([match[match.re.groups and 1] for match in matches if match])
