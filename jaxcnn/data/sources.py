"""Where examples come from: random access by index, images as uint8.

`load` gives a data set by name. What is embedded or in common formats is here; a new source is a function
(root) -> Dataset and a line in SOURCES.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from jaxcnn.data import files
from jaxcnn.errors import UserError, did_you_mean


class Source(Protocol):
    """Examples by index. All images of a source have one shape."""

    @property
    def labels(self) -> np.ndarray:
        """(N,) int32 classes, or (N, K) int32 of zeros and ones where an image may have several labels."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)"""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index`: (H, W, C) uint8."""


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Images (N, H, W, C) uint8 and labels in memory."""

    images: np.ndarray
    labels: np.ndarray

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)"""
        return self.images.shape[1:]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[index]


@dataclasses.dataclass(frozen=True)
class Subset:
    """The examples of `source` at `indices`, in that order."""

    source: Source
    indices: np.ndarray

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Labels of the examples, as the source has them."""
        return self.source.labels[self.indices]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)"""
        return self.source.image_shape

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.source[int(self.indices[index])]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The three parts of a data set, which share no example. `validation` is None where none was cut."""

    train: Source
    validation: Source | None
    test: Source
    class_names: tuple[str, ...]


def load(config: ConfigDict, seed: int) -> Dataset:
    """The data set that the settings `data.*` name; validation is cut from train where the set has none of its own.

    Raises:
      UserError: an unknown name, a missing, empty or truncated file, labels outside the classes.
    """
    if config.name not in SOURCES:
        raise UserError(
            f"data.name: no data set {config.name!r}{did_you_mean(config.name, SOURCES)}; there are {', '.join(SOURCES)}"
        )
    if config.name != "digits" and not config.root:
        raise UserError(f"data.root: say where {config.name} lies, --config.data.root=PATH")
    dataset = SOURCES[config.name](Path(config.root).expanduser())
    for part in ("train", "validation", "test"):
        if source := getattr(dataset, part):
            _check_labels(source.labels, len(dataset.class_names), f"{config.name}, {part}")
    if dataset.validation is None and config.validation:
        train, validation = split(dataset.train.labels, config.validation, seed)
        dataset = dataclasses.replace(dataset, train=Subset(dataset.train, train), validation=Subset(dataset.train, validation))
    return dataset


def split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (sorted) of the larger and the smaller part, stratified by class where there is one label an image."""
    from sklearn.model_selection import train_test_split  # a second to import, and only used here

    stratify = labels if labels.ndim == 1 else None
    try:
        larger, smaller = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=stratify)
    except ValueError as error:
        raise UserError(f"data.validation: {share:g} of {len(labels)} examples can't be cut off: {error}") from error
    return np.sort(larger), np.sort(smaller)


def _check_labels(labels: np.ndarray, num_classes: int, what: str) -> None:
    if labels.ndim == 2:
        wrong = np.flatnonzero(((labels != 0) & (labels != 1)).any(axis=1))
        expected = "zeros and ones"
        if labels.shape[1] != num_classes:
            raise UserError(f"{what}: {labels.shape[1]} labels an image, but {num_classes} class names")
    else:
        wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
        expected = f"0 to {num_classes - 1}, for {num_classes} classes"
    if wrong.size:
        raise UserError(f"{what}: example {wrong[0]} has the label {labels[wrong[0]]}, outside {expected}")


# ── The sets ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _digits(_: Path) -> Dataset:
    """scikit-learn's digits: 1,797 scans of 8×8 pixels (UCI, Alpaydin and Kaynak 1998).

    It has no split of its own: 360 are set aside for testing, the same ones whatever the run's seed.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # stored as 0…16
    everything = ArraySource(images, digits.target.astype(np.int32))
    train, test = split(everything.labels, 360 / len(images), seed=0)
    return Dataset(Subset(everything, train), None, Subset(everything, test), tuple("0123456789"))


def _mnist(root: Path, class_names: Sequence[str] = tuple("0123456789")) -> Dataset:
    """The four idx files of MNIST, or of a set in its format, in the folder `root`."""

    def part(prefix: str) -> ArraySource:
        images = files.read_idx(root / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)[..., None]
        labels = files.read_idx(root / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1).astype(np.int32)
        if len(images) != len(labels):
            raise UserError(f"{root}: {prefix} has {len(images):,} images, but {len(labels):,} labels")
        return ArraySource(images, labels)

    return Dataset(part("train"), None, part("t10k"), tuple(class_names))


def _fashion_mnist(root: Path) -> Dataset:
    return _mnist(root, third_party_lines("fashion_mnist/class_names.txt"))


def _cifar10(root: Path) -> Dataset:
    """`root` is cifar-10-batches-bin, or the folder that holds it."""
    root = _inner(root, "cifar-10-batches-bin")
    train = [files.read_cifar(root / f"data_batch_{i}.bin", label_bytes=1) for i in range(1, 6)]
    test = [files.read_cifar(root / "test_batch.bin", label_bytes=1)]
    return Dataset(_joined(train), None, _joined(test), tuple(files.read_lines(root / "batches.meta.txt")))


def _cifar100(root: Path) -> Dataset:
    """`root` is cifar-100-binary, or the folder that holds it. The 100 fine labels are the classes."""
    root = _inner(root, "cifar-100-binary")
    train, test = ([files.read_cifar(root / f"{part}.bin", label_bytes=2)] for part in ("train", "test"))
    return Dataset(_joined(train), None, _joined(test), tuple(files.read_lines(root / "fine_label_names.txt")))


def _inner(root: Path, folder: str) -> Path:
    return root / folder if (root / folder).is_dir() else files.existing(root)


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> ArraySource:
    images, labels = zip(*parts, strict=True)
    return ArraySource(np.concatenate(images), np.concatenate(labels)[:, -1].astype(np.int32))


def _arrays(path: Path) -> Dataset:
    """An .npz with {train,test}_images, {train,test}_labels, and perhaps val_images, val_labels, class_names.

    Images are uint8, (N, H, W) or (N, H, W, C); labels (N,) or (N, 1) classes, or (N, K) zeros and ones.
    """
    arrays = files.read_npz(path)

    def part(prefix: str) -> ArraySource:
        names = [f"{prefix}_images", f"{prefix}_labels"]
        if missing := [name for name in names if name not in arrays]:
            there = ", ".join(arrays) or "nothing"
            raise UserError(f"{path}: no array {missing[0]!r}{did_you_mean(missing[0], arrays)}; it holds {there}")
        images, labels = (arrays[name] for name in names)
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
            raise UserError(f"{path}: {names[0]} is {images.dtype}{images.shape}, but uint8 (N, H, W[, C]) was expected")
        if labels.ndim not in (1, 2) or len(labels) != len(images) or labels.dtype.kind not in "iub":
            raise UserError(
                f"{path}: {names[1]} is {labels.dtype}{labels.shape}, but whole numbers ({len(images)},) were expected"
            )
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        return ArraySource(images if images.ndim == 4 else images[..., None], labels.astype(np.int32))

    train, test = part("train"), part("test")
    validation = part("val") if "val_images" in arrays else None
    sources = [train, test] + ([validation] if validation else [])
    if len({(source.image_shape, source.labels.shape[1:]) for source in sources}) > 1:
        shapes = ", ".join(f"{source.image_shape}" for source in sources)
        raise UserError(f"{path}: the parts differ in the shape of images or labels: {shapes}")
    if "class_names" in arrays:
        class_names = tuple(str(name) for name in arrays["class_names"])
    else:
        many = train.labels.shape[1] if train.labels.ndim == 2 else max(int(s.labels.max()) for s in sources) + 1
        class_names = tuple(str(label) for label in range(many))
    return Dataset(train, validation, test, class_names)


def third_party_lines(name: str) -> list[str]:
    """The lines of a file in third_party/, which lies in the package when it was installed from a wheel."""
    package = Path(__file__).parents[1]
    folder = package / "third_party"
    return files.read_lines((folder if folder.is_dir() else package.parent / "third_party") / name)


SOURCES: dict[str, Callable[[Path], Dataset]] = {
    "digits": _digits,
    "mnist": _mnist,
    "fashion_mnist": _fashion_mnist,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "arrays": _arrays,
}
