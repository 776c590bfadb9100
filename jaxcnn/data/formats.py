"""Data sets that are read into memory whole: scikit-learn's digits, MNIST, CIFAR, and anybody's arrays."""

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
    """scikit-learn's digits: 1,797 scans of 8×8 pixels (UCI, Alpaydin and Kaynak 1998).

    It has no split of its own: 360 are set aside for testing, the same ones whatever the run's seed.
    """
    # Its file alone: to import scikit-learn takes 1.5 seconds.
    package = Path(importlib.util.find_spec("sklearn").origin).parent  # type: ignore[union-attr, arg-type]
    table = np.loadtxt(package / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)[..., None]  # stored as 0…16
    labels = table[:, -1].astype(np.int32)
    everything = ArraySource(images, labels)
    train, test = cut(labels, 360 / len(images), seed=0)
    return Dataset(Subset(everything, train), None, Subset(everything, test), tuple("0123456789"))


def mnist(root: Path, class_names: Sequence[str] = tuple("0123456789")) -> Dataset:
    """The four idx files of MNIST, or of a set in its format, in the folder `root`."""

    def part(prefix: str) -> ArraySource:
        images = files.read_idx(root / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)[..., None]
        labels = files.read_idx(root / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1).astype(np.int32)
        if len(images) != len(labels):
            raise UserError(f"{root}: {prefix} has {len(images):,} images, but {len(labels):,} labels")
        return ArraySource(images, labels)

    return Dataset(part("train"), None, part("t10k"), tuple(class_names))


def fashion_mnist(root: Path) -> Dataset:
    """As MNIST, with clothes (Xiao, Rasul, Vollgraf 2017)."""
    return mnist(root, files.third_party_lines("fashion_mnist/class_names.txt"))


def cifar10(root: Path) -> Dataset:
    """`root` is cifar-10-batches-bin, or the folder that holds it."""
    root = _inner(root, "cifar-10-batches-bin")
    train = _cifar([root / f"data_batch_{i}.bin" for i in range(1, 6)], label_bytes=1)
    test = _cifar([root / "test_batch.bin"], label_bytes=1)
    return Dataset(train, None, test, tuple(files.read_lines(root / "batches.meta.txt")))


def cifar100(root: Path) -> Dataset:
    """`root` is cifar-100-binary, or the folder that holds it. The 100 fine labels are the classes."""
    root = _inner(root, "cifar-100-binary")
    train, test = (_cifar([root / f"{part}.bin"], label_bytes=2) for part in ("train", "test"))
    return Dataset(train, None, test, tuple(files.read_lines(root / "fine_label_names.txt")))


def _inner(root: Path, folder: str) -> Path:
    return root / folder if os.path.isdir(root / folder) else files.existing(root)


def _cifar(paths: Sequence[Path], label_bytes: int) -> ArraySource:
    images, labels = files.read_cifar(paths, label_bytes)
    return ArraySource(images, labels[:, -1].astype(np.int32))


def arrays(path: Path) -> Dataset:
    """An .npz with {train,test}_images, {train,test}_labels, and perhaps val_images, val_labels, class_names.

    Keras's names are taken too: x_train, y_train, x_test, y_test; and images and labels (or x and y) alone, without a test set.
    Images are uint8, (N, H, W) or (N, H, W, C). Labels are (N,) or (N, 1), the names of classes or their numbers from 0, or
    (N, K) zeros and ones. `class_names` name the classes 0, 1, …; without them the numbers are the names.

    Beside labels or instead of them: {train,test}_map (N, H, W) uint8, the class of each pixel or 255; {train,test}_boxes
    (N, M, 4), x0, y0, x1, y1 in pixels, with {train,test}_classes (N, M), -1 where there is no box.
    """
    parts, class_names = read_arrays(path)
    classes: Sequence[str] = class_names
    where = {part: f"{path}: {found.name}" for part, found in parts.items()}
    labels = {part: found.labels for part, found in parts.items() if found.labels is not None}
    numbers: Mapping[str, np.ndarray] = {}
    if labels:
        several = labels["train"].ndim == 2
        classes, numbers = _several(where, labels, classes) if several else _classes(where, labels, classes)
    sources = {
        part: ArraySource(found.images, numbers[part].astype(np.int32) if labels else None, targets=found.targets)
        for part, found in parts.items()
    }
    return Dataset(sources["train"], sources.get("validation"), sources.get("test"), tuple(classes))


