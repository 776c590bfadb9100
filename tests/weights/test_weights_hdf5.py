"""Tensors of Keras files are read by the names that Keras gives variables."""

import contextlib
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from jaxcnn.errors import UserError
from jaxcnn.weights import read

CONV = Path(__file__).parent / "data" / "conv.weights.h5"  # data/README.md states how it was made


def test_reads_keras_3_file_with_automatic_layer_names():
    tensors = read(CONV)
    order = ["stem/kernel", *(f"batch_normalization/{name}" for name in ("beta", "moving_mean", "moving_variance"))]
    order += ["conv2d/kernel", "conv2d/bias"]  # Keras had named it conv2d_1
    assert {name: float(tensor.flat[0]) for name, tensor in tensors.items()} == {name: i for i, name in enumerate(order)}
    assert tensors["stem/kernel"].shape == (3, 3, 3, 2)


def write_legacy(path, group_name=""):
    """Writes a file in the format of keras.applications."""
    with h5py.File(path, "w") as file:
        root = file.require_group(group_name) if group_name else file
        root.attrs["layer_names"] = [b"input_1", b"conv1_conv", b"conv2d_95", b"conv2d_94"]
        root.create_group("input_1").attrs["weight_names"] = []
        for number, layer in enumerate(("conv1_conv", "conv2d_95", "conv2d_94")):
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/kernel:0".encode(), f"{layer}/bias:0".encode()]
            group[f"{layer}/kernel:0"] = np.full((1, 1, 3, 2), number, np.float32)
            group[f"{layer}/bias:0"] = np.zeros(2, np.float32)
    return path


@pytest.mark.parametrize("group_name", ["", "model_weights"])
def test_reads_the_older_format_of_weights_and_of_models(tmp_path, group_name):
    tensors = read(write_legacy(tmp_path / "a.h5", group_name))
    kernels = {name: float(tensor.flat[0]) for name, tensor in tensors.items() if name.endswith("/kernel")}
    assert kernels == {"conv1_conv/kernel": 0, "conv2d/kernel": 2, "conv2d_1/kernel": 1}  # renumbered from 0
    assert len(tensors) == 6


def test_missing_names_are_refused_with_instructions(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_bytes(CONV.read_bytes())
    with h5py.File(path, "a") as file:
        del file["layers/conv2d/vars"].attrs["name"]
    with pytest.raises(UserError, match=r"a\.weights\.h5: layers/conv2d has no name; load the model in Keras and save"):
        read(path)
    with h5py.File(path, "a") as file:
        del file["layers/conv2d"]
        file.move("layers/conv2d_1", "layers/group_normalization")
    with pytest.raises(UserError, match=r"layers/group_normalization \(.*\) has an unsupported class"):
        read(path)


def test_no_other_file_is_opened(tmp_path):
    secret = write_legacy(tmp_path / "secret.h5")
    with h5py.File(write_legacy(tmp_path / "a.h5"), "a") as file:
        file["conv1_conv/linked"] = h5py.ExternalLink(secret, "/conv1_conv/conv1_conv/kernel:0")
    with h5py.File(write_legacy(tmp_path / "b.h5"), "a") as file:
        file["conv1_conv"].create_dataset("outside", (2,), "u1", external=[(str(secret), 0, 2)])
    for name in ("a.h5", "b.h5"):
        with pytest.raises(UserError, match=rf"{name}: conv1_conv/\w+ is stored in another file, which was not opened"):
            read(tmp_path / name)


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.95])
def test_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "a.h5"
    path.write_bytes(CONV.read_bytes()[: int(share * CONV.stat().st_size)])
    with pytest.raises(UserError, match=re.escape(f"{path}: damaged")):
        read(path)


def test_damaged_bytes_raise_nothing_but_a_user_error(tmp_path):
    original = CONV.read_bytes()
    for seed in range(30):
        damaged = bytearray(original)
        for index in np.random.default_rng(seed).integers(0, len(original), 200):
            damaged[index] ^= 0xFF
        path = tmp_path / f"{seed}.h5"
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            read(path)


def test_other_hdf5_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.zeros(3)
    with pytest.raises(UserError, match=r"a\.h5: an HDF5 file, but not Keras weights"):
        read(tmp_path / "a.h5")
