"""Inception v4, Inception-ResNet and BN-Inception against timm, Keras and TensorFlow."""

import flax.traverse_util
import pytest
from common.promises import count, initialized_layers, parameters

from jaxcnn.errors import UserError


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters_of_timm"), [("inception_v4", 42_679_816), ("inception_resnet_v2", 55_843_464)])
def test_name_without_prefix_has_timms_parameters(name, parameters_of_timm):
    params, _ = parameters(name, 75)
    assert count(params) == count(parameters(f"timm/{name}", 75)[0]) == parameters_of_timm


def test_bn_inception_has_the_variables_of_tensorflow_slim():
    """Slim's test of inception_v2_base expects 10,173,112, including running statistics and excluding scales of norms.

    Slim's first convolution has 64 biases, because separable convolutions have no norm with its arguments.
    """
    params, stats = parameters("inception_bn", num_classes=0)
    scales = sum(v.size for path, v in flax.traverse_util.flatten_dict(params).items() if path[-1] == "scale")
    assert count(params) + count(stats) - scales == 10_173_112 - 64 + 3 * 64
    assert count(parameters("inception_bn")[0]) == 11_188_288


def test_inception_resnet_v1_has_the_papers_layers():
    """Figures 10 to 14 as (size, inputs, outputs) of each convolution; those without bias have a norm with two vectors."""
    stem = [(9, 3, 32), (9, 32, 32), (9, 32, 64), (1, 64, 80), (9, 80, 192), (9, 192, 256)]
    a = [(1, 256, 32)] * 3 + [(9, 32, 32)] * 3
    reduction_a = [(9, 256, 384), (1, 256, 192), (9, 192, 192), (9, 192, 256)]
    b = [(1, 896, 128)] * 2 + [(7, 128, 128)] * 2
    reduction_b = [(1, 896, 256)] * 3 + [(9, 256, 384), (9, 256, 256), (9, 256, 256), (9, 256, 256)]
    c = [(1, 1792, 192)] * 2 + [(3, 192, 192)] * 2
    normed = stem + 5 * a + reduction_a + 10 * b + reduction_b + 5 * c
    expand = 5 * [(96, 256)] + 10 * [(256, 896)] + 5 * [(384, 1792)]
    expected = sum(size * i * o + 2 * o for size, i, o in normed) + sum(i * o + o for i, o in [*expand, (1792, 1000)])
    assert count(parameters("inception_resnet_v1", 75)[0]) == expected == 22_756_328


@pytest.mark.slow
def test_initialization_is_that_of_the_library():
    for name, block in (("inception_v4", "mixed_7d/branch3_conv3"), ("inception_resnet_v2", "block8_10/branch2_conv3")):
        (layer,) = initialized_layers(name, [block], 75)
        height, width, inputs, _ = layer["kernel"].shape
        bound = (height * width * inputs) ** -0.5
        assert 0.99 * bound < abs(layer["kernel"]).max() <= bound
        assert layer["kernel"].std() == pytest.approx(bound / 3**0.5, rel=0.01)
    (expand,) = initialized_layers("inception_resnet_v2", ["block8_10/expand"], 75)
    assert 0.99 * 448**-0.5 < abs(expand["bias"]).max() <= 448**-0.5
    expand, convolution = initialized_layers("keras/InceptionResNetV2", ["block8_10/expand", "mixed_7a/branch3_conv3"], 75)
    assert (expand["bias"] == 0).all()
    assert convolution["kernel"].std() == pytest.approx((2 / (9 * (288 + 320))) ** 0.5, rel=0.01)
    (convolution,) = initialized_layers("inception_bn", ["inception5b/branch3_conv3"])
    assert convolution["kernel"].std() == pytest.approx((2 / (9 * 224)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(("name", "features"), [("inception_v4", 1536), ("inception_resnet_v1", 1792), ("inception_bn", 1024)])
def test_without_classes_there_is_no_head(name, features):
    with_head, without = (parameters(name, 75, channels=2, num_classes=classes)[0] for classes in (7, 0))
    assert with_head.pop("head")["kernel"].shape == (features, 7)
    assert with_head == without


@pytest.mark.parametrize("name", ["inception_resnet_v1", "googlenet", "timm/xception41", "squeezenet1_0", "highway19"])
def test_remat_keeps_all_names(name):
    assert parameters(name, 75, remat=True) == parameters(name, 75)


def test_too_small_images_are_refused():
    for name in ("inception_v4", "timm/inception_resnet_v2"):
        with pytest.raises(UserError, match=f"74×74 is too small for {name}: at least 75×75"):
            parameters(name, 74)
