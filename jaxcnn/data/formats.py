"""Data sets that are read completely into memory: scikit-learn's digits, MNIST, CIFAR, and .npz files."""

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxcnn.data import files
from jaxcnn.data.class_names import clean, in_order
from jaxcnn.data.sources import PARTS, ArraySource, Dataset, Subset
from jaxcnn.data.splits import cut
from jaxcnn.data.targets import checked_targets
from jaxcnn.errors import UserError, did_you_mean


def digits(_: Path) -> Dataset:
    """Reads scikit-learn's digits: 1,797 scans of 8×8 pixels (UCI, Alpaydin and Kaynak 1998).

    The data set has no splits. 360 images are used for testing, independent of the run's seed.
    """
    # Only the file is read, because importing scikit-learn takes 1.5 seconds.
    package = Path(importlib.util.find_spec("sklearn").origin).parent  # type: ignore[union-attr, arg-type]
    table = np.loadtxt(package / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)[..., None]  # stored as 0…16
    labels = table[:, -1].astype(np.int32)
    everything = ArraySource(images, labels)
    train, test = cut(labels, 360 / len(images), seed=0)
    return Dataset(Subset(everything, train), None, Subset(everything, test), tuple("0123456789"))


def mnist(root: Path, class_names: Sequence[str] = tuple("0123456789")) -> Dataset:
    """Reads the four idx files of MNIST, or of a data set in its format, in the folder `root`."""

    def part(prefix: str) -> ArraySource:
        images = files.read_idx(root / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)[..., None]
        labels = files.read_idx(root / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1).astype(np.int32)
        if len(images) != len(labels):
            raise UserError(f"{root}: {prefix} has {len(images):,} images, but {len(labels):,} labels")
        return ArraySource(images, labels)

    return Dataset(part("train"), None, part("t10k"), tuple(class_names))


def fashion_mnist(root: Path) -> Dataset:
    """Reads Fashion-MNIST, which has the format of MNIST (Xiao, Rasul, Vollgraf 2017)."""
    return mnist(root, files.third_party_lines("fashion_mnist/class_names.txt"))


def cifar10(root: Path) -> Dataset:
    """Reads CIFAR-10. `root` is cifar-10-batches-bin, or the folder that contains it."""
    root = _inner(root, "cifar-10-batches-bin")
    train = _cifar([root / f"data_batch_{i}.bin" for i in range(1, 6)], label_bytes=1)
    test = _cifar([root / "test_batch.bin"], label_bytes=1)
    return Dataset(train, None, test, tuple(files.read_lines(root / "batches.meta.txt")))


def cifar100(root: Path) -> Dataset:
    """Reads CIFAR-100, with the 100 fine labels. `root` is cifar-100-binary, or the folder that contains it."""
    root = _inner(root, "cifar-100-binary")
    train, test = (_cifar([root / f"{part}.bin"], label_bytes=2) for part in ("train", "test"))
    return Dataset(train, None, test, tuple(files.read_lines(root / "fine_label_names.txt")))


def _inner(root: Path, folder: str) -> Path:
    return root / folder if os.path.isdir(root / folder) else files.existing(root)


def _cifar(paths: Sequence[Path], label_bytes: int) -> ArraySource:
    images, labels = files.read_cifar(paths, label_bytes)
    return ArraySource(images, labels[:, -1].astype(np.int32))


def arrays(path: Path) -> Dataset:
    """Reads an .npz with {train,test}_images, {train,test}_labels, and optionally val_images, val_labels, class_names.

    Keras's names are accepted too: x_train, y_train, x_test, y_test; and images and labels (or x and y) without a test set.
    Images are uint8, (N, H, W) or (N, H, W, C). Labels are (N,) or (N, 1), class names or indices from 0, or (N, K) zeros and
    ones. `class_names` are the names of the classes 0, 1, …; without them the indices are the names.

    In addition to labels, or instead of them: {train,test}_map (N, H, W) uint8, the class of each pixel or 255;
    {train,test}_boxes (N, M, 4), x0, y0, x1, y1 in pixels, with {train,test}_classes (N, M), -1 for no box.

    Raises:
      UserError: an array is missing or has a wrong shape, dtype or value.
    """
    parts, class_names = read_arrays(path)
    classes: Sequence[str] = class_names
    locations = {part: f"{path}: {found.name}" for part, found in parts.items()}
    labels = {part: found.labels for part, found in parts.items() if found.labels is not None}
    numbers: Mapping[str, np.ndarray] = {}
    if labels:
        several = labels["train"].ndim == 2
        classes, numbers = (_several if several else _classes)(locations, labels, classes)
    sources = {
        part: ArraySource(found.images, numbers[part].astype(np.int32) if labels else None, targets=found.targets)
        for part, found in parts.items()
    }
    return Dataset(sources["train"], sources.get("validation"), sources.get("test"), tuple(classes))