class Arrays(NamedTuple):
    """Images (N, H, W, C) uint8; labels, (N,) whole numbers or names, (N, K) whole numbers, or None; maps and boxes.

    `name` is the name of the labels' array, or without labels of the images' array; `targets` are an ArraySource's.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    targets: dict[str, np.ndarray]


def read_arrays(path: Path, *, complete: bool = True) -> tuple[dict[str, Arrays], list[str]]:
    """{"train": …, "test": …} of an .npz and its class_names, or []; `complete`: both have to be there."""
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
        raise UserError(f"{path}: class_names has a name twice: {', '.join(map(repr, class_names[:10]))}")
    return parts, class_names


def _check_alike(path: Path, parts: Mapping[str, Arrays]) -> None:
    """Raises UserError where a part has a field that another one lacks, or of another shape."""
    fields = {part: [*(["labels"] if of.labels is not None else []), *of.targets] for part, of in parts.items()}
    for part, has in fields.items():
        for other, others in fields.items():
            if missing := [name for name in others if name not in has]:
                raise UserError(f"{path}: the part {other!r} has {missing[0]}, but the part {part!r} has none")
    shapes = {part: (of.images.shape[1:], *_shape_and_kind(of.labels)) for part, of in parts.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(
            f"{of.images.shape}" + ("" if of.labels is None else f" with {of.labels.dtype}{of.labels.shape}")
            for of in parts.values()
        )
        raise UserError(f"{path}: the parts differ in the shape of images or labels: {told}")


def _shape_and_kind(labels: np.ndarray | None) -> tuple:
    """Of one example's label: its shape, and whether it is a name."""
    return () if labels is None else (labels.shape[1:], labels.dtype.kind == "U")


_ARRAY = re.compile("(?:([a-z]+)_)?(images|labels|x|y|map|boxes|classes)(?:_([a-z]+))?", re.IGNORECASE)
_KIND = {"x": "images", "y": "labels"}
_PARTNER = {"images": "labels", "x": "y", "y": "x"}


def _array_names(path: Path, found: Mapping[str, np.ndarray], complete: bool) -> dict[str, dict[str, str]]:
    """{"train": {"images": the name of its array, "labels": …, "map": …}, …} for each part that there is."""
    names: dict[str, dict[str, str]] = {}
    expected = {"train": "train_images", "test": "test_images"} if complete else {}
    for match in filter(None, map(_ARRAY.fullmatch, found)):
        part = (match[1] or match[3] or "train").lower()
        part, kind = PARTS.get(part, part), _KIND.get(match[2].lower(), match[2].lower())
        other = names.setdefault(part, {}).setdefault(kind, match[0])
        if other != match[0]:
            raise UserError(f"{path}: {other!r} and {match[0]!r} are both the {kind} of one part; one is meant")
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
                raise UserError(f"{path}: no part {part!r}{did_you_mean(part, PARTS)}; train, val or test")
        elif not paired:
            there = ", ".join(found) or "nothing"
            raise UserError(f"{path}: no array {partner!r}{did_you_mean(partner, found)}; it holds {there}")
    return names


