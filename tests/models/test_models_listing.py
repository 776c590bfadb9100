"""The models that list_models returns, and the limits that it rejects."""

import json

import pytest
from common.promises import GOLDEN

from jaxcnn.errors import UserError
from jaxcnn.models import list_models
from jaxcnn.models.listing import costs
from jaxcnn.models.registry import find

TORCHVISION = {
    name: expected
    for name, expected in json.loads((GOLDEN / "param_counts.json").read_text())["torchvision"].items()
    if name in list_models()
}


def test_list_models_matches_and_sorts():
    assert list_models("resnet1??") == ["resnet101", "resnet110", "resnet152"]
    assert list_models() == sorted(list_models())
    assert list_models("nothing*") == []
    assert {"lenet5", "lenet5_relu", "resnet20", "resnet50"} <= set(list_models())


@pytest.mark.parametrize("limit", ["params", "macs"])
def test_size_limits_use_the_references_counts(limit):
    """A network whose count equals the limit is included."""
    for name, expected in TORCHVISION.items():
        argument = {"params": "max_parameters", "macs": "max_macs"}[limit]
        listed = set(list_models(**{argument: expected[limit]})) & set(TORCHVISION)
        assert listed == {model for model in TORCHVISION if TORCHVISION[model][limit] <= expected[limit]}, name


def test_limits_of_year_and_weights():
    assert list_models("vgg*", since=2015) == []
    assert {"resnet50", "densenet121"} & set(list_models(since=2016)) == {"densenet121"}
    assert list_models("resnet50*", weights="torchvision") == ["resnet50"]
    assert list_models("*Xception", weights="any") == list_models("*Xception", weights="keras") == ["keras/Xception"]
    assert "resnet20" in list_models(weights="other")
    assert {costs(name).weights for name in list_models(weights="any")} == {"torchvision", "keras", "timm", "other"}


def test_limits_can_be_combined():
    assert (
        list_models("*mobile*", max_parameters=4e6, max_macs=310e6, since=2018, weights="timm")
        == [
            name
            for name in list_models("timm/*mobile*")
            if costs(name).parameters <= 4e6 and costs(name).macs <= 310e6 and find(name).year >= 2018
        ]
        == ["timm/mobilenetv4_conv_small"]
    )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_parameters": -1}, "list_models: max_parameters: expected a finite number of at least 0, got -1"),
        ({"max_macs": "5M"}, "list_models: max_macs: expected a finite number of at least 0, got '5M'"),
        ({"since": 2015.5}, "list_models: since: expected an int of at least 0, got 2015.5"),
        (
            {"weights": "tim"},
            r"weights: expected one of keras, .*, any; got 'tim' \(did you mean \"timm\"\?\)",
        ),
        ({"weights": ""}, "weights: expected one of "),
    ],
)
def test_wrong_limits_are_refused(limits, message):
    with pytest.raises(UserError, match=message):
        list_models(**limits)
