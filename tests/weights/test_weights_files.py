"""Files of tensors are read exactly, or refused with an error that names the file."""

import re

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxcnn.errors import UserError
from jaxcnn.weights import load, read

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5], np.float16)}


def write(path, tensors=TENSORS):
    if path.suffix == ".npz":
        np.savez_compressed(path, **tensors)
    else:
        safetensors.numpy.save_file(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_reads_what_was_written(tmp_path, suffix):
    tensors = read(write(tmp_path / f"weights{suffix}"))
    assert set(tensors) == set(TENSORS)
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], value, strict=True)


def test_reads_bfloat16(tmp_path):
    path = write(tmp_path / "weights.safetensors", {"a": np.array([1, 2], ml_dtypes.bfloat16)})
    np.testing.assert_array_equal(read(path)["a"].astype(np.float32), [1, 2])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.95])
def test_truncated_file_is_refused(tmp_path, suffix, share):
    path = write(tmp_path / f"weights{suffix}")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=re.escape(f"{path}: damaged")):
        read(path)


def test_damaged_bytes_in_the_middle_of_an_archive_are_refused(tmp_path):
    path = write(tmp_path / "weights.npz", {"a": np.random.default_rng(0).normal(size=1000)})
    data = bytearray(path.read_bytes())
    data[3000:3100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(UserError, match=re.escape(f"{path}: damaged")):
        read(path)


class Code:
    """Raises SystemExit when it is unpickled, so that a test which unpickles it fails."""

    def __reduce__(self):
        return (exec, ("raise SystemExit",))


def test_code_in_an_archive_is_refused_and_not_executed(tmp_path):
    path = write(tmp_path / "weights.npz", {"a": np.array([Code()], object)})
    with pytest.raises(UserError, match=r"damaged, or not a \.npz file of plain tensors"):
        read(path)


def test_npy_file_with_the_suffix_of_an_archive_is_refused(tmp_path):
    with (tmp_path / "weights.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"damaged, or not a \.npz file of plain tensors"):
        read(tmp_path / "weights.npz")


def test_missing_files_folders_and_unknown_kinds_are_refused(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for name, message in (
        ("absent.npz", "absent.npz: no such file"),
        ("folder.npz", "folder.npz: no such file"),
        ("weights.ckpt", 'weights.ckpt: unknown kind of weights file ".ckpt"; expected .npz, .safetensors, .pth, .pt, .h5'),
        ("weights", 'unknown kind of weights file ""'),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            read(tmp_path / name)


def test_load_names_the_file_whose_tensors_do_not_fit(tmp_path):
    path = write(tmp_path / "weights.npz")
    with pytest.raises(UserError, match=re.escape(f"{path}: weights do not fit resnet20: ")):
        load(path, "resnet20")
