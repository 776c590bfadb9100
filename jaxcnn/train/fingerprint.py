"""Which examples a run was trained on, in a few bytes: a run goes on only with the same ones."""

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcnn.data.sources import ArraySource, Dataset, Derived, FileSource, Source, Subset

_SAMPLED = 256  # images in memory whose pixels are looked at: milliseconds


def fingerprint(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """{"train": {"examples": N, "sha256": …}, …}, a hash of what each part has and in which order.

    Files count by their paths below the folder that holds all of them, so that it may be moved or copied; what lies in
    memory by its place there and by some of its pixels; and all by their labels and other targets.
    """
    found = {part: _stored(source) for part, source in dataset.parts().items()}
    paths = [
        path for source, chosen in found.values() if isinstance(source, FileSource) for path in source.paths[chosen].tolist()
    ]
    above = len(_common_folder(paths))
    return {
        part: {"examples": len(dataset.parts()[part]), "sha256": _hash(source, chosen, above)}
        for part, (source, chosen) in found.items()
    }


def data_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between the data that two checkpoints' metas tell of, in words."""
    differences = _class_differences(old["class_names"], new["class_names"])
    before, now = old.get("data", {}), new["data"]  # checkpoints of earlier versions have none
    for part in [part for part in ("train", "validation", "test") if before and before.get(part) != now.get(part)]:
        counts = [f"{side[part]['examples']:,}" if part in side else "no" for side in (before, now)]
        differences.append(
            f"{part}: {counts[0]} examples -> {counts[1]}"
            if counts[0] != counts[1]
            else f"{part}: {counts[0]} examples, but other ones, or in another order"
            + ("" if differences else " or with other labels")
        )
    return differences or _preprocessing_differences(old["preprocessing"], new["preprocessing"])


def _class_differences(old: Sequence[str], new: Sequence[str]) -> list[str]:
    gone, added = [name for name in old if name not in new], [name for name in new if name not in old]
    differences = [f"classes {what}: {_listed(names)}" for what, names in (("gone", gone), ("added", added)) if names]
    if not differences and list(old) != list(new):
        differences.append(f"classes in another order: {_listed(old)} -> {_listed(new)}")
    return differences


def _preprocessing_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Sizes, channels, and what was measured: the same files with other pixels."""
    old, new = (json.loads(json.dumps(values)) for values in (old, new))  # tuples become lists

    def same(one: Any, other: Any) -> bool:
        try:
            return one == other or (np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=1e-6, atol=0))
        except (TypeError, ValueError):  # they are no numbers
            return False

    settings = ("resize", "fit", "crop_ratio", "interpolation", "window")  # compared with the other settings, not here
    both = [name for name in old if name in new and name not in settings]
    different = [name for name in both if not same(old[name], new[name])]
    return [f"{name} of the images: {old[name]} -> {new[name]}" for name in different]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _common_folder(paths: Sequence[str]) -> str:
    """The folder that holds all, with its separator; "" where there is none."""
    folders = {os.path.dirname(path) for path in paths}
    try:
        return os.path.join(os.path.commonpath(folders), "")
    except ValueError:  # no path, or absolute and relative ones
        return ""


def _stored(source: Source) -> tuple[Source, np.ndarray]:
    """The source that has the images of `source` as they are stored, and which of them those are."""
    chosen = np.arange(len(source))
    while isinstance(source, Derived):
        chosen = source.indices[chosen] if isinstance(source, Subset) else chosen
        source = source.source
    return source, chosen


def _hash(source: Source, chosen: np.ndarray, above: int) -> str:
    columns = source.rows(chosen)
    digest = hashlib.sha256()
    if "label" in columns:
        digest.update(np.ascontiguousarray(columns.pop("label"), "<i4").tobytes())
    for name, column in sorted(columns.items()):
        digest.update(f"{name} {column.shape}".encode() + np.ascontiguousarray(column).tobytes())
    if isinstance(source, FileSource):
        digest.update("\0".join(path[above:] for path in source.paths[chosen].tolist()).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    digest.update(np.ascontiguousarray(chosen, "<i8").tobytes())
    if isinstance(source, ArraySource):
        some = chosen[np.linspace(0, len(chosen) - 1, min(_SAMPLED, len(chosen))).astype(int)]
        digest.update(np.ascontiguousarray(source.images[some]).tobytes())
    return digest.hexdigest()
