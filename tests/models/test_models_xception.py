"""Xception against Keras and timm."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import GOLDEN, count, initialized_layers, parameters

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models import create_model, feature_maps
from jaxcnn.models.registry import find

STEPS = {
    8: [*[(2, 1)] * 2, (1, 1), *[(1, 2)] * 9, (1, 4)],
    16: [*[(2, 1)] * 3, *[(1, 1)] * 9, (1, 2)],
    32: [*[(2, 1)] * 3, *[(1, 1)] * 8, (2, 1), (1, 1)],
}
"""(stride of the last convolution, dilation of all three) of each block of timm 1.0.31's xception41, by output_stride."""


@pytest.mark.parametrize("name", ["legacy_xception", "xception41", "xception65", "xception71"])
def test_parameter_count_is_timms(name):
    counts = json.loads((GOLDEN / "param_counts.json").read_text())["timm"]
    assert count(parameters(f"timm/{name}")[0]) == counts[name]["params"]


def test_initialization_is_that_of_the_library():
    paths = ["block1/sepconv2_depthwise", "last_sepconv2_pointwise"]
    depthwise, pointwise = initialized_layers("timm/legacy_xception", paths, 32)
    assert depthwise["kernel"].std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.05)
    assert pointwise["kernel"].std() == pytest.approx((2 / 2048) ** 0.5, rel=0.01)
    depthwise, pointwise, head = initialized_layers("keras/Xception", [*paths, "head"], 32)
    assert depthwise["kernel"].std() == pytest.approx((2 / (9 + 9 * 128)) ** 0.5, rel=0.05)
    assert pointwise["kernel"].std() == pytest.approx((2 / (1536 + 2048)) ** 0.5, rel=0.01)
    assert (head["bias"] == 0).all()
    depthwise, pointwise = initialized_layers(
        "timm/xception41", ["block13/sepconv3_depthwise", "block13/sepconv3_pointwise"], 32
    )
    assert 0.99 / 3 < abs(depthwise["kernel"]).max() <= 1 / 3
    assert 0.99 * 1536**-0.5 < abs(pointwise["kernel"]).max() <= 1536**-0.5


def test_without_classes_there_is_no_head():
    for name in ("keras/Xception", "timm/xception41"):
        params, _ = parameters(name, 32, channels=5, num_classes=0)
        assert "head" not in params
        assert params["stem_conv"]["kernel"].shape == (3, 3, 5, 32)


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match="6×6 is too small for keras/Xception: at least 7×7"):
        parameters("keras/Xception", 6)


@pytest.mark.parametrize("output_stride", STEPS)
def test_strides_and_dilations_of_blocks_are_timms(output_stride):
    recorded = {}

    def noted(call, args, kwargs, context):
        if isinstance(layer := context.module, nn.Conv):
            recorded["/".join(layer.path)] = layer.strides, layer.kernel_dilation
        return call(*args, **kwargs)

    with nn.intercept_methods(noted):
        parameters("timm/xception41", output_stride=output_stride)
    convolutions = {"stem_conv": (2, 1), "stem_conv2": (1, 1)}
    for block, (stride, dilation) in enumerate(STEPS[output_stride], start=1):
        for n in (1, 2, 3):
            convolutions[f"block{block}/sepconv{n}_depthwise"] = stride if n == 3 else 1, dilation
            convolutions[f"block{block}/sepconv{n}_pointwise"] = 1, 1
        if block in (1, 2, 3, 12):
            convolutions[f"block{block}/shortcut_conv"] = stride, 1
    assert recorded == convolutions


@pytest.mark.slow
def test_dilated_maps_contain_the_strided_ones(monkeypatch):
    monkeypatch.setitem(find("timm/xception41").fields, "entry", ((8, 2), (8, 2), (16, 2)))
    monkeypatch.setitem(find("timm/xception41").fields, "middle", 1)
    images = jax.random.normal(jax.random.key(1), (1, 96, 64, 3))
    strided, dilated = (create_model("timm/xception41", output_stride=stride) for stride in (32, 8))
    variables = compiled(lambda key: strided.init(key, images, train=False), random_key(0))
    few, many = (compiled(lambda v, x, m=m: feature_maps(m, v, x)["stage4"], variables, images) for m in (strided, dilated))
    assert (few.shape, many.shape) == ((1, 3, 2, 2048), (1, 12, 8, 2048))
    np.testing.assert_allclose(few, many[:, ::4, ::4], atol=1e-5 * np.abs(few).max())
