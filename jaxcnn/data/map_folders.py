"""Data sets of images in folders, with their class maps in other folders."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from jaxcnn.data.class_maps import MapClasses, class_file_of
from jaxcnn.data.files import existing
from jaxcnn.data.folder import groups_of_paths
from jaxcnn.data.image_files import search, visible_folders
from jaxcnn.data.layout import counted, denotes_maps, part_of, quoted, words_of
from jaxcnn.data.sources import Dataset, FileSource
from jaxcnn.errors import UserError

_IMAGES = re.compile("(images?|imgs?|photos?|pictures?|frames?|inputs?|rgb)", re.IGNORECASE)
_TABLE = "data.name=csv reads a table with the columns path, map and split, which names any files"


def map_folders(root: Path, classes: str = "", *, group: str = "") -> Dataset:
    """Reads images and their class maps from two folders, or from two per split.

    The folders are found by their names: `images` and `masks`; `train` and `train_labels`; `images/train` and `masks/train`;
    `train/images` and `train/masks`. A map has the path of its image within the folder, with any suffix of an image format, or
    all maps have the same ending in addition: a.jpg and a_mask.png. `classes` is the class file, see `class_file_of`.
    `group` is a regular expression over the paths of images, as in `jaxcnn.data.folder`.

    Raises:
      UserError: the folders or the class file cannot be found, or an image has no map.
    """
    if not existing(root).is_dir():
        raise UserError(f'data.root: "{root}" is a file; data.name=maps expects a folder with images and maps')
    map_classes = class_file_of(classes, f"data.name=maps, {root},", root)
    folders = _folders(root)
    notes = [
        "images and maps by folder names: "
        + ", ".join(
            f'{part or "all"} = "{os.path.relpath(images, root)}" and "{os.path.relpath(maps, root)}"'
            for part, (images, maps) in folders.items()
        )
    ]
    sources = {part or "train": _source(images, maps, map_classes, notes) for part, (images, maps) in folders.items()}
    train = sources["train"]
    groups = groups_of_paths([os.path.relpath(path, root) for path in train.paths], group) if group else None
    names, colors = map_classes.names, map_classes.class_colors
    return Dataset(train, sources.get("validation"), sources.get("test"), names, groups, tuple(notes), colors)


def _folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """Returns {split: (folder of images, folder of maps)}, with the key "" instead of splits if there are none."""
    found: dict[str, dict[str, list[Path]]] = {}
    for part, kind, folder in _candidates(root):
        found.setdefault(part, {"images": [], "maps": []})[kind].append(folder)
    if not any(kinds["maps"] for kinds in found.values()):
        inside = quoted(visible_folders(root)) or "no folders"
        raise UserError(f'{root}: no folder of maps, such as "masks" next to "images"; it contains {inside}; {_TABLE}')
    for part, kinds in found.items():
        for kind, folders in kinds.items():
            if len(folders) != 1:
                of_split = f" for the split {part}" if part else ""
                listed = f" ({quoted(os.path.relpath(folder, root) for folder in folders)})" if folders else ""
                raise UserError(f"{root}: expected one folder of {kind}{of_split}, found {len(folders)}{listed}; {_TABLE}")
    if ("" in found and len(found) > 1) or found.keys().isdisjoint(("", "train")):
        parts = ", ".join(part or "no split" for part in found)
        raise UserError(f"{root}: expected folders of the training set, got folders of: {parts}; {_TABLE}")
    in_order = [split for split in ("", "train", "validation", "test") if split in found]
    return {split: (found[split]["images"][0], found[split]["maps"][0]) for split in in_order}


def _candidates(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Yields (split or "", "images" or "maps", folder) for each folder whose name states one of them."""
    for folder in visible_folders(root):
        part, kind = _meaning(folder.name)
        inner = [(*_meaning(entry.name), entry) for entry in visible_folders(folder)]
        if part and not kind and any(inner_kind == "maps" for _, inner_kind, _ in inner):
            yield from ((part, inner_kind, entry) for _, inner_kind, entry in inner if inner_kind)
        elif kind and not part and any(inner_part for inner_part, _, _ in inner):
            yield from ((inner_part, kind, entry) for inner_part, _, entry in inner if inner_part)
        elif part or kind:
            yield part, kind or "images", folder


def _meaning(name: str) -> tuple[str, str]:
    """Returns the split and the kind, "images" or "maps", that a folder's name denotes; "" for none."""
    words = words_of(name)
    kind = "maps" if denotes_maps(name) else "images" if any(map(_IMAGES.fullmatch, words)) else ""
    return part_of(" ".join(word for word in words if not denotes_maps(word))), kind


def _source(images: Path, maps: Path, classes: MapClasses, notes: list[str]) -> FileSource:
    image_of, map_of = _by_stem(images), _by_stem(maps)
    ending = _ending(image_of, map_of)
    for stem, path in image_of.items():
        if stem + ending not in map_of:
            raise UserError(f"{path}: no map; expected {maps / (stem + ending)}.png, as for other images")
    if unused := map_of.keys() - {stem + ending for stem in image_of}:
        notes.append(f"ignored {counted(len(unused), 'map')} without an image in {maps}: {quoted(sorted(unused))}")
    paths, map_paths = (np.array(files) for files in (list(image_of.values()), [map_of[stem + ending] for stem in image_of]))
    return FileSource(paths, None, map_paths, map_classes=classes)


def _by_stem(folder: Path) -> dict[str, str]:
    """Returns {path relative to `folder`, without suffix: path} of the images in a folder."""
    found: dict[str, str] = {}
    for path in search(folder).images:
        stem = os.path.splitext(os.path.relpath(path, folder))[0]
        if stem in found:
            raise UserError(f"{path}: another file has the same name apart from its suffix, {os.path.basename(found[stem])}")
        found[stem] = path
    if not found:
        raise UserError(f"{folder}: contains no images")
    return found


def _ending(image_of: Mapping[str, str], map_of: Mapping[str, str]) -> str:
    """Returns the ending that all maps' names have and their images' names lack, such as "_mask".

    Raises:
      UserError: several endings are possible.
    """
    if image_of.keys() <= map_of.keys():
        return ""
    first = next(iter(image_of))
    endings = [stem.removeprefix(first) for stem in map_of if stem.startswith(first)]
    complete = [ending for ending in endings if all(stem + ending in map_of for stem in image_of)]
    if len(complete) > 1:
        raise UserError(f"{image_of[first]}: has several maps, with the endings {quoted(sorted(complete))}; {_TABLE}")
    return complete[0] if complete else min(endings, key=len, default="")
