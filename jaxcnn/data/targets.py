"""Maps of classes and boxes from arrays, checked: what is wrong is said in one line, with the example."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxcnn.data.fields import NO_BOX, VOID
from jaxcnn.errors import UserError


def checked_targets(
    path: object, names: Mapping[str, str], found: Mapping[str, np.ndarray], images: np.ndarray, class_names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The columns "map" (N, H, W) uint8, "boxes" (N, M, 4) float32 and "classes" (N, M) int32, those that there are.

    `names` are the names of their arrays in `found`, a file at `path`; they are for `images` (N, H, W, C).

    Raises:
      UserError: no class_names; wrong shapes or dtypes; a class outside class_names; a box outside its image or without area.
    """
    names = {kind: name for kind, name in names.items() if kind == "map" or (kind in ("boxes", "classes") and "boxes" in names)}
    if not names:
        return {}
    first = next(iter(names.values()))
    if not class_names:
        raise UserError(f"{path}: {first} needs an array class_names: the names of the classes 0, 1, and so on")
    targets = {}
    if "map" in names:
        targets["map"] = _map(f"{path}: {names['map']}", found[names["map"]], images.shape[:3], class_names)
    if "boxes" in names:
        if "classes" not in names:
            name = names["boxes"].replace("boxes", "classes")
            raise UserError(f"{path}: no array {name!r}, the class of each box in {names['boxes']}")
        classes = _classes(f"{path}: {names['classes']}", found[names["classes"]], len(images), class_names)
        boxes = _boxes(f"{path}: {names['boxes']}", found[names["boxes"]], classes, images.shape[1:3])
        targets |= {"boxes": boxes, "classes": classes}
    return targets


def _map(where: str, values: np.ndarray, shape: tuple[int, ...], class_names: Sequence[str]) -> np.ndarray:
    if values.dtype != np.uint8 or values.shape != shape:
        raise UserError(f"{where} is {values.dtype}{values.shape}, but uint8{shape} was expected: the class of each pixel")
    if len(class_names) > VOID:
        raise UserError(f"{where}: a map has room for {VOID} classes, but there are {len(class_names)} class_names")
    for index, one in enumerate(values):
        if (wrong := (one >= len(class_names)) & (one != VOID)).any():
            raise UserError(
                f"{where}: example {index} has the value {one[wrong][0]}, outside 0 to {len(class_names) - 1}, for "
                f"{len(class_names)} class_names, and {VOID}, for no class"
            )
    return values


def _classes(where: str, values: np.ndarray, examples: int, class_names: Sequence[str]) -> np.ndarray:
    if values.dtype.kind not in "iu" or values.ndim != 2 or len(values) != examples:
        raise UserError(f"{where} is {values.dtype}{values.shape}, but whole numbers ({examples}, M) were expected")
    if (wrong := (values < NO_BOX) | (values >= len(class_names))).any():
        index, row = np.argwhere(wrong)[0]
        raise UserError(
            f"{where}: box {row} of example {index} has the class {values[index, row]}, outside 0 to {len(class_names) - 1}, "
            f"for {len(class_names)} class_names, and {NO_BOX}, for no box"
        )
    return values.astype(np.int32)


def _boxes(where: str, values: np.ndarray, classes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(N, M, 4) float32; zeros where there is no box."""
    if values.dtype.kind not in "iuf" or values.shape != (*classes.shape, 4):
        raise UserError(f"{where} is {values.dtype}{values.shape}, but numbers {(*classes.shape, 4)} were expected")
    boxes, there = values.astype(np.float32), classes != NO_BOX
    height, width = size
    x0, y0, x1, y1 = (boxes[..., i] for i in range(4))
    inside = (x0 >= 0) & (y0 >= 0) & (x1 <= width) & (y1 <= height)
    for wrong, what in (
        (~np.isfinite(boxes).all(axis=2), "numbers that are not finite"),
        ((x1 <= x0) | (y1 <= y0), "no area; x0, y0, x1, y1 with x0 < x1 and y0 < y1 are meant"),
        (~inside, f"edges outside of its image, {width} pixels wide and {height} high"),
    ):
        if (wrong := wrong & there).any():
            index, row = np.argwhere(wrong)[0]
            raise UserError(f"{where}: box {row} of example {index}, {boxes[index, row].tolist()}, has {what}")
    return np.where(there[..., None], boxes, np.float32(0))


def renumbered(
    targets: Mapping[str, np.ndarray], numbers: Sequence[int], unknown: Callable[[int], UserError]
) -> dict[str, np.ndarray]:
    """`targets` with class `i` as `numbers[i]`; where that is below 0 and the class occurs, `unknown(i)` is raised."""
    known = np.array(numbers, np.int32)
    changed = dict(targets)
    for name, empty in (("map", VOID), ("classes", NO_BOX)):
        if name not in targets:
            continue
        used = [k for k, number in enumerate(numbers) if number < 0 and (targets[name] == k).any()]
        if used:
            raise unknown(used[0])
        table = np.full(256, empty, np.int32)  # of a map's values; -1 is its last
        table[: len(known)] = np.where(known < 0, empty, known)
        changed[name] = table[targets[name]].astype(targets[name].dtype)
    return changed
