"""The registry: which models it lists, which names and arguments it rejects, and its messages."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from common.child_processes import run

from jaxcnn.errors import UserError
from jaxcnn.models import create_model, list_models
from jaxcnn.models.registry import name_of, variant


@pytest.mark.parametrize("name", list_models())
def test_every_model_is_a_linen_module_with_num_classes_and_dtype(name):
    model = create_model(name, num_classes=7, dtype="bfloat16")
    assert isinstance(model, nn.Module)
    assert model.num_classes == 7
    assert model.dtype == jnp.bfloat16
    assert model == create_model(name, num_classes=np.int64(7), dtype=jnp.bfloat16)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet51", {}, r'model.name: no model "resnet51" \(did you mean .*"resnet50".*\?\)'),
        ("zzz", {}, r'^model.name: no model "zzz"$'),
        ("resnet18", {"stm": "small"}, r'no argument "stm" \(did you mean "stem"\?\); its arguments are drop_path_rate, '),
        ("resnet18", {"depths": (1, 1)}, 'no argument "depths"'),
        ("resnet18", {"name": "mine"}, 'no argument "name"'),
        ("lenet5", {"stem": "small"}, 'lenet5: no argument "stem"; its arguments are drop_rate, dtype, num_classes'),
        ("resnet18", {"stem": "smal"}, r"stem: expected one of imagenet, small; got 'smal' \(did you mean \"small\"\?\)"),
        ("resnet18", {"stem": ["small"]}, "resnet18: stem: "),
        ("resnet20", {"num_classes": "ten"}, "resnet20: num_classes: expected an int of at least 0, got 'ten'"),
        ("resnet20", {"num_classes": 10.0}, "resnet20: num_classes: expected an int of at least 0, got 10.0"),
        ("resnet20", {"num_classes": True}, "resnet20: num_classes: expected an int of at least 0, got True"),
        ("resnet20", {"num_classes": -1}, "resnet20: num_classes: expected an int of at least 0, got -1"),
        ("resnet20", {"drop_rate": 1.5}, "resnet20: drop_rate: expected a finite number from 0 to 1, got 1.5"),
        ("resnet20", {"dropout": -0.1}, "resnet20: dropout: expected a finite number from 0 to 1, got -0.1"),
        ("resnet20", {"dropout": 0.1, "drop_rate": 0.1}, "resnet20: dropout and drop_rate are two names of the same argument"),
        ("resnet20", {"flavor": "keras"}, 'resnet20: no argument "flavor"'),
        ("resnet50", {"output_stride": 4}, "resnet50: output_stride: expected one of 8, 16, 32; got 4"),
        ("resnet18", {"zero_init_last": 1}, "resnet18: zero_init_last: expected True or False, got 1"),
        ("lenet5", {"dtype": "bfloat"}, r"lenet5: dtype: 'bfloat' is not a floating-point type \(did you mean \"bfloat16\""),
        ("lenet5", {"dtype": "int32"}, "lenet5: dtype: 'int32' is not a floating-point type"),
        ("lenet5", {"dtype": 3}, "lenet5: dtype: 3 is not a floating-point type"),
    ],
)  # fmt: skip
def test_wrong_names_and_arguments_are_refused_by_name(name, arguments, message):
    with pytest.raises(UserError, match=message):
        create_model(name, **arguments)


@pytest.mark.parametrize("paper", ["", "LeCun et al.", "1512.03385", "arXiv:1512.3385v1"])
def test_paper_must_state_its_year(paper):
    with pytest.raises(AssertionError, match="nameless: expected paper="):
        variant("nameless", nn.Module, image_size=32, paper=paper)
    assert "nameless" not in list_models()


@pytest.mark.process
def test_importing_models_does_not_import_data_or_training():
    heavy = ["cv2", "grain", "matplotlib", "sklearn", "tensorflow", "torch", "ml_collections"]
    code = f"import sys, jaxcnn.models; print([m for m in {heavy} if m in sys.modules])"
    assert run("-c", code) == (0, "[]\n", "")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("mobilenet_v3_small", {"drop_rate": 0.1}), ("resnet50", {"stem": "small"}), ("timm/regnety_002", {})],
)
def test_messages_name_the_variant_whatever_its_arguments(name, arguments):
    assert name_of(create_model(name, **arguments)) == name


def test_messages_name_every_variant():
    assert [name for name in list_models() if name_of(create_model(name)) != name] == []
