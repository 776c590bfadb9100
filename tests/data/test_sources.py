import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxcnn.data import DataSettings, load
from jaxcnn.errors import UserError

RNG = np.random.default_rng(0)


def dataset(name, root="", validation=0.0, seed=0):
    return load(DataSettings(name, str(root), validation), seed)


def images_of(source):
    return np.stack([source.read(i) for i in range(len(source))])


def test_unknown_data_set_is_refused_with_similar_names():
    with pytest.raises(UserError, match=r"no data set 'mnits' \(did you mean \"mnist\".*available: digits, mnist, "):
        dataset("mnits")


def test_data_set_without_its_root_is_refused():
    with pytest.raises(UserError, match=r"set the path of mnist: --config.data.root=PATH"):
        dataset("mnist")


# ── digits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_splits_of_digits_contain_every_scan_once():
    digits = dataset("digits", validation=0.1)
    parts = [digits.train, digits.validation, digits.test]
    assert [len(part) for part in parts] == [1293, 144, 360]
    assert digits.train.image_shape == (8, 8, 1)
    assert digits.train.read(0).dtype == np.uint8

    stored = load_digits()

    def rows(images, labels):  # the 16 gray levels and the label of each image, sorted
        levels = np.round(np.asarray(images).reshape(len(labels), -1) * (16 / images.max()))
        return sorted(map(tuple, np.column_stack([levels, labels]).astype(int)))

    everything = np.concatenate([images_of(part) for part in parts])
    assert rows(everything, np.concatenate([part.labels for part in parts])) == rows(stored.images, stored.target)


def test_splits_are_stratified():
    digits = dataset("digits", validation=0.2, seed=5)
    for part in (digits.train, digits.validation, digits.test):
        share = np.bincount(part.labels, minlength=10) / np.bincount(load_digits().target)
        assert np.ptp(share) * 178 < 2  # classes have about 178 scans: no more than rounding


