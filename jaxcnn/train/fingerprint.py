"""Fingerprints of the examples that a run is trained on. A run is resumed only with the same examples."""

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcnn.data.sources import ArraySource, Dataset, Derived, EncodedSource, FileSource, Source, Subset

_SAMPLED = 256  # number of images in memory whose pixels are hashed, which takes milliseconds


def fingerprint(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Returns {"train": {"examples": N, "sha256": …}, …}: a hash of the content and the order of each split.

    Files are hashed by their paths relative to their common folder, so that it can be moved or copied, and the files of maps by
    their sizes too. Images in memory are hashed by their index and a sample of their pixels. Labels, other targets, and the
    values that denote classes in maps are always hashed.
    """
    stored = {part: _stored(source) for part, source in dataset.parts().items()}
    paths = [
        path
        for source, chosen in stored.values()
        if isinstance(source, FileSource)
        for files in (source.paths, source.map_paths)
        if files is not None
        for path in files[chosen].tolist()
    ]
    prefix = len(_common_folder(paths))
    return {
        part: {"examples": len(dataset.parts()[part]), "sha256": _hash(source, chosen, prefix)}
        for part, (source, chosen) in stored.items()
    }


def data_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns descriptions of the differences between the data of two checkpoints, given their meta."""
    differences = _class_differences(old["class_names"], new["class_names"])
    before, now = old.get("data", {}), new["data"]  # earlier versions stored no fingerprint
    for part in [part for part in ("train", "validation", "test") if before and before.get(part) != now.get(part)]:
        counts = [f"{side[part]['examples']:,}" if part in side else "no" for side in (before, now)]
        differences.append(
            f"{part}: {counts[0]} examples -> {counts[1]}"
            if counts[0] != counts[1]
            else f"{part}: {counts[0]} examples, but different ones, or in a different order"
            + ("" if differences else " or with different labels")
        )
    return differences or _preprocessing_differences(old["preprocessing"], new["preprocessing"])


def _class_differences(old: Sequence[str], new: Sequence[str]) -> list[str]:
    removed, added = [name for name in old if name not in new], [name for name in new if name not in old]
    differences = [f"classes {what}: {_listed(names)}" for what, names in (("removed", removed), ("added", added)) if names]
    if not differences and list(old) != list(new):
        differences.append(f"classes in a different order: {_listed(old)} -> {_listed(new)}")
    return differences


def _preprocessing_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns the differences in sizes, channels and measured statistics, which show that files have other pixels."""
    old, new = (json.loads(json.dumps(values)) for values in (old, new))  # tuples become lists

    def same(a: Any, b: Any) -> bool:
        try:
            return a == b or (np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-6, atol=0))
        except (TypeError, ValueError):  # not numbers
            return False

    settings = ("resize", "fit", "crop_ratio", "interpolation", "window")  # already compared as settings
    common = [name for name in old if name in new and name not in settings]
    different = [name for name in common if not same(old[name], new[name])]
    return [f"{name} of the images: {old[name]} -> {new[name]}" for name in different]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _common_folder(paths: Sequence[str]) -> str:
    """Returns the folder that contains all files, with a trailing separator, or "" if there is none."""
    folders = {os.path.dirname(path) for path in paths}
    try:
        return os.path.join(os.path.commonpath(folders), "")
    except ValueError:  # no paths, or a mix of absolute and relative ones
        return ""


def _stored(source: Source) -> tuple[Source, np.ndarray]:
    """Returns the source from which `source` is derived, and the indices that `source` uses of it."""
    chosen = np.arange(len(source))
    while isinstance(source, Derived):
        chosen = source.indices[chosen] if isinstance(source, Subset) else chosen
        source = source.source
    return source, chosen


def _size(path: str) -> int:
    """Returns the size of a file in bytes; -1 if it does not exist, which is reported when it is read."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _hash(source: Source, chosen: np.ndarray, prefix: int) -> str:
    columns = source.rows(chosen)
    digest = hashlib.sha256()
    if "label" in columns:
        digest.update(np.ascontiguousarray(columns.pop("label"), "<i4").tobytes())
    for name, column in sorted(columns.items()):
        digest.update(f"{name} {column.shape}".encode() + np.ascontiguousarray(column).tobytes())
    if isinstance(source, EncodedSource) and source.map_classes is not None:
        digest.update(repr([sorted(source.map_classes.values.items()), sorted(source.map_classes.colors.items())]).encode())
    if isinstance(source, FileSource):
        digest.update("\0".join(path[prefix:] for path in source.paths[chosen].tolist()).encode("utf-8", "surrogateescape"))
        if source.map_paths is not None:
            paths = [str(path) for path in source.map_paths[chosen]]
            digest.update("\0".join(f"{path[prefix:]} {_size(path)}" for path in paths).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    digest.update(np.ascontiguousarray(chosen, "<i8").tobytes())
    if isinstance(source, ArraySource):
        sampled = chosen[np.linspace(0, len(chosen) - 1, min(_SAMPLED, len(chosen))).astype(int)]
        digest.update(np.ascontiguousarray(source.images[sampled]).tobytes())
    return digest.hexdigest()
