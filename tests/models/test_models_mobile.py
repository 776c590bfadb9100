"""The mobile families, MobileNet V1 to V4, MnasNet, EfficientNet V1 and V2, against their references."""

import json
from functools import partial
from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import GOLDEN, count, initialized_layers, parameters

from jaxcnn.errors import UserError
from jaxcnn.models import create_model, feature_maps
from jaxcnn.models.mobile_blocks import MobileBlock, divisible
from jaxcnn.weights import convert, export

TIMM = [
    "efficientnet_lite4",
    "fbnetc_100",
    "lcnet_150",
    "mixnet_s",
    "mobilenetv1_125",
    "mobilenetv4_conv_large",
    "tf_efficientnet_b7",
    "tf_efficientnetv2_b3",
    "tinynet_b",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_parameter_count_is_timms(name):
    expected = json.loads((GOLDEN / "param_counts.json").read_text())["timm"][name]["params"]
    assert count(parameters(f"timm/{name}")[0]) == expected


@pytest.mark.parametrize(("percent", "paper"), [(100, 4.2), (75, 2.6), (50, 1.3), (25, 0.5)])
def test_mobilenet_v1_has_the_papers_millions_of_parameters(percent, paper):
    """Table 6 of arXiv:1704.04861; each convolution has a norm with two parameters per channel."""
    widths = [percent * w // 100 for w in (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)]
    separable = sum(9 * a + 2 * a + a * b + 2 * b for a, b in pairwise(widths))
    by_hand = 27 * widths[0] + 2 * widths[0] + separable + 1000 * widths[-1] + 1000
    total = count(parameters(f"mobilenet_v1_{percent:03}")[0])
    assert total == by_hand
    assert total / 1e6 == pytest.approx(paper, abs=0.051)


def deviations(name, *layers):
    """Returns the standard deviation of each kernel."""
    return [layer["kernel"].std() for layer in initialized_layers(name, layers)]


BLOCK = "stage4_block2"  # 64, 384 and 64 channels in MobileNet V2; 40, 240 and 40 in EfficientNet


def test_initialization_is_torchvisions():
    expand, depthwise, project, head = deviations(
        "mobilenet_v2", f"{BLOCK}/expand_conv", f"{BLOCK}/depthwise_conv", f"{BLOCK}/project_conv", "head"
    )
    measured = np.array([expand, depthwise, project, head])
    np.testing.assert_allclose(measured, [(2 / 384) ** 0.5, (2 / (9 * 384)) ** 0.5, (2 / 64) ** 0.5, 0.01], rtol=0.05)


def test_initialization_is_kerass():
    expand, depthwise, head = deviations("keras/MobileNetV2", f"{BLOCK}/expand_conv", f"{BLOCK}/depthwise_conv", "head")
    glorot = [(2 / (64 + 384)) ** 0.5, (2 / (9 * 385)) ** 0.5, (2 / 2280) ** 0.5]
    np.testing.assert_allclose([expand, depthwise, head], glorot, rtol=0.05)


@pytest.mark.parametrize("name", ["efficientnet_b0", "keras/EfficientNetB0", "timm/tf_efficientnet_b0"])
def test_initialization_of_efficientnet_is_that_of_the_library(name):
    block = "stage3_block2"
    layers = (f"{block}/expand_conv", f"{block}/depthwise_conv", f"{block}/squeeze_excite/expand", "head")
    expand, depthwise, excite, head = initialized_layers(name, layers)
    groups = 240 if name == "efficientnet_b0" else 1  # torchvision's fan out includes the outputs of all groups
    measured = [expand["kernel"].std(), depthwise["kernel"].std(), excite["kernel"].std()]
    np.testing.assert_allclose(measured, [(2 / 240) ** 0.5, (2 / (25 * groups)) ** 0.5, (2 / 240) ** 0.5], rtol=0.07)
    assert (np.abs(expand["kernel"]).max() > 3 * measured[0]) == (name != "keras/EfficientNetB0")  # truncated
    assert 0.99 * 1000**-0.5 < np.abs(head["kernel"]).max() <= 1000**-0.5
    assert (head["bias"] == 0).all()


def test_initialization_of_mnasnets_head_is_torchvisions():
    (head,) = initialized_layers("mnasnet0_5", ["head"])
    assert head["kernel"].std() == pytest.approx(1000**-0.5, rel=0.02)
    assert np.abs(head["kernel"]).max() <= (3 / 1000) ** 0.5


def shapes(name, images, **arguments):
    model = create_model(name, **arguments)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(images), train=False))
    return variables["params"], jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, jnp.zeros(images))


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("mobilenet_v1_050", 512),
        ("mobilenet_v2", 1280),
        ("keras/MobileNetV3Small", 576),
        ("efficientnet_b0", 1280),
        ("timm/mobilenetv4_conv_small", 960),
    ],
)
def test_without_classes_features_are_pooled_and_there_is_no_head(name, features):
    params, pooled = shapes(name, (2, 45, 33, 5), num_classes=0)
    assert (pooled.shape, pooled.dtype) == ((2, features), jnp.float32)
    assert not {"head", "hidden", "hidden_norm"} & set(params)
    assert params["stem_conv"]["kernel"].shape[2] == 5