def test_validation_depends_on_the_seed_but_the_test_split_does_not():
    first, again, other = (dataset("digits", validation=0.1, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(images_of(first.test), images_of(other.test))
    np.testing.assert_array_equal(images_of(first.validation), images_of(again.validation))
    assert not np.array_equal(images_of(first.validation), images_of(other.validation))


def test_no_validation_set_is_split_off_at_a_share_of_0():
    digits = dataset("digits", validation=0.0)
    assert digits.validation is None
    assert len(digits.train) == 1437


# ── idx files ───────────────────────────────────────────────────────────────────────────────────────────────────────


def idx(array):
    """Returns the bytes of an idx file: 0, 0, 8 for unsigned bytes, number of dimensions, sizes, data."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A folder in MNIST's layout with 30 + 20 images of 5×4, and the arrays in it by file name."""
    arrays = {}
    for part, count in (("train", 30), ("t10k", 20)):
        arrays[f"{part}-images-idx3-ubyte.gz"] = RNG.integers(0, 256, (count, 5, 4), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte.gz"] = np.arange(count, dtype=np.uint8) % 10
    for name, array in arrays.items():
        (tmp_path / name).write_bytes(gzip.compress(idx(array)))
    return tmp_path, arrays


def test_idx_files_are_read_as_they_were_written_gzipped_or_not(mnist):
    folder, arrays = mnist
    plain = folder / "t10k-images-idx3-ubyte"
    plain.write_bytes(idx(arrays[plain.name + ".gz"]))
    (folder / (plain.name + ".gz")).unlink()
    found = dataset("mnist", folder)
    for source, part in ((found.train, "train"), (found.test, "t10k")):
        np.testing.assert_array_equal(images_of(source)[..., 0], arrays[f"{part}-images-idx3-ubyte.gz"])
        np.testing.assert_array_equal(source.labels, arrays[f"{part}-labels-idx1-ubyte.gz"])
        assert source.labels.dtype == np.int32
    assert found.class_names == tuple("0123456789")


def test_fashion_mnist_has_its_own_class_names(mnist):
    assert dataset("fashion_mnist", mnist[0]).class_names[::9] == ("T-shirt/top", "Ankle boot")


GZ = "train-images-idx3-ubyte.gz"
WHOLE = idx(np.zeros((30, 5, 4), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(WHOLE)[:-20], "truncated gzip"),
        (b"no gzip at all", "damaged or truncated gzip"),
        (b"", "not an idx file of unsigned bytes with 3 dimensions"),
        (gzip.compress(WHOLE[:10]), "not an idx file"),
        (gzip.compress(b"\0\0\x0d\3" + WHOLE[4:]), "not an idx file of unsigned bytes"),  # 0x0d: floats
        (gzip.compress(idx(np.zeros((30, 20), np.uint8))), "with 3 dimensions"),
        (gzip.compress(WHOLE[:-1]), "expected 30 × 5 × 4 = 600 bytes of data, got 599"),
        (gzip.compress(WHOLE + b"\0"), "600 bytes of data, got 601"),
        (gzip.compress(b"\0\0\x08\3" + b"\xff" * 12), "bytes of data, got 0"),  # sizes of 2**32 - 1
        (gzip.compress(idx(np.zeros((0, 5, 4), np.uint8))), "is empty"),
        (gzip.compress(idx(np.zeros((29, 5, 4), np.uint8))), "29 images, but 30 labels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzip content contains the time, so test names must not
)
def test_damaged_idx_file_is_refused_by_name(mnist, content, message):
    folder, _ = mnist
    (folder / GZ).write_bytes(content)
    with pytest.raises(UserError, match=message) as mistake:
        dataset("mnist", folder)
    assert str(folder) in str(mistake.value)


def test_missing_idx_file_is_refused_with_a_similar_name(mnist):
    folder, _ = mnist
    (folder / GZ).rename(folder / "train-image-idx3-ubyte.gz")
    with pytest.raises(UserError, match=f'no file .*{GZ}" .did you mean "train-image-idx3-ubyte.gz"'):
        dataset("mnist", folder)


def test_missing_folder_is_refused_with_a_similar_name(tmp_path):
    (tmp_path / "flowers").mkdir()
    with pytest.raises(UserError, match=r'no file or folder ".*flwers" .did you mean "flowers"'):
        dataset("cifar10", tmp_path / "flwers")


def test_label_outside_the_classes_is_refused_with_its_example(mnist):
    folder, arrays = mnist
    labels = arrays["t10k-labels-idx1-ubyte.gz"].copy()
    labels[7] = 10
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(UserError, match="mnist, test: example 7 has the label 10, outside 0 to 9, for 10 classes"):
        dataset("mnist", folder)


# ── CIFAR ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_cifar(path, images, *label_columns):
    """Writes records of label bytes, then the red, green and blue channels, row by row (cs.toronto.edu/~kriz/cifar.html)."""
    with path.open("wb") as file:
        for image, *labels in zip(images, *label_columns, strict=True):
            file.write(bytes(labels) + b"".join(image[:, :, channel].tobytes() for channel in range(3)))


@pytest.fixture
def cifar10(tmp_path):
    """The parent folder of cifar-10-batches-bin, with 4 records per file, and its 24 images."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    images = RNG.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for i, name in enumerate(names):
        write_cifar(folder / name, images[4 * i : 4 * i + 4], [i, 9, 0, 3])
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    return tmp_path, images


def test_cifar10_is_read_as_written_from_its_folder_or_the_parent_folder(cifar10):
    root, images = cifar10
    for folder in (root, root / "cifar-10-batches-bin"):
        found = dataset("cifar10", folder)
        np.testing.assert_array_equal(images_of(found.train), images[:20])
        np.testing.assert_array_equal(images_of(found.test), images[20:])
        assert found.train.labels.tolist() == [0, 9, 0, 3, 1, 9, 0, 3, 2, 9, 0, 3, 3, 9, 0, 3, 4, 9, 0, 3]
        assert found.test.labels.tolist() == [5, 9, 0, 3]
        assert found.class_names == tuple("abcdefghij")


def test_cifar100_has_the_fine_labels(tmp_path):
    images = RNG.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for name in ("train.bin", "test.bin"):
        write_cifar(tmp_path / name, images, [1, 2, 3], [99, 0, 50])
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"class {i}" for i in range(100)))
    found = dataset("cifar100", tmp_path)
    np.testing.assert_array_equal(images_of(found.train), images)
    assert found.test.labels.tolist() == [99, 0, 50]
    assert found.class_names[99] == "class 99"


@pytest.mark.parametrize("keep", [0, 3072, 3073 * 2 + 5])
def test_truncated_or_empty_cifar_file_is_refused_by_name(cifar10, keep):
    root, _ = cifar10
    path = root / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=f"data_batch_3.bin: expected a multiple of 3,073 bytes, got {keep:,}"):
        dataset("cifar10", root)


def test_missing_cifar_file_is_refused_with_similar_names(cifar10):
    root, _ = cifar10
    (root / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match=r'no file or folder ".*data_batch_3.bin" \(did you mean "data_batch_'):
        dataset("cifar10", root)


# ── The real data, if they are unpacked in JAXCNN_TEST_DATA=DIR ─────────────────────────────────────────────────────

REAL = Path(os.environ.get("JAXCNN_TEST_DATA", "/nowhere"))
needs_real_data = pytest.mark.skipif("JAXCNN_TEST_DATA" not in os.environ, reason="JAXCNN_TEST_DATA is not set")


@needs_real_data
def test_real_cifar10_has_the_published_checksums():
    found = dataset("cifar10", REAL)
    sums = [
        hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
        for source in (found.train, found.test)
        for array in (source.images, source.labels.astype(np.uint8))
    ]
    # the first digits of the four in shared/data/cifar10/SOURCE.txt
    assert sums == ["47af8b02cfcfb6cd", "2b7cd2f244873176", "f9b1e2130bab680d", "cec8a24a1e92aa2e"]
    assert np.bincount(found.test.labels).tolist() == [1000] * 10


@needs_real_data
@pytest.mark.parametrize(
    ("name", "test_counts"),
    [("mnist", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]), ("fashion_mnist", [1000] * 10)],
)
def test_real_mnist_has_the_published_sizes(name, test_counts):
    found = dataset(name, REAL / name)
    assert found.train.images.shape == (60_000, 28, 28, 1)
    assert np.bincount(found.test.labels).tolist() == test_counts
