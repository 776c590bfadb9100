"""Feature maps, their strides and channels, and Backbones."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.kinds import KINDS, ONE_OF_EACH

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models import create_model, feature_maps
from jaxcnn.models.features import stages


def test_last_feature_map_is_the_input_of_the_head():
    model = create_model("resnet20")
    images = jax.random.normal(jax.random.key(1), (2, 32, 48, 3))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(0))
    assert set(variables) == {"params", "batch_stats"}
    maps = feature_maps(model, variables, images)
    assert {name: x.shape for name, x in maps.items()} == {
        "stem": (2, 32, 48, 16), "stage1": (2, 32, 48, 16), "stage2": (2, 16, 24, 32), "stage3": (2, 8, 12, 64)
    }  # fmt: skip
    assert list(maps) == ["stem", "stage1", "stage2", "stage3"]
    head = variables["params"]["head"]
    logits = np.asarray(maps["stage3"]).mean((1, 2)) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(logits, model.apply(variables, images, train=False), atol=1e-5)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_strides_grow_from_stage_to_stage(name):
    parts = stages(create_model(name))
    strides = [stage.stride for stage in parts.values()]
    assert strides == sorted(strides)
    assert set(strides) <= {1, 2, 4, 8, 16, 32} or len(set(strides)) == 1
    assert strides[-1] >= 4
    assert all(stage.channels > 3 for stage in parts.values())


@pytest.mark.parametrize(
    ("name", "strides", "channels"),
    [  # from the papers' tables; none of these strides is the rounded ratio of sizes
        ("alexnet", [4, 8, 16], [64, 192, 256]),
        ("squeezenet1_0", [2, 4, 8, 16], [96, 256, 512, 512]),
        ("inception_v3", [8, 8, 16, 32], [192, 288, 768, 2048]),
        ("lenet5", [2, 4], [6, 16]),
        ("fractalnet20", [2, 4, 8, 16, 32], [64, 128, 256, 512, 512]),
        ("resnet50", [2, 4, 8, 16, 32], [64, 256, 512, 1024, 2048]),
    ],
)
def test_strides_and_channels_are_those_of_the_paper(name, strides, channels):
    parts = stages(create_model(name))
    assert [stage.stride for stage in parts.values()] == strides
    assert [stage.channels for stage in parts.values()] == channels


def test_maps_of_fractalnet_are_named_by_stage():
    """Blocks of FractalNet have the names of its stages."""
    model = create_model("fractalnet20")
    images = jnp.zeros((2, 32, 64, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    maps = jax.eval_shape(lambda v: feature_maps(model, v, images), variables)
    assert {name: x.shape for name, x in maps.items()} == {
        "stage1": (2, 16, 32, 64), "stage2": (2, 8, 16, 128), "stage3": (2, 4, 8, 256), "stage4": (2, 2, 4, 512),
        "stage5": (2, 1, 2, 512),
    }  # fmt: skip


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_backbone_has_the_models_variables_maps_and_statistics():
    backbone, model = create_model("resnet20", features_only=True, out_indices=(0, -1)), create_model("resnet20", num_classes=0)
    images = jax.random.normal(jax.random.key(1), (2, 32, 48, 3))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(0))
    equal(compiled(lambda key: backbone.init(key, images, train=False), random_key(0)), variables)
    maps = feature_maps(model, variables, images)
    equal(backbone.apply(variables, images, train=False), [maps["stage1"], maps["stage3"]])
    _, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
    _, backbone_updates = backbone.apply(variables, images, train=True, mutable=["batch_stats"])
    equal(backbone_updates, updates)


def test_taps_are_outputs_of_layers():
    """The first convolution, norm and ReLU of the first block, computed separately from the stem's map."""
    taps = ("stage1_block1/norm1", "stage3")
    backbone, model = create_model("resnet20", features_only=True, taps=taps), create_model("resnet20", num_classes=0)
    assert (backbone.strides, backbone.channels) == ((1, 4), (16, 64))
    images = jax.random.normal(jax.random.key(1), (2, 8, 12, 3))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(0))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda v: v + jnp.asarray(rng.uniform(0, 0.1, v.shape), jnp.float32), variables)
    tapped, last = backbone.apply(variables, images, train=False)
    maps = feature_maps(model, variables, images, taps)
    equal([maps["stage1_block1/norm1"], maps["stage3"]], [tapped, last])

    kernel = variables["params"]["stage1_block1"]["conv1"]["kernel"]
    y = jax.lax.conv(maps["stem"].transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (1, 1), "SAME").transpose(0, 2, 3, 1)
    norm = {**variables["params"]["stage1_block1"]["norm1"], **variables["batch_stats"]["stage1_block1"]["norm1"]}
    scale, bias, mean, var = (np.asarray(norm[leaf]) for leaf in ("scale", "bias", "mean", "var"))
    expected = np.maximum((np.asarray(y) - mean) / np.sqrt(var + 1e-5) * scale + bias, 0)
    np.testing.assert_allclose(tapped, expected, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"remat": True}])
