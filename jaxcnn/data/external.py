"""External data sets: data other than those that a network was trained on, labeled with the network's classes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxcnn.data import formats, table
from jaxcnn.data.class_maps import MapClasses, class_file_of
from jaxcnn.data.class_names import clean
from jaxcnn.data.files import existing
from jaxcnn.data.image_files import search, visible_folders
from jaxcnn.data.layout import part_of
from jaxcnn.data.map_folders import map_folders
from jaxcnn.data.sources import ArraySource, FileSource, Source
from jaxcnn.data.targets import renumbered
from jaxcnn.errors import UserError, did_you_mean, printable

SOURCES = ("folder", "csv", "maps", "arrays")
"""Values of data.name for which `external_split` reads another data set than that of the training."""


def external_split(
    name: str, root: Path, split: str, class_names: Sequence[str], channels: int, several: bool | None
) -> Source:
    """Returns the split "train", "validation" or "test" of the data set at `root`, or all of it if it has no splits.

    `name` is one of SOURCES. The classes may be a subset of `class_names`. Labels are indices into these or, if an image may
    have `several` labels, rows of zeros and ones; with several=None labels are optional.

    Raises:
      UserError: a class is not in `class_names`, labels are missing, or the data set has splits, but not `split`.
    """
    reader = {"folder": _folder, "csv": _table, "maps": _maps, "arrays": _arrays}[name]
    source = reader(existing(root), split, {clean(name): i for i, name in enumerate(class_names)}, channels, several)
    if several is not None and (source.column("label").ndim == 2) != several:
        raise UserError(f"{root}: {'one label' if several else 'several labels'} per image, unlike the network's training data")
    return source


def _folder(root: Path, split: str, number: dict[str, int], channels: int, _: bool | None) -> FileSource:
    folders = visible_folders(root)
    parts = [entry for entry in folders if clean(entry.name) not in number and part_of(entry.name)]
    chosen = [entry for entry in parts if part_of(entry.name) == split]
    if len(chosen) != bool(parts):
        names = ", ".join(entry.name for entry in parts)
        raise UserError(f"{root}: expected one folder for the split {split}, found {len(chosen)} ({names}); see --split")
    classes = visible_folders(chosen[0]) if chosen else folders
    if not classes:
        raise UserError(f"{root}: no class folders, so its images have no labels; predict.py --csv=FILE classifies them")
    paths: list[str] = []
    labels: list[int] = []
    for entry in classes:
        if (name := clean(printable(entry.name))) not in number:
            raise UserError(f'{entry}: the network has no class "{name}"{did_you_mean(name, number)}')
        of_class = search(entry).images
        paths += of_class
        labels += [number[name]] * len(of_class)
    if not paths:
        raise UserError(f"{chosen[0] if chosen else root}: its class folders contain no images")
    return FileSource(np.array(paths), np.array(labels, np.int32), channels=channels)


def _table(path: Path, split: str, number: dict[str, int], channels: int, several: bool | None) -> FileSource:
    rows = table.read_rows(path)
    if {row.part for row in rows} != {"train"}:
        rows = [row for row in rows if row.part == split]
    if not rows:
        raise UserError(f"{path}: no row has the split {split}")
    table.check_repeats(path, rows)
    if rows[0].map:
        classes = class_file_of("", f"the column map of {path}", path.parent)
        return table.map_source(path, rows, _renumbered(classes, number))
    several = bool(several) or any("|" in row.label for row in rows)
    for row in rows:
        if unknown := row.names - set(number):
            near = did_you_mean(min(unknown), number)
            raise UserError(f'{path}, line {row.line}: the network has no class "{min(unknown)}"{near}')
        if not row.names and not several:
            raise UserError(
                f"{path}, line {row.line}: its label is empty; predict.py --csv=FILE classifies images without labels"
            )
    return table.file_source(path, rows, list(number), several, channels)


def _maps(root: Path, split: str, number: dict[str, int], _: int, __: bool | None) -> Source:
    parts = map_folders(root).parts()
    source = parts.get("train" if list(parts) == ["train"] else split)
    if source is None:
        raise UserError(f"{root}: no folders of the split {split}")
    assert isinstance(source, FileSource)
    assert source.map_classes is not None
    return dataclasses.replace(source, map_classes=_renumbered(source.map_classes, number))


def _renumbered(classes: MapClasses, number: Mapping[str, int]) -> MapClasses:
    """Returns the classes of maps with the numbers of the network's classes."""
    if unknown := [name for name in classes.names if name not in number]:
        raise UserError(f'{classes.source}: the network has no class "{unknown[0]}"{did_you_mean(unknown[0], number)}')
    return classes.renumbered([number[name] for name in classes.names])


def _arrays(path: Path, split: str, number: dict[str, int], channels: int, _: bool | None) -> ArraySource:
    parts, class_names = formats.read_arrays(path, complete=False)
    found = parts.get("train" if list(parts) == ["train"] else split)
    if found is None:
        raise UserError(f"{path}: no arrays of the split {split}")
    if (present := found.images.shape[3]) != channels and {present, channels} != {1, 3}:
        raise UserError(f"{path}: its images have {present} channels, but the network expects {channels}")

    def unknown(name: str) -> UserError:
        return UserError(f'{path}: {found.name}: the network has no class "{name}"{did_you_mean(name, number)}')

    targets = renumbered(found.targets, [number.get(name, -1) for name in class_names], lambda k: unknown(class_names[k]))
    labels = None if found.labels is None else _labels(path, found, class_names, number, unknown)
    return ArraySource(found.images, labels, channels, targets)


def _labels(
    path: Path, found: formats.Arrays, class_names: Sequence[str], number: dict[str, int], unknown: Callable[[str], UserError]
) -> np.ndarray:
    """Returns the labels (N,) or (N, K) int32, in the network's classes."""
    assert found.labels is not None
    labels = found.labels.astype(int) if found.labels.dtype.kind == "b" else found.labels
    columns = range(labels.shape[1]) if labels.ndim == 2 else np.unique(labels).tolist()
    numbers = {column: number.get(name, -1) for column, name in ((c, _name(path, c, class_names)) for c in columns)}
    if missing := [c for c in columns if numbers[c] < 0 and (labels.ndim == 1 or labels[:, c].any())]:
        raise unknown(_name(path, missing[0], class_names))
    if labels.ndim == 1:
        return np.array([numbers[label] for label in labels.tolist()], np.int32)
    if not np.isin(labels, (0, 1)).all():
        raise UserError(f"{path}: {found.name}: labels of shape (N, K) must be zeros and ones")
    rows = np.zeros((len(labels), len(number)), np.int32)
    for column in (c for c in columns if numbers[c] >= 0):
        rows[:, numbers[column]] = labels[:, column]
    return rows


def _name(path: Path, label: int | str, class_names: Sequence[str]) -> str:
    """Returns the class name of a label, which is an index into `class_names` or the name itself."""
    if isinstance(label, str) or not class_names:
        return str(label)
    if not 0 <= label < len(class_names):
        raise UserError(f"{path}: the label {label} is not in 0 to {len(class_names) - 1} (class_names has {len(class_names)})")
    return class_names[label]