class Arrays(NamedTuple):
    """Images (N, H, W, C) uint8; labels (N,) integers or names, (N, K) integers, or None; maps and boxes.

    `name` is the name of the array of labels, or of images if there are no labels. `targets` are as in ArraySource.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    targets: dict[str, np.ndarray]


def read_arrays(path: Path, *, complete: bool = True) -> tuple[dict[str, Arrays], list[str]]:
    """Returns the splits {"train": …, "test": …} of an .npz, both required if `complete`, and its class_names or []."""
    found = files.read_npz(path)
    all_names = _array_names(path, found, complete)
    class_names = _texts(path, "class_names", found["class_names"]) if "class_names" in found else []
    parts = {}
    for part, names in all_names.items():
        images = _images(path, names["images"], found)
        labels = _labels(path, names["labels"], found, len(images)) if "labels" in names else None
        targets = checked_targets(path, names, found, images, class_names)
        parts[part] = Arrays(names.get("labels", names["images"]), images, labels, targets)
    _check_alike(path, parts)
    if len(set(class_names)) < len(class_names):
        raise UserError(f"{path}: class_names contains a name twice: {', '.join(map(repr, class_names[:10]))}")
    return parts, class_names


def _check_alike(path: Path, parts: Mapping[str, Arrays]) -> None:
    """Raises UserError if the splits have different fields, or fields of different shapes."""
    fields = {part: [*(["labels"] if of.labels is not None else []), *of.targets] for part, of in parts.items()}
    for part, names in fields.items():
        for other, others in fields.items():
            if missing := [name for name in others if name not in names]:
                raise UserError(f"{path}: the split {other!r} has {missing[0]}, but the split {part!r} does not")
    shapes = {part: (of.images.shape[1:], *_shape_and_kind(of.labels)) for part, of in parts.items()}
    if len(set(shapes.values())) > 1:
        shapes_text = ", ".join(
            f"{of.images.shape}" + ("" if of.labels is None else f" with {of.labels.dtype}{of.labels.shape}")
            for of in parts.values()
        )
        raise UserError(f"{path}: the splits differ in the shape or dtype of images or labels: {shapes_text}")


def _shape_and_kind(labels: np.ndarray | None) -> tuple:
    """Returns the shape of one example's label, and whether it is a name."""
    return () if labels is None else (labels.shape[1:], labels.dtype.kind == "U")


_ARRAY = re.compile("(?:([a-z]+)_)?(images|labels|x|y|map|boxes|classes)(?:_([a-z]+))?", re.IGNORECASE)
_KIND = {"x": "images", "y": "labels"}
_PARTNER = {"images": "labels", "x": "y", "y": "x"}


def _array_names(path: Path, found: Mapping[str, np.ndarray], complete: bool) -> dict[str, dict[str, str]]:
    """Returns {"train": {"images": name of the array, "labels": …, "map": …}, …} for each split in the file."""
    names: dict[str, dict[str, str]] = {}
    expected = {"train": "train_images", "test": "test_images"} if complete else {}
    for match in filter(None, map(_ARRAY.fullmatch, found)):
        part = (match[1] or match[3] or "train").lower()
        part, kind = PARTS.get(part, part), _KIND.get(match[2].lower(), match[2].lower())
        other = names.setdefault(part, {}).setdefault(kind, match[0])
        if other != match[0]:
            raise UserError(f"{path}: {other!r} and {match[0]!r} are two arrays for the {kind} of the split {part}; keep one")
        partner = _PARTNER.get(match[2].lower(), "images")
        partner = partner.upper() if match[2].isupper() else partner
        if kind in ("images", "labels") or "images" not in names[part]:
            expected[part] = match[0][: match.start(2)] + partner + match[0][match.end(2) :]
    if names.get("train", {}).get("images", "").lower() in ("images", "x") and "test" not in names:
        expected.pop("test", None)
    for part, partner in expected.items():
        paired = "images" in (kinds := names.get(part, {})) and not kinds.keys().isdisjoint(("labels", "map", "boxes"))
        if part not in PARTS.values():
            names.pop(part)
            if paired:
                raise UserError(f"{path}: expected the split train, val or test, got {part!r}{did_you_mean(part, PARTS)}")
        elif not paired:
            available = ", ".join(found) or "no arrays"
            raise UserError(f"{path}: no array {partner!r}{did_you_mean(partner, found)}; the file contains {available}")
    return names