def test_taps_reach_into_blocks_in_training(options):
    backbone = create_model("timm/mobilenetv4_conv_small", features_only=True, taps=("stage3_block1/expand_norm",), **options)
    images, keys = jnp.zeros((2, 64, 96, 3)), {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.eval_shape(lambda: backbone.init(keys, images, train=False))
    apply = partial(backbone.apply, train=True, mutable=["batch_stats"], rngs=keys)
    (maps,), updates = jax.eval_shape(lambda v: apply(v, images), variables)
    assert maps.shape == (2, 64 // backbone.strides[0], 96 // backbone.strides[0], backbone.channels[0])
    assert jax.tree.structure(updates["batch_stats"]) == jax.tree.structure(variables["batch_stats"])


@pytest.mark.parametrize(
    ("arguments", "strides"),
    [({}, (2, 4, 8, 16, 32)), ({"output_stride": 16}, (2, 4, 8, 16, 16)), ({"output_stride": 8}, (2, 4, 8, 8, 8))],
)
def test_dilated_backbone_has_the_levels_of_the_plain_one(arguments, strides):
    """The same strides as timm's features_only."""
    backbone = create_model("resnet18", features_only=True, **arguments)
    assert backbone.names == ("stem", "stage1", "stage2", "stage3", "stage4")
    assert backbone.strides == strides


class Detector(nn.Module):
    backbone: nn.Module

    @nn.compact
    def __call__(self, images, *, train):
        return [nn.Conv(7, (1, 1))(maps) for maps in self.backbone(images, train=train)]


@pytest.mark.parametrize("name", ["alexnet", "fractalnet20", *(pytest.param(name, marks=pytest.mark.slow) for name in KINDS)])
def test_backbone_within_another_module_returns_maps_with_its_strides(name):
    backbone = create_model(name, features_only=True)
    detector = Detector(backbone)
    images = jax.ShapeDtypeStruct((2, 128, 192, 3), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.eval_shape(lambda x: detector.init(keys, x, train=True), images)
    maps, _ = jax.eval_shape(
        lambda v, x: detector.apply(v, x, train=True, mutable=["batch_stats"], rngs=keys), variables, images
    )
    assert len(set(backbone.strides)) == len(backbone.strides) == len(backbone.channels) == len(maps)
    for stride, x in zip(backbone.strides, maps, strict=True):
        assert abs(192 / stride - x.shape[2]) <= 5  # reduced by layers without padding
    model = create_model(name, num_classes=0)
    expected = jax.eval_shape(lambda x: model.init(keys, x, train=True), images)
    assert jax.tree.structure(variables["params"]["backbone"]) == jax.tree.structure(expected["params"])


class Sower(nn.Module):
    """Sows a map and the input of the head, or nothing."""

    sows: bool = True
    num_classes: int = 10
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train):
        first = nn.Conv(5, (3, 3), 2, padding="VALID")(images)
        second = nn.Conv(6, (4, 4), 3, padding="VALID")(first)
        for name, x in {"first": first, "pooled": second.mean((1, 2))}.items():
            if self.sows:
                self.sow("intermediates", name, x)
        return second.mean((1, 2))


def test_stages_are_the_maps_whose_size_depends_on_the_images():
    (first,) = stages(Sower()).values()
    assert (first.name, first.channels, first.stride) == ("first", 5, 2)
    assert stages(Sower(sows=False)) == {}
    with pytest.raises(UserError, match="Sower has no feature maps"):
        create_model(f"{__name__}:Sower", features_only=True, sows=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_indices": (0, 4)}, r"lenet5: out_indices: expected indices among 0 stage1 \(stride 2\), 1 stage2 \(stride 4\)"),
        ({"out_indices": (-3,)}, r"or negative ones from the end; got \(-3,\)"),
        ({"out_indices": ()}, r"got \(\)"),
        ({"out_indices": 1}, "lenet5: out_indices: expected a list"),
        ({"out_indices": (1.0,)}, "lenet5: out_indices: expected a list"),
        ({"num_classes": 10}, "lenet5: num_classes has no effect with features_only"),
        ({"features_only": False, "out_indices": (0,)}, "lenet5: out_indices has no effect without features_only"),
        ({"stem": "small"}, 'lenet5: no argument "stem"'),
        ({"taps": ("stage3",)}, r"lenet5: taps: no layer or stage 'stage3' has a feature map \(did you mean \"stage"),
        ({"taps": ("head",)}, "lenet5: taps: no layer or stage 'head' has a feature map"),
        ({"taps": "C1"}, "lenet5: taps: expected a list"),
        ({"taps": ("C1",), "out_indices": (0,)}, "lenet5: out_indices and taps both select the maps"),
        ({"features_only": False, "taps": ("C1",)}, "lenet5: taps has no effect without features_only"),
    ],
)  # fmt: skip
def test_wrong_arguments_of_a_backbone_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        create_model("lenet5", **{"features_only": True, **arguments})