def _images(path: Path, name: str, found: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N, H, W, C) uint8."""
    images = found[name]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
        raise UserError(
            f"{path}: {name} is {images.dtype}{images.shape}, but uint8 (N, H, W[, C]) was expected{_as_uint8(images)}"
        )
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise UserError(
            f"{path}: {name} is {images.shape}, which looks like (N, C, H, W), but (N, H, W, C) is meant: "
            "images.transpose(0, 2, 3, 1)"
        )
    return images if images.ndim == 4 else images[..., None]


def _as_uint8(images: np.ndarray) -> str:
    """How numbers of another type become pixels: the end of an error about them."""
    if images.dtype.kind not in "iuf" or not images.size or not (images.min() >= 0 and images.max() <= 255):
        return ""
    scaled = "(255 * images)" if images.max() <= 1 else "images"
    return f": {scaled}.round().astype('uint8')"


def _labels(path: Path, name: str, found: Mapping[str, np.ndarray], examples: int) -> np.ndarray:
    """(N,) whole numbers or names, or (N, K) whole numbers."""
    labels = found[name]
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim not in (1, 2) or len(labels) != examples or not (
        flat.dtype.kind in "iub" or (flat.dtype.kind in "US" and flat.ndim == 1)
    ):  # fmt: skip
        fix = "; labels.argmax(axis=1) makes them of one-hot rows" if flat.ndim == 2 else ""
        if flat.ndim == 1 and flat.dtype.kind == "f" and (flat == np.trunc(flat)).all():
            fix = "; labels.astype(int) makes them"
        raise UserError(
            f"{path}: {name} is {labels.dtype}{labels.shape}, but whole numbers or names ({examples},) were expected{fix}"
        )
    return np.array(_texts(path, name, flat)) if flat.dtype.kind in "US" else flat


def _texts(path: Path, name: str, values: np.ndarray) -> list[str]:
    """The names in an array (N,) of text, bytes or whole numbers, in one form (see class_names.clean)."""
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise UserError(f"{path}: {name} is {values.dtype}{values.shape}, but names (K,) were expected")
    try:
        texts = [clean(value.decode() if isinstance(value, bytes) else str(value)) for value in values.tolist()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {name} holds bytes that are not UTF-8 ({error})") from error
    if "" in texts:
        raise UserError(f"{path}: {name} has an empty name at {texts.index('')}")
    return texts


def _several(
    where: Mapping[str, str], labels: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> tuple[Sequence[str], Mapping[str, np.ndarray]]:
    """The names of the columns, and `labels` as they are."""
    if all(((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all() for rows in labels.values()):
        raise UserError(f"{where['train']}: every row has a single 1; labels.argmax(axis=1) makes classes of such one-hot rows")
    trained = labels["train"].any(axis=0)
    for part, rows in labels.items():
        if (unknown := rows.any(axis=0) & ~trained).any():
            column = int(unknown.argmax())
            raise UserError(f"{where[part]}: has ones in column {column} (from 0), which no training example has")
    return class_names or [str(column) for column in range(labels["train"].shape[1])], labels


def _classes(
    where: Mapping[str, str], labels: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> tuple[Sequence[str], Mapping[str, np.ndarray]]:
    """The names of the classes, and the number of each example's."""
    trained = np.unique(labels["train"])
    if len(trained) < 2:
        raise UserError(f"{where['train']}: all training examples have the label {trained[0]}; at least two classes are needed")
    for part, of_part in labels.items():
        if (unknown := ~np.isin(of_part, trained)).any():
            index = int(unknown.argmax())
            raise UserError(f"{where[part]}: example {index} has the label {of_part[index]}, which no training example has")
    if trained.dtype.kind == "U":
        classes = class_names or in_order(trained.tolist())
        if missing := set(trained.tolist()) - set(classes):
            near = did_you_mean(min(missing), classes)
            raise UserError(f"{where['train']}: class_names has no {min(missing)!r}{near}")
        number = {name: i for i, name in enumerate(classes)}
        return classes, {part: np.array([number[name] for name in of_part.tolist()]) for part, of_part in labels.items()}
    if not class_names and (trained != np.arange(len(trained))).any():
        some = ", ".join(map(str, trained[:10])) + ", …" * (len(trained) > 10)
        raise UserError(
            f"{where['train']}: its {len(trained)} classes are {some}, not 0 to {len(trained) - 1}; labels.astype(str) makes "
            "names of them, or an array class_names says the names of 0, 1, and so on"
        )
    return class_names or [str(label) for label in range(len(trained))], labels
