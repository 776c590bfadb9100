"""Conversion of state dicts of other libraries fails for missing and for unexpected tensors."""

from pathlib import Path

import numpy as np
import pytest
from common import reference_weights

from jaxcnn.errors import UserError
from jaxcnn.weights import convert

GOLDEN = Path(__file__).parent.parent / "golden" / "torchvision"


@pytest.fixture(scope="module")
def resnet18():
    return reference_weights.state_dict(reference_weights.load(GOLDEN / "resnet18.json.gz"))


@pytest.fixture(scope="module")
def resnet20():
    return reference_weights.resnet20()


def test_tensors_get_our_names_and_layouts(resnet18):
    variables = convert("resnet18", resnet18)
    params, stats = variables["params"], variables["batch_stats"]
    block = params["stage2_block1"]
    np.testing.assert_array_equal(block["conv1"]["kernel"][2, 0, 5], resnet18["layer2.0.conv1.weight"][:, 5, 2, 0])
    np.testing.assert_array_equal(block["shortcut_norm"]["scale"], resnet18["layer2.0.downsample.1.weight"])
    np.testing.assert_array_equal(stats["stem_norm"]["var"], resnet18["bn1.running_var"])
    np.testing.assert_array_equal(params["head"]["kernel"], resnet18["fc.weight"].T)
    assert params["head"]["kernel"].dtype == np.float32


def test_cifar_names_module_prefix_and_float64(resnet20):
    variables = convert("resnet20", {f"module.{name}": value for name, value in resnet20.items()})
    kernel = variables["params"]["stage3_block1"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 1], np.float32(resnet20["layer3.0.conv1.weight"][:, :, 0, 1].T))
    assert kernel.dtype == np.float32


def test_first_convolution_decides_the_input_channels(resnet20):
    gray = resnet20 | {"conv1.weight": resnet20["conv1.weight"][:, :1]}
    assert convert("resnet20", gray)["params"]["stem_conv"]["kernel"].shape == (3, 3, 1, 16)


def test_missing_tensor_is_named(resnet20):
    del (broken := dict(resnet20))["layer2.1.bn1.running_var"]
    with pytest.raises(UserError, match=r"weights do not fit resnet20: 1 missing: layer2\.1\.bn1\.running_var$"):
        convert("resnet20", broken)


def test_unexpected_tensor_is_named(resnet20):
    with pytest.raises(UserError, match=r"resnet20: 1 unexpected: layer4\.0\.conv1\.weight$"):
        convert("resnet20", resnet20 | {"layer4.0.conv1.weight": np.zeros((1, 1, 3, 3))})


def test_head_is_unexpected_for_a_model_without_one(resnet20):
    with pytest.raises(UserError, match=r"resnet20, num_classes=0: 2 unexpected: linear\.weight, linear\.bias$"):
        convert("resnet20", resnet20, num_classes=0)


def test_wrong_shape_is_named_with_both_shapes(resnet20):
    with pytest.raises(UserError, match=r"linear\.bias has \(10,\), .*, linear\.weight has \(10, 64\), expected \(100, 64\)$"):
        convert("resnet20", resnet20, num_classes=100)
    with pytest.raises(UserError, match=r"1 of the wrong shape: conv1\.weight has \(16, 27\), expected \(16, 3, 3, 3\)$"):
        convert("resnet20", resnet20 | {"conv1.weight": np.zeros((16, 27))})


def test_weights_of_another_architecture_are_refused_in_one_line(resnet18):
    with pytest.raises(UserError, match=r"resnet50: 165 missing: .*, … and 145 more; .* of the wrong shape: ") as error:
        convert("resnet50", resnet18)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 4000


def test_tensor_that_is_not_numeric_is_named(resnet20):
    with pytest.raises(UserError, match=r"linear\.bias: expected numbers, got <U"):
        convert("resnet20", resnet20 | {"linear.bias": np.array(["x"] * 10)})


def test_models_without_known_weights_and_unknown_names_are_refused(resnet20):
    with pytest.raises(UserError, match="lenet5: no weights of another library are known for this model"):
        convert("lenet5", resnet20)
    with pytest.raises(UserError, match='no model "resnet21"'):
        convert("resnet21", resnet20)
    with pytest.raises(UserError, match='no argument "classes"'):
        convert("resnet20", resnet20, classes=10)
