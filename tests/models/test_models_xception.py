"""Xception against Keras and timm."""

import json

import pytest
from common.promises import GOLDEN, count, initialised_layers, parameters

from jaxcnn.errors import UserError


@pytest.mark.parametrize("name", ["legacy_xception", "xception41", "xception65", "xception71"])
def test_parameters_are_timms(name):
    counts = json.loads((GOLDEN / "param_counts.json").read_text())["timm"]
    assert count(parameters(f"timm/{name}")[0]) == counts[name]["params"]


def test_starts_as_the_libraries_do():
    paths = ["block1/sepconv2_depthwise", "last_sepconv2_pointwise"]
    depthwise, pointwise = initialised_layers("timm/legacy_xception", paths, 32)
    assert depthwise["kernel"].std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.05)
    assert pointwise["kernel"].std() == pytest.approx((2 / 2048) ** 0.5, rel=0.01)
    depthwise, pointwise, head = initialised_layers("keras/Xception", [*paths, "head"], 32)
    assert depthwise["kernel"].std() == pytest.approx((2 / (9 + 9 * 128)) ** 0.5, rel=0.05)
    assert pointwise["kernel"].std() == pytest.approx((2 / (1536 + 2048)) ** 0.5, rel=0.01)
    assert (head["bias"] == 0).all()
    depthwise, pointwise = initialised_layers(
        "timm/xception41", ["block13/sepconv3_depthwise", "block13/sepconv3_pointwise"], 32
    )
    assert 0.99 / 3 < abs(depthwise["kernel"]).max() <= 1 / 3
    assert 0.99 * 1536**-0.5 < abs(pointwise["kernel"]).max() <= 1536**-0.5


def test_head_falls_away_without_classes():
    for name in ("keras/Xception", "timm/xception41"):
        params, _ = parameters(name, 32, channels=5, num_classes=0)
        assert "head" not in params
        assert params["stem_conv"]["kernel"].shape == (3, 3, 5, 32)


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match="6×6 is too small for keras/Xception: at least 7×7"):
        parameters("keras/Xception", 6)
