"""The parts and layers of networks, in order."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from common.kinds import ONE_OF_EACH
from common.promises import parameters

from jaxcnn.models import create_model
from jaxcnn.models.structure import Map, layer_maps, structure


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_each_parameter_is_in_one_layer_and_the_head_is_last(name):
    parts = structure(create_model(name))
    names = [name for part in parts for layer in part.layers for name in layer]
    assert sorted(names) == sorted(parameters(name, 320)[0])
    assert parts[-1].name == "head"
    assert {"stem_conv", "C1", "H1", "stage1"} & set(parts[0].layers[0])
    assert not any("stem" in layer or "head" in layer for part in parts[1:-1] for layer in part.layers)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet20", {
            "stem": [("stem_conv", "stem_norm")],
            **{f"stage{s}": [(f"stage{s}_block{b}",) for b in (1, 2, 3)] for s in (1, 2, 3)},
            "head": [("head",)],
        }),
        ("vgg11_bn", {  # stages of convolutions, each with its norm
            "stage1": [("stem_conv", "stem_norm")],
            "stage2": [("stage2_conv1", "stage2_norm1")],
            **{f"stage{s}": [(f"stage{s}_conv{n}", f"stage{s}_norm{n}") for n in (1, 2)] for s in (3, 4, 5)},
            "head": [("fc1",), ("fc2",), ("head",)],
        }),
        ("timm/convnextv2_atto", {  # a norm before a convolution belongs to that convolution
            "stem": [("stem_conv", "stem_norm")],
            "stage1": [("stage1_block1",), ("stage1_block2",)],
            "stage2": [("stage2_norm", "stage2_conv"), ("stage2_block1",), ("stage2_block2",)],
            "stage3": [("stage3_norm", "stage3_conv"), *[(f"stage3_block{b}",) for b in range(1, 7)]],
            "stage4": [("stage4_norm", "stage4_conv"), ("stage4_block1",), ("stage4_block2",)],
            "head": [("head_norm", "head")],
        }),
    ],
)  # fmt: skip
def test_layers_are_in_the_order_of_the_network(name, expected):
    assert {part.name: list(part.layers) for part in structure(create_model(name))} == expected


def test_auxiliary_heads_belong_to_the_head():
    parts = {part.name: part for part in structure(create_model("googlenet"))}
    assert parts["head"].layers == (("aux1_head",), ("aux2_head",), ("head",))
    assert [name for (name,) in parts["stage2"].layers] == [f"inception4{letter}" for letter in "abcde"]


class Scaled(nn.Module):
    """A layer and a parameter that belongs to the network itself. The size of its map does not depend on the image."""

    num_classes: int = 10
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(4, (3, 3), name="conv")(images) * self.param("gain", nn.initializers.ones, ())
        x = jax.image.resize(x, (len(x), 7, 7, 4), "nearest")
        self.sow("intermediates", "resized", x)
        x = x.mean((1, 2))
        return nn.Dense(self.num_classes, name="logits")(x) if self.num_classes else x


def test_parameters_of_the_network_itself_are_in_a_layer():
    stem, head = structure(Scaled())
    assert (stem.name, stem.channels, stem.stride) == ("resized", 4, 0)
    assert {name for layer in stem.layers for name in layer} == {"conv", "gain"}
    assert head.layers == (("logits",),)


def test_maps_of_layers_have_the_strides_of_the_papers_table():
    maps = layer_maps(create_model("mobilenet_v2"))
    assert maps["stage5_block1/expand_norm"] == Map(384, 16)
    assert maps["stage6_block1/expand_norm"] == Map(576, 16)
    assert maps["stage6_block1"] == maps["stage6"] == Map(160, 32)
    assert "head" not in maps


def test_scanned_blocks_have_no_maps():
    maps = layer_maps(create_model("resnet20", scan=True))
    assert maps["stage2_block1/norm1"] == Map(32, 2)
    assert "stage2_block2/norm1" not in maps
