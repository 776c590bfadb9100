"""Checks class maps and boxes in arrays; an error names the example."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxcnn.data.fields import NO_BOX, VOID
from jaxcnn.errors import UserError


def checked_targets(
    path: object, names: Mapping[str, str], found: Mapping[str, np.ndarray], images: np.ndarray, class_names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Returns the columns "map" (N, H, W) uint8, "boxes" (N, M, 4) float32 and "classes" (N, M) int32, those that exist.

    `names` maps each column to the name of its array in `found`, the content of the file `path`. `images` is (N, H, W, C).

    Raises:
      UserError: no class_names; wrong shapes or dtypes; a class outside class_names; a box outside its image or without area.
    """
    names = {kind: name for kind, name in names.items() if kind == "map" or (kind in ("boxes", "classes") and "boxes" in names)}
    if not names:
        return {}
    first = next(iter(names.values()))
    if not class_names:
        raise UserError(f"{path}: {first} needs an array class_names with the names of the classes 0, 1, …")
    targets = {}
    if "map" in names:
        targets["map"] = _map(f"{path}: {names['map']}", found[names["map"]], images.shape[:3], class_names)
    if "boxes" in names:
        if "classes" not in names:
            name = names["boxes"].replace("boxes", "classes")
            raise UserError(f"{path}: no array {name!r} with the class of each box in {names['boxes']}")
        classes = _classes(f"{path}: {names['classes']}", found[names["classes"]], len(images), class_names)
        boxes = _boxes(f"{path}: {names['boxes']}", found[names["boxes"]], classes, images.shape[1:3])
        targets |= {"boxes": boxes, "classes": classes}
    return targets


def _map(where: str, values: np.ndarray, shape: tuple[int, ...], class_names: Sequence[str]) -> np.ndarray:
    if values.dtype != np.uint8 or values.shape != shape:
        raise UserError(f"{where}: expected uint8{shape}, the class of each pixel, got {values.dtype}{values.shape}")
    if len(class_names) > VOID:
        raise UserError(f"{where}: a map can have at most {VOID} classes, but class_names has {len(class_names)}")
    for index, class_map in enumerate(values):
        if (wrong := (class_map >= len(class_names)) & (class_map != VOID)).any():
            raise UserError(
                f"{where}: example {index} has the value {class_map[wrong][0]}; expected 0 to {len(class_names) - 1}, "
                f"an index into class_names, or {VOID} for no class"
            )
    return values


def _classes(where: str, values: np.ndarray, examples: int, class_names: Sequence[str]) -> np.ndarray:
    if values.dtype.kind not in "iu" or values.ndim != 2 or len(values) != examples:
        raise UserError(f"{where}: expected integers of shape ({examples}, M), got {values.dtype}{values.shape}")
    if (wrong := (values < NO_BOX) | (values >= len(class_names))).any():
        index, row = np.argwhere(wrong)[0]
        raise UserError(
            f"{where}: box {row} of example {index} has the class {values[index, row]}; expected 0 to {len(class_names) - 1}, "
            f"an index into class_names, or {NO_BOX} for no box"
        )
    return values.astype(np.int32)


def _boxes(where: str, values: np.ndarray, classes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Returns the boxes (N, M, 4) float32, with zeros for missing boxes."""
    if values.dtype.kind not in "iuf" or values.shape != (*classes.shape, 4):
        raise UserError(f"{where}: expected numbers of shape {(*classes.shape, 4)}, got {values.dtype}{values.shape}")
    boxes, present = values.astype(np.float32), classes != NO_BOX
    height, width = size
    x0, y0, x1, y1 = (boxes[..., i] for i in range(4))
    inside = (x0 >= 0) & (y0 >= 0) & (x1 <= width) & (y1 <= height)
    for wrong, problem in (
        (~np.isfinite(boxes).all(axis=2), "coordinates that are not finite"),
        ((x1 <= x0) | (y1 <= y0), "no area; expected x0, y0, x1, y1 with x0 < x1 and y0 < y1"),
        (~inside, f"edges outside its image, which is {width} pixels wide and {height} high"),
    ):
        if (wrong := wrong & present).any():
            index, row = np.argwhere(wrong)[0]
            raise UserError(f"{where}: box {row} of example {index}, {boxes[index, row].tolist()}, has {problem}")
    return np.where(present[..., None], boxes, np.float32(0))


def renumbered(
    targets: Mapping[str, np.ndarray], numbers: Sequence[int], unknown: Callable[[int], UserError]
) -> dict[str, np.ndarray]:
    """Returns `targets` with class i replaced by `numbers[i]`; raises `unknown(i)` if that is negative and class i occurs."""
    known = np.array(numbers, np.int32)
    changed = dict(targets)
    for name, empty in (("map", VOID), ("classes", NO_BOX)):
        if name not in targets:
            continue
        used = [k for k, number in enumerate(numbers) if number < 0 and (targets[name] == k).any()]
        if used:
            raise unknown(used[0])
        table = np.full(256, empty, np.int32)  # indexed by a map's values; NO_BOX, -1, is its last entry
        table[: len(known)] = np.where(known < 0, empty, known)
        changed[name] = table[targets[name]].astype(targets[name].dtype)
    return changed
