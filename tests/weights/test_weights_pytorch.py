"""PyTorch files are read without PyTorch. Files with anything but tensors are refused, and their code is not run."""

import collections
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from common.pytorch_files import Global, Storage, tensor, write

from jaxcnn.errors import UserError
from jaxcnn.weights import read

DATA = Path(__file__).parent / "data"  # its README.md states how the files were made


def test_reads_a_checkpoint_that_pytorch_wrote():
    tensors = read(DATA / "checkpoint.pth")
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = {"w": numbers, "turned": numbers.T, "row": numbers[1], "half": numbers, "count": np.array(7)}
    assert set(tensors) == set(expected)
    for name, value in expected.items():  # the first three share their storage, half is bfloat16
        np.testing.assert_array_equal(tensors[name], value, strict=True)


@pytest.mark.parametrize(
    ("kind", "written", "read_as"),
    [
        ("DoubleStorage", "f8", "float64"), ("HalfStorage", "f2", "float16"), ("LongStorage", "i8", "int64"),
        ("ByteStorage", "u1", "uint8"), ("BoolStorage", "?", "bool"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("order", ["little", "big"])
def test_storage_types_and_byte_orders(tmp_path, kind, written, read_as, order):
    numbers = np.arange(6).astype(read_as)
    content = numbers.astype(np.dtype(written).newbyteorder(order)).tobytes()
    path = write(tmp_path / "a.pt", {"a": tensor(kind=kind)}, storages=[content], order=order)
    np.testing.assert_array_equal(read(path)["a"], numbers.reshape(2, 3), strict=True)


def test_parameters_and_offsets(tmp_path):
    parameter = Global("torch._utils._rebuild_parameter", tensor((2,), (2,), 3), True, collections.OrderedDict())
    assert read(write(tmp_path / "a.pth", {"a": parameter}))["a"].tolist() == [3, 5]


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ({"epoch": 3, "state_dict": "this"}, "this"),
        ({"model": {"model_state_dict": "this"}}, "this"),
        ({"model_ema": "average", "model": "this", "optimizer": {"lr": 0.1}}, "this"),
        ({"model_ema": "average", "epoch": 3}, "average"),
    ],
)
def test_checkpoints_are_unwrapped(tmp_path, checkpoint, expected):
    def filled(node):
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        return {node: tensor()} if node in ("this", "average") else node

    assert list(read(write(tmp_path / "a.pth", filled(checkpoint)))) == [expected]


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "torch._utils._rebuild_tensor", "torch.load", "collections.OrderedDict.fromkeys"]
)
def test_code_is_named_and_not_run(tmp_path, name):
    proof = tmp_path / "ran"
    path = write(tmp_path / "a.pth", {"a": tensor(), "b": Global(name, f"touch {proof}")})
    with pytest.raises(UserError, match=re.escape(f"{path}: holds code ({name}), not only tensors; it was not run")):
        read(path)
    assert not proof.exists()


def test_plain_pickle_is_not_opened(tmp_path):
    proof = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return (open, (str(proof), "w"))

    (tmp_path / "a.pth").write_bytes(pickle.dumps(Code()))
    with pytest.raises(UserError, match=r"a\.pth: damaged, or not a PyTorch file$"):
        read(tmp_path / "a.pth")
    assert not proof.exists()


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.95])
def test_truncated_file_is_refused(tmp_path, share):
    original = (DATA / "checkpoint.pth").read_bytes()
    path = tmp_path / "a.pth"
    path.write_bytes(original[: int(share * len(original))])
    with pytest.raises(UserError, match=re.escape(f"{path}: damaged")):
        read(path)


def test_old_format_and_other_archives_are_refused_with_instructions(tmp_path):
    with pytest.raises(UserError, match=r"legacy\.pth: has the format used before PyTorch 1\.6; save it again"):
        read(DATA / "legacy.pth")
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: a zip archive, but not a PyTorch file"):
        read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([1, 2], "not a state dict: expected tensors by name, got a list"),
        (tensor(), "not a state dict: expected tensors by name, got a Tensor"),
        ({"epoch": 3, "a": tensor()}, "not a state dict: it has values that are not tensors: epoch"),
        ({"a": tensor((4, 3))}, "exceeds its storage"),
        ({"a": tensor(offset=1)}, "exceeds its storage"),
        ({"a": tensor(strides=(-3, 1))}, "damaged"),
        ({"a": tensor(strides=(1,))}, "damaged"),
        ({"a": tensor(length=7)}, "storage 0 is truncated"),
        ({"a": tensor(key="5")}, "damaged"),
        ({"a": Storage(("storage", "object", "0", "cpu", 6))}, "damaged"),
    ],
)
def test_invalid_tensors_are_refused_in_one_line(tmp_path, saved, message):
    path = write(tmp_path / "a.pth", saved)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
