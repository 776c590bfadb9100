"""Parameters and multiply-accumulates of all networks that torchvision and Keras have too, computed from shapes."""

import json

import pytest
from common.promises import GOLDEN, count, parameters

from jaxcnn.errors import UserError
from jaxcnn.models import create_model
from jaxcnn.models.cost import cost
from jaxcnn.models.registry import find, image_size

COUNTS = json.loads((GOLDEN / "param_counts.json").read_text())


def known(name):
    try:
        find(name)
    except UserError:
        return False
    return True


def networks(library, parameters_of):
    """Returns the names that the library has too. Those with more than six million parameters are slow tests."""
    names = [name for name in COUNTS[library] if known(f"{library}/{name.partition('__')[0]}")]
    large = [name for name in names if parameters_of(COUNTS[library][name]) > 6e6]
    return [pytest.param(name, marks=pytest.mark.slow) if name in large else name for name in names]


TORCHVISION = networks("torchvision", lambda expected: expected["params"])
KERAS = networks("keras", lambda expected: expected["top"]["trainable"])


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    expected, (model, _, tag) = COUNTS["torchvision"][name], name.partition("__")
    arguments = {
        "": {},
        "noaux": {"aux_logits": False},
        "noaux_transform_input": {"aux_logits": False, "transform_input": True},
    }
    channels, height, width = expected["input_size"]
    network = create_model(f"torchvision/{model}", **arguments[tag])
    assert cost(network, (height, width, channels)) == (expected["params"], expected["macs"])


@pytest.mark.parametrize("name", KERAS)
def test_keras(name):
    """Keras's non-trainable weights are the running statistics, other variables in batch_stats, and counters."""
    expected, (model, _, tag) = COUNTS["keras"][name], name.partition("__")
    arguments = (
        {"": {}, "minimalistic": {"minimalistic": True}}.get(tag) or {"alpha": float(tag.partition("=")[2])} if tag else {}
    )
    for top, classes in (("top", {}), ("notop", {"num_classes": 0})):
        params, stats = parameters(f"keras/{model}", expected["input_size"][0] or 224, **arguments, **classes)
        counters = "normalization" in stats  # Keras's layer counts its batches
        assert (count(params), count(stats) + counters) == (expected[top]["trainable"], expected[top]["non_trainable"])


@pytest.mark.parametrize("library", ["torchvision", "keras", "timm"])
def test_image_size_is_the_references(library):
    for name, expected in COUNTS[library].items():
        ours = f"{library}/{name.partition('__')[0]}".removeprefix("torchvision/")
        side = expected["input_size"][0 if library == "keras" else 1]
        assert not known(ours) or side in (None, image_size(ours)), name