def test_too_small_images_are_refused_by_name():
    with pytest.raises(UserError, match="30×64 is too small for keras/MobileNet: at least 31×31"):
        shapes("keras/MobileNet", (1, 30, 64, 3))
    assert shapes("keras/MobileNet", (1, 31, 31, 3))[1].shape == (1, 1000)
    assert shapes("mobilenet_v2", (1, 1, 1, 3))[1].shape == (1, 1000)
    with pytest.raises(UserError, match="0×8 is too small for mobilenet_v2"):
        shapes("mobilenet_v2", (1, 0, 8, 3))


def test_feature_maps_are_those_of_the_stages():
    model, images = create_model("timm/lcnet_050", num_classes=2), jnp.zeros((1, 64, 64, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    maps = jax.eval_shape(lambda v: feature_maps(model, v, images), variables)
    assert {name: x.shape[1:] for name, x in maps.items()} == {
        "stem": (32, 32, 8), "stage1": (32, 32, 16), "stage2": (16, 16, 32), "stage3": (8, 8, 64), "stage4": (4, 4, 128),
        "stage5": (4, 4, 128), "stage6": (2, 2, 256)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("efficientnet_b0", (16, 24, 40, 112, 320)),
        ("keras/MobileNetV3Small", (16, 16, 24, 48, 576)),
        ("mobilenet_v2", (16, 24, 32, 96, 320)),
        ("mobilenet_v3_large", (16, 24, 40, 112, 960)),
        ("timm/mobilenetv4_conv_small", (32, 32, 64, 96, 960)),
    ],
)
def test_feature_levels_are_those_of_timm(name, channels):
    """The last convolution is a level if a hidden layer follows the pool."""
    assert create_model(name, features_only=True).channels == channels


@pytest.mark.parametrize(("channels", "rounded"), [(33.6, 32), (8.4, 8), (2, 8), (11.2, 16), (22.4, 24), (26.7, 32), (26, 24)])
def test_widths_are_rounded_to_multiples_of_8_and_down_by_at_most_a_tenth(channels, rounded):
    assert divisible(channels) == rounded


def layers(name, kind, **arguments):
    """Returns copies of the layers of a kind that are called in training, in order."""
    copies = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, kind) and context.method_name == "__call__":
            copies.append(context.module.clone(parent=None))
        return call(*args, **kwargs)

    model = create_model(name, **arguments)
    with nn.intercept_methods(note):
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        jax.eval_shape(lambda: model.init(keys, jnp.zeros((1, 64, 64, 3)), train=True))
    return copies


def test_rate_of_stochastic_depth_grows_with_depth():
    rates = [block.drop_rate for block in layers("efficientnet_b0", MobileBlock)]
    np.testing.assert_allclose(rates, 0.2 * np.arange(16) / 16)
    keras = [block.drop_rate for block in layers("keras/EfficientNetV2B1", MobileBlock)]
    np.testing.assert_allclose(keras, 0.2 * np.arange(27) / 21)  # its table has 21 blocks before scaling
    assert not any(block.drop_rate for block in layers("timm/tf_efficientnet_b0", MobileBlock))
    with pytest.raises(UserError, match='timm/lcnet_050: no argument "drop_path_rate"'):
        create_model("timm/lcnet_050", drop_path_rate=0.1)


# (kernel, stride, dilation) of convolutions larger than 1×1 in timm 1.0.31, or for MobileNet V3 (`dilated`) in torchvision 0.28
FIRST = [(3, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 1)]
DILATED = {
    ("mobilenet_v2", 8): [*FIRST, (3, 2, 1), *[(3, 1, 1)] * 3, *[(3, 1, 2)] * 7, *[(3, 1, 4)] * 3],
    ("mobilenet_v2", 16): [*FIRST, (3, 2, 1), *[(3, 1, 1)] * 2, (3, 2, 1), *[(3, 1, 1)] * 7, *[(3, 1, 2)] * 3],
    ("timm/tf_efficientnet_b0", 8): [
        *FIRST, (5, 2, 1), (5, 1, 1), (3, 1, 1), *[(3, 1, 2)] * 2, *[(5, 1, 2)] * 4, *[(5, 1, 4)] * 3, (3, 1, 4)
    ],
    ("timm/tf_efficientnetv2_b0", 8): [*FIRST, (3, 2, 1), *[(3, 1, 1)] * 2, *[(3, 1, 2)] * 8, *[(3, 1, 4)] * 7],
    ("timm/mobilenetv4_conv_small", 8): [
        *[(3, 2, 1)] * 3, *[(5, 1, 1)] * 2, *[(3, 1, 2)] * 7, *[(5, 1, 4)] * 4, *[(3, 1, 4)] * 2
    ],
    ("timm/lcnet_050", 8): [*FIRST, (3, 2, 1), *[(3, 1, 1)] * 2, *[(5, 1, 2)] * 6, (5, 1, 4)],
    ("mobilenet_v3_large", 16): [
        *FIRST, (5, 2, 1), *[(5, 1, 1)] * 2, (3, 2, 1), *[(3, 1, 1)] * 5, *[(5, 1, 2)] * 3
    ],
    ("mobilenet_v3_small", 16): [*[(3, 2, 1)] * 3, (3, 1, 1), (5, 2, 1), *[(5, 1, 1)] * 4, *[(5, 1, 2)] * 3],
}  # fmt: skip