def _images(path: Path, name: str, found: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the images as (N, H, W, C) uint8."""
    images = found[name]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
        raise UserError(f"{path}: {name}: expected uint8 (N, H, W[, C]), got {images.dtype}{images.shape}{_as_uint8(images)}")
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise UserError(
            f"{path}: {name}: expected (N, H, W, C), got {images.shape}, which looks like (N, C, H, W); convert it with "
            "images.transpose(0, 2, 3, 1)"
        )
    return images if images.ndim == 4 else images[..., None]


def _as_uint8(images: np.ndarray) -> str:
    """Returns the end of an error message: how images of another dtype are converted to uint8."""
    if images.dtype.kind not in "iuf" or not images.size or not (images.min() >= 0 and images.max() <= 255):
        return ""
    scaled = "(255 * images)" if images.max() <= 1 else "images"
    return f"; convert them with {scaled}.round().astype('uint8')"


def _labels(path: Path, name: str, found: Mapping[str, np.ndarray], examples: int) -> np.ndarray:
    """Returns the labels as integers or names (N,), or integers (N, K)."""
    labels = found[name]
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim not in (1, 2) or len(labels) != examples or not (
        flat.dtype.kind in "iub" or (flat.dtype.kind in "US" and flat.ndim == 1)
    ):  # fmt: skip
        fix = "; convert one-hot rows with labels.argmax(axis=1)" if flat.ndim == 2 else ""
        if flat.ndim == 1 and flat.dtype.kind == "f" and (flat == np.trunc(flat)).all():
            fix = "; convert them with labels.astype(int)"
        raise UserError(
            f"{path}: {name}: expected integers or names of shape ({examples},), got {labels.dtype}{labels.shape}{fix}"
        )
    return np.array(_texts(path, name, flat)) if flat.dtype.kind in "US" else flat


def _texts(path: Path, name: str, values: np.ndarray) -> list[str]:
    """Returns the names in an array (N,) of str, bytes or integers, normalized by class_names.clean."""
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise UserError(f"{path}: {name}: expected names of shape (K,), got {values.dtype}{values.shape}")
    try:
        texts = [clean(value.decode() if isinstance(value, bytes) else str(value)) for value in values.tolist()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {name} contains bytes that are not UTF-8 ({error})") from error
    if "" in texts:
        raise UserError(f"{path}: {name} has an empty name at index {texts.index('')}")
    return texts


def _several(
    locations: Mapping[str, str], labels: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> tuple[Sequence[str], Mapping[str, np.ndarray]]:
    """Returns the names of the columns, and `labels` unchanged."""
    if all(((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all() for rows in labels.values()):
        raise UserError(
            f"{locations['train']}: every row has exactly one 1; convert one-hot rows to classes with labels.argmax(axis=1)"
        )
    trained = labels["train"].any(axis=0)
    for part, rows in labels.items():
        if (unknown := rows.any(axis=0) & ~trained).any():
            column = int(unknown.argmax())
            raise UserError(f"{locations[part]}: column {column} (from 0) has ones, but not in the training set")
    return class_names or [str(column) for column in range(labels["train"].shape[1])], labels


def _classes(
    locations: Mapping[str, str], labels: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> tuple[Sequence[str], Mapping[str, np.ndarray]]:
    """Returns the class names, and the class index of each example."""
    trained = np.unique(labels["train"])
    if len(trained) < 2:
        raise UserError(
            f"{locations['train']}: all training examples have the label {trained[0]}; at least two classes are needed"
        )
    for part, of_part in labels.items():
        if (unknown := ~np.isin(of_part, trained)).any():
            index = int(unknown.argmax())
            raise UserError(f"{locations[part]}: example {index} has the label {of_part[index]}, which no training example has")
    if trained.dtype.kind == "U":
        classes = class_names or in_order(trained.tolist())
        if missing := set(trained.tolist()) - set(classes):
            near = did_you_mean(min(missing), classes)
            raise UserError(f"{locations['train']}: class_names has no {min(missing)!r}{near}")
        number = {name: i for i, name in enumerate(classes)}
        return classes, {part: np.array([number[name] for name in of_part.tolist()]) for part, of_part in labels.items()}
    if not class_names and (trained != np.arange(len(trained))).any():
        some = ", ".join(map(str, trained[:10])) + ", …" * (len(trained) > 10)
        raise UserError(
            f"{locations['train']}: expected the classes 0 to {len(trained) - 1}, got {some}; use class names "
            "instead (labels.astype(str)), or add an array class_names with the names of the classes 0, 1, …"
        )
    return class_names or [str(label) for label in range(len(trained))], labels
