"""Data sets that are read into memory whole: scikit-learn's digits, MNIST, CIFAR, and anybody's arrays."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcnn.data import files
from jaxcnn.data.sources import ArraySource, Dataset, Subset
from jaxcnn.data.splits import cut
from jaxcnn.errors import UserError, did_you_mean


def digits(_: Path) -> Dataset:
    """scikit-learn's digits: 1,797 scans of 8×8 pixels (UCI, Alpaydin and Kaynak 1998).

    It has no split of its own: 360 are set aside for testing, the same ones whatever the run's seed.
    """
    # Its file alone: to import scikit-learn takes 1.5 seconds.
    package = Path(importlib.util.find_spec("sklearn").origin).parent  # type: ignore[union-attr, arg-type]
    table = np.loadtxt(package / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)[..., None]  # stored as 0…16
    everything = ArraySource(images, table[:, -1].astype(np.int32))
    train, test = cut(everything.labels, 360 / len(images), seed=0)
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

    Images are uint8, (N, H, W) or (N, H, W, C); labels (N,) or (N, 1) classes, or (N, K) zeros and ones.
    """
    found = files.read_npz(path)

    def part(prefix: str) -> ArraySource:
        names = [f"{prefix}_images", f"{prefix}_labels"]
        if missing := [name for name in names if name not in found]:
            there = ", ".join(found) or "nothing"
            raise UserError(f"{path}: no array {missing[0]!r}{did_you_mean(missing[0], found)}; it holds {there}")
        images, labels = (found[name] for name in names)
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
            raise UserError(
                f"{path}: {names[0]} is {images.dtype}{images.shape}, but uint8 (N, H, W[, C]) was expected{_as_uint8(images)}"
            )
        if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] > 4:
            raise UserError(
                f"{path}: {names[0]} is {images.shape}, which looks like (N, C, H, W), but (N, H, W, C) is meant: "
                "images.transpose(0, 2, 3, 1)"
            )
        if labels.ndim not in (1, 2) or len(labels) != len(images) or labels.dtype.kind not in "iub":
            one_hot = "; labels.argmax(axis=1) makes them of one-hot rows" if labels.ndim == 2 else ""
            raise UserError(
                f"{path}: {names[1]} is {labels.dtype}{labels.shape}, but whole numbers ({len(images)},) were expected{one_hot}"
            )
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        return ArraySource(images if images.ndim == 4 else images[..., None], labels.astype(np.int32))

    train, test = part("train"), part("test")
    validation = part("val") if "val_images" in found else None
    sources = [train, test] + ([validation] if validation else [])
    if len({(source.image_shape, source.labels.shape[1:]) for source in sources}) > 1:
        shapes = ", ".join(f"{source.image_shape}" for source in sources)
        raise UserError(f"{path}: the parts differ in the shape of images or labels: {shapes}")
    if "class_names" in found:
        class_names = tuple(str(name) for name in found["class_names"])
    else:
        many = train.labels.shape[1] if train.labels.ndim == 2 else max(int(s.labels.max()) for s in sources) + 1
        class_names = tuple(str(label) for label in range(many))
    return Dataset(train, validation, test, class_names)


def _as_uint8(images: np.ndarray) -> str:
    """How numbers of another type become pixels: the end of an error about them."""
    if images.dtype.kind not in "iuf" or not images.size or not (images.min() >= 0 and images.max() <= 255):
        return ""
    scaled = "(255 * images)" if images.max() <= 1 else "images"
    return f": {scaled}.round().astype('uint8')"