@pytest.mark.parametrize(("name", "output_stride"), DILATED)
def test_output_stride_dilates_the_same_convolutions_as_the_library(name, output_stride):
    convolutions = layers(name, nn.Conv, output_stride=output_stride)
    found = [(conv.kernel_size[0], conv.strides, conv.kernel_dilation) for conv in convolutions if conv.kernel_size != (1, 1)]
    assert found == DILATED[name, output_stride]


@pytest.mark.parametrize("name", ["keras/MobileNet", "mobilenet_v3_small", "timm/mixnet_s"])
def test_output_stride_changes_only_sizes(name):
    image = jnp.zeros((1, 64, 64, 3))
    made = {}
    for output_stride in (8, 32):
        model = create_model(name, output_stride=output_stride)
        variables = jax.eval_shape(lambda model=model: model.init(jax.random.key(0), image, train=False))
        maps = jax.eval_shape(lambda v, model=model: feature_maps(model, v, image), variables)
        made[output_stride] = jax.tree.map(lambda x: x.shape, variables), {x.shape[1] for x in maps.values()}
    assert made[8][0] == made[32][0]
    assert (min(made[8][1]), min(made[32][1])) == (8, 2)


def test_output_stride_without_effect_is_refused():
    with pytest.raises(UserError, match="mobilenet_v2: output_stride=16 has no effect: the network's stride is 16"):
        shapes("mobilenet_v2", (1, 32, 32, 3), stem="small", output_stride=16)
    assert shapes("mobilenet_v2", (1, 32, 32, 3), stem="small", output_stride=8)[1].shape == (1, 1000)


def test_only_the_minimalistic_network_has_no_squeeze_excitation():
    for minimalistic in (False, True):
        params, _ = shapes("keras/MobileNetV3Small", (1, 32, 32, 3), minimalistic=minimalistic)
        kernels = {tree["depthwise_conv"]["kernel"].shape[0] for name, tree in params.items() if name.startswith("stage")}
        assert kernels == ({3} if minimalistic else {3, 5})
        assert ("squeeze_excite" in params["stage5_block1"]) != minimalistic


def test_remat_and_external_preprocessing_change_nothing():
    name, arguments = "keras/MobileNetV3Small", {"alpha": 0.25, "minimalistic": True, "num_classes": 3, "dropout_rate": 0.0}
    params, stats = parameters(name, 32, **arguments)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
    variables = {"params": params, "batch_stats": jax.tree.map(lambda x: np.ones(x.shape, np.float32), stats)}
    images = 255 * rng.random((2, 32, 32, 3), np.float32)
    logits = []
    for other, inputs in (({}, images), ({"remat": True, "include_preprocessing": False}, images / 127.5 - 1)):
        model = create_model(name, **arguments, **other)
        apply = partial(model.apply, train=True, mutable=["batch_stats"])
        logits.append(compiled(lambda v, x, apply=apply: apply(v, x)[0], variables, inputs))
    assert np.ptp(logits[0]) > 0
    np.testing.assert_allclose(*logits, rtol=1e-4)


def test_keras_2_names_are_accepted():
    shapes_, stats = parameters("mobilenet_v1_025", 32)
    variables = jax.tree.map(
        lambda x: np.arange(x.size, dtype=np.float32).reshape(x.shape), {"params": shapes_, "batch_stats": stats}
    )
    keras_3 = export("mobilenet_v1_025", variables)
    keras_2 = {
        key.replace("/kernel", "/depthwise_kernel") if "conv_dw" in key else key: value for key, value in keras_3.items()
    }
    assert keras_2["conv_dw_1/depthwise_kernel"].shape == (3, 3, 8, 1)
    jax.tree.map(np.testing.assert_array_equal, convert("mobilenet_v1_025", keras_2), variables)
