"""Networks for segmentation: sizes, counts, and the parts of which they are made, by independent definitions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, parameters

from jaxcnn.errors import UserError
from jaxcnn.layers import TransposedConv, random_key
from jaxcnn.models import create_model, list_models
from jaxcnn.models.registry import find
from jaxcnn.models.segmentation.network import resize_bilinear
from jaxcnn.models.segmentation.segnet import pooled, unpooled
from jaxcnn.weights import adapt_stem, convert

SEGMENTATION = list_models(task="segmentation")
DEEP = ("deeplabv3_resnet101", "deeplabv3_resnet50", "fc_densenet103", "fcn_resnet101", "deeplabv3_plus")  # seconds to trace
ONE_OF_EACH = [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in SEGMENTATION]
ENCODERS = ("encoder_unet", "deeplabv3_plus", "semantic_fpn")


def shapes(name, size, channels=3, train=False, **arguments):
    model = create_model(name, **arguments)
    images = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    apply = lambda v, x: model.apply(  # noqa: E731
        v, x, train=train, mutable=["batch_stats", "auxiliary"], rngs={"dropout": jax.random.key(0)}
    )
    return variables, jax.eval_shape(apply, variables, images)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_logits_have_the_size_of_the_images(name):
    _, (logits, updates) = shapes(name, (65, 97), channels=1, train=True, num_classes=5, dtype="bfloat16")
    assert (logits.shape, logits.dtype) == ((2, 65, 97, 5), jnp.float32)
    assert "auxiliary" not in updates


@pytest.mark.parametrize(
    ("name", "arguments", "channels", "expected"),
    [
        ("fcn_resnet50", {}, 3, 32_957_013),
        ("fcn_resnet50", {"aux_loss": True}, 3, 35_322_218),
        ("fcn_resnet101", {}, 3, 51_949_141),
        ("fcn_resnet101", {"aux_loss": True}, 3, 54_314_346),
        ("deeplabv3_resnet50", {}, 3, 39_638_869),
        ("deeplabv3_resnet50", {"aux_loss": True}, 3, 42_004_074),
        ("deeplabv3_resnet101", {}, 3, 58_630_997),
        ("deeplabv3_resnet101", {"aux_loss": True}, 3, 60_996_202),
        ("deeplabv3_mobilenet_v3_large", {}, 3, 11_025_477),
        ("deeplabv3_mobilenet_v3_large", {"aux_loss": True}, 3, 11_029_328),
        ("lraspp_mobilenet_v3_large", {}, 3, 3_221_538),
        ("unet", {}, 1, 31_030_658),
        ("unet", {"norm": True}, 3, 31_037_698),
    ],
)
def test_parameters_are_as_many_as_the_references(name, arguments, channels, expected):
    assert count(parameters(name, 64, channels, **arguments)[0]) == expected


@pytest.mark.parametrize(("name", "millions"), [("fc_densenet56", 1.4), ("fc_densenet67", 3.5), ("fc_densenet103", 9.3)])
def test_fc_densenets_have_the_papers_size(name, millions):
    assert count(parameters(name, 64, num_classes=11)[0]) == pytest.approx(millions * 1e6, abs=5e4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_mobilenet_v3_large"])
def test_auxiliary_logits_are_sown_only_if_requested(name):
    model = create_model(name, aux_loss=True)
    variables, (_, updates) = shapes(name, (64, 64), aux_loss=True)
    assert [leaf.shape for leaf in jax.tree.leaves(updates["auxiliary"])] == [(2, 64, 64, 21)]
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, images)
    without = create_model(name)
    plain, _ = shapes(name, (64, 64))
    assert len(jaxpr.eqns) == len(jax.make_jaxpr(lambda v, x: without.apply(v, x, train=False))(plain, images).eqns)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "convnext_tiny"])
def test_any_classifier_is_an_encoder(name, encoder):
    variables, (logits, _) = shapes(name, (96, 64), encoder=encoder)
    assert logits.shape == (2, 96, 64, 21)
    expected, _ = parameters(encoder, num_classes=0)
    assert jax.tree.map(jnp.shape, variables["params"]["backbone"]) == jax.tree.map(jnp.shape, expected)


def test_encoder_without_dilation_is_refused_for_deeplab():
    with pytest.raises(UserError, match=r'vgg11: no argument "output_stride"'):
        shapes("deeplabv3_plus", (64, 64), encoder="vgg11")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("fcn_resnet50", {}),
        ("deeplabv3_plus", {"encoder": "resnet18"}),
        ("encoder_unet", {"encoder": "resnet18"}),
        ("semantic_fpn", {"encoder": "resnet18"}),
        ("lraspp_mobilenet_v3_large", {}),
        ("unet", {"norm": True}),
        ("segnet", {}),
        ("fc_densenet56", {}),
    ],
)
def test_argument_of_all_networks_changes_the_training_step_or_is_refused(name, plain):
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    variables, _ = shapes(name, (64, 64), **plain)

    def step(**changed):
        model = create_model(name, **plain | changed)
        rngs = {"dropout": jax.random.key(0)}
        apply = lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"], rngs=rngs)  # noqa: E731
        return re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(apply)(variables, images)))

    unchanged = step()
    for argument, value in {"drop_rate": 0.37, "drop_path_rate": 0.37, "freeze_norm": True, "remat": True}.items():
        if argument in find(name).module.without:
            with pytest.raises(UserError, match=f'{name}: no argument "{argument}"'):
                create_model(name, **{argument: value})
        else:
            assert step(**{argument: value}) != unchanged, argument


def test_frozen_norm_is_refused_by_a_unet_without_norm():
    with pytest.raises(UserError, match="unet: freeze_norm has no effect without norm=True"):
        shapes("unet", (32, 32), freeze_norm=True)


def test_networks_for_segmentation_are_listed_by_task():
    assert {"fcn_resnet50", "unet", "fc_densenet103"} <= set(SEGMENTATION)
    assert not set(SEGMENTATION) & set(list_models())
    assert create_model("torchvision/fcn_resnet50") == create_model("fcn_resnet50")
    with pytest.raises(UserError, match="task: expected one of classification, segmentation; got 'segmentaton'"):
        list_models(task="segmentaton")


@pytest.mark.parametrize("arguments", [{"num_classes": 0}, {"padding": "full"}, {"drop_path_rate": 0.1}])
def test_wrong_argument_is_refused(arguments):
    with pytest.raises(UserError, match="unet"):
        create_model("unet", **arguments)


# ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (4, 2, 1), (3, 1, 1)])
def test_transposed_convolution_adds_a_kernel_per_pixel(size, stride, padding):
    layer = TransposedConv(3, size, stride, padding)
    x = jax.random.normal(jax.random.key(0), (2, 4, 5, 2))
    variables = layer.init(jax.random.key(1), x)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"] + 0.5
    rows, columns = ((length - 1) * stride + size for length in (4, 5))
    expected = np.zeros((2, rows, columns, 3))
    for i in range(4):
        for j in range(5):
            patch = np.einsum("nc,hwfc->nhwf", x[:, i, j], kernel)
            expected[:, i * stride : i * stride + size, j * stride : j * stride + size] += patch
    expected = expected[:, padding : rows - padding, padding : columns - padding] + 0.5
    result = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_gradient_of_a_transposed_convolution_is_that_of_the_dilated_one():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 8))
    layer = TransposedConv(8, 3, 2, use_bias=False)
    kernel = layer.init(jax.random.key(1), x)["params"]["kernel"]

    def by_definition(kernel, x):
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, flipped, (1, 1), ((2, 2), (2, 2)), (2, 2), dimension_numbers=numbers)

    def loss(function):
        return lambda kernel, x: jnp.sin(function(kernel, x)).sum()

    ours = compiled(jax.grad(loss(lambda kernel, x: layer.apply({"params": {"kernel": kernel}}, x)), (0, 1)), kernel, x)
    for gradient, expected in zip(ours, compiled(jax.grad(loss(by_definition), (0, 1)), kernel, x), strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-4)


def test_unpooling_puts_the_maxima_back():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    maxima, places = pooled(x)
    np.testing.assert_array_equal(maxima, x.reshape(2, 2, 2, 3, 2, 3).max((2, 4)))
    result = np.asarray(unpooled(maxima, places))
    np.testing.assert_array_equal(result[result != 0], np.asarray(x)[result != 0])
    assert (result != 0).sum() == maxima.size


def test_bilinear_resizing_is_pytorchs():
    """Positions of pixel centers, without antialiasing: 3 pixels to 6 and 5 to 3."""
    x = jnp.asarray([[0.0, 3.0, 9.0]]).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(resize_bilinear(x, (1, 6))[0, 0, :, 0], [0, 0.75, 2.25, 4.5, 7.5, 9], rtol=1e-6)
    x = jnp.asarray([[0.0, 3.0, 9.0, 1.0, 5.0]]).reshape(1, 1, 5, 1)
    np.testing.assert_allclose(resize_bilinear(x, (1, 3))[0, 0, :, 0], [1, 9, 11 / 3], rtol=1e-6)


def test_unpadded_unet_sees_what_is_around_each_pixel():
    """Away from the borders, logits move with the image."""
    model = create_model("unet", width=2, depth=2, num_classes=3)
    image = jax.random.normal(jax.random.key(0), (1, 60, 50, 1))
    variables = compiled(lambda x: model.init(random_key(1), x, train=False), image)
    network = lambda x: compiled(lambda v, x: model.apply(v, x, train=False), variables, x)  # noqa: E731
    logits, shifted = network(image), network(image[:, 4:])
    margin = 20  # 2 + 4 + 8 pixels of convolutions on the way down, 4 + 2 on the way up
    np.testing.assert_allclose(logits[:, 4 + margin : -margin], shifted[:, margin:-margin], atol=1e-4)
    assert np.abs(logits[:, 4:8] - shifted[:, :4]).max() > 1e-3


def test_first_convolution_adapts_to_gray_images():
    name = "lraspp_mobilenet_v3_large"
    variables = parameters_of(name)
    adapted = adapt_stem(variables, 1)
    kernel = variables["params"]["backbone"]["stem_conv"]["kernel"]
    np.testing.assert_allclose(adapted["params"]["backbone"]["stem_conv"]["kernel"], kernel.sum(2, keepdims=True), rtol=1e-6)
    assert adapted["params"]["low_logits"] is variables["params"]["low_logits"]


def parameters_of(name):
    from jaxcnn.weights.convert import _expected

    rng = np.random.default_rng(0)
    return convert(name, {key: rng.normal(size=entry.shape) for key, entry in _expected(name, {}, {}).items()})
