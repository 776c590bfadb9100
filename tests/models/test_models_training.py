"""The gradient of every family, for networks with few blocks: correct in float32, and similar in bfloat16."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common.compiling import compile_quickly, compiled
from sklearn.datasets import load_sample_images

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models import (
    create_model,
    inception_resnet,
    registry,
    regnet,
    shufflenet_v1,
)
from jaxcnn.models.densenet import HE, DenseNet
from jaxcnn.models.efficientnet import V1, scaled
from jaxcnn.models.fractalnet import FractalNet
from jaxcnn.models.googlenet import GoogLeNet
from jaxcnn.models.inception_bn import BNInception
from jaxcnn.models.inception_v3 import InceptionV3
from jaxcnn.models.inception_v4 import InceptionV4
from jaxcnn.models.registry import find
from jaxcnn.models.repvgg import RepVGG


def rows(name, chosen, repeats=1):
    """Returns some rows of a mobile network's table with this number of repeats."""
    design = find(name).fields["design"]
    chosen = design._replace(stages=tuple(design.stages[row] for row in chosen))
    return name, {"design": chosen.scaled(int, depth=lambda _: repeats)}


CELL = {"depth": 1, "features": 96, "stem_filters": 8, "stem_cells": False, "skip_reduction": False}
DENSE = {
    "flavor": HE,
    "depths": (2, 2),
    "growth": 4,
    "stem_filters": 8,
    "bottleneck": True,
    "compression": 0.5,
    "stem": "small",
}
BLOCK_35 = inception_resnet.V1._replace(stages=[inception_resnet.V1.stages[0]._replace(depth=2)])
TWO_STAGES = {"depths": (1, 1, 0, 0)}
ALL_STAGES = {"depths": (1, 1, 1, 1)}
FEW_BLOCKS = {
    "cbam_resnet18": ("cbam_resnet18", TWO_STAGES),
    "convmixer": ("timm/convmixer_768_32", {"width": 16, "depth": 2}),
    "convnextv2": ("timm/convnextv2_atto", {"depths": (1, 1), "widths": (40, 80)}),
    "densenet": (DenseNet, DENSE),
    "efficientnet": ("torchvision/efficientnet_b0", {"design": scaled(V1[:4], 0.5, 0.5)}),
    "fractalnet": (FractalNet, {"columns": 2, "widths": (16, 32)}),
    "inception_resnet_v1": ("inception_resnet_v1", {"plan": BLOCK_35}),
    "keras/ResNet50": ("keras/ResNet50", ALL_STAGES),
    "lcnet": rows("timm/lcnet_050", (0, 1, 2, -1)),
    "mnasnet0_5": rows("mnasnet0_5", range(2), 2),
    "mobilenet_v1_025": rows("mobilenet_v1_025", range(4)),
    "mobilenet_v2": rows("mobilenet_v2", range(2), 2),
    "mobilenet_v3": rows("mobilenet_v3_small", range(3)),
    "mobilenet_v4": rows("timm/mobilenetv4_conv_small", (0, 2)),
    "nasnet": ("timm/nasnetalarge", CELL),
    "nf_resnet": ("timm/nf_resnet26", TWO_STAGES),
    "repvgg": (RepVGG, {"depths": (1, 2), "widths": (16, 32, 128), "groups": 4}),
    "resnet18": ("resnet18", ALL_STAGES),
    "resnet20": ("resnet20", {"depth": 1}),
    "resnet50_v2": ("resnet50_v2", ALL_STAGES),
    "resnetv2_50x1_bit": ("timm/resnetv2_50x1_bit", TWO_STAGES),
    "seresnet18": ("timm/seresnet18", TWO_STAGES),
    "wide_resnet": ("wrn_16_4", {"depth": 1, "filters": (32, 64, 128)}),
    "xception": ("keras/Xception", {"middle": 0}),
    "xception_aligned": ("timm/xception41", {"entry": ((64, 1),), "middle": 0}),
}
FEW_ROWS = (
    *(
        (network, "stages", ({}, {}, {name: network.stages[2][name]}))
        for network, name in (
            (GoogLeNet, "inception5b"),
            (BNInception, "inception5b"),
            (InceptionV3, "mixed_7c"),
            (InceptionV4, "mixed_7d"),
        )
    ),
    (regnet, "stages", lambda *_: [(1, 24, 8), (2, 56, 8)]),
    (shufflenet_v1, "DEPTHS", (1, 2, 1)),
)
ARGUMENTS = {
    "alexnet": {"size": 63},
    "convnextv2": {"drop_path_rate": 0.1},
    "googlenet": {"aux_logits": False},
    "inception_resnet_v1": {"size": 75, "drop_path_rate": 0.1},
    "inception_v3": {"size": 75, "aux_logits": False},
    "inception_v4": {"size": 75},
    "lenet1": {"size": 28},
    "nasnet": {"size": 16},
    "nf_resnet": {"drop_rate": 0.1, "drop_path_rate": 0.1},
    "nin": {"size": 16},
    "resnet18": {"stem": "small"},
    "squeezenet1_1": {"size": 48},
    "wide_resnet": {"drop_rate": 0.3},
    "xception": {"drop_path_rate": 0.1},
    "xception_aligned": {"drop_path_rate": 0.1},
}
WITHOUT_ARGUMENTS = (
    "airbench94", "all_cnn_a", "highway10_16", "inception_bn", "lenet4", "lenet5", "shufflenet_v1_g3_x0_25",
    "shufflenet_v2_x0_5", "timm/regnety_002", "vgg11_cifar",
)  # fmt: skip
NETWORKS = sorted({*FEW_BLOCKS, *ARGUMENTS, *WITHOUT_ARGUMENTS})


def module_of(name):
    """Returns the class of the network."""
    module, _ = FEW_BLOCKS.get(name, (name, {}))
    return find(module).module if isinstance(module, str) else module


DEEP = ("inception_v3", "inception_v4", "nasnet")
QUICK = ("lenet5", "mobilenet_v2", "resnet20")
"""Networks that `make test` compiles in bfloat16, for which XLA needs twice as much time on CPUs as for float32."""


class Loss:
    """Training loss of a network on eight crops of two photos as a function of its parameters, with fixed dropout masks."""

    def __init__(self, name, size=32, **arguments):
        photos = load_sample_images().images
        crops = [photo[y : y + size, x : x + size] for photo in photos for y in (0, 150) for x in (40, 360)]
        self.images = jnp.asarray(np.stack(crops), jnp.float32) / 127.5 - 1
        self.labels = jnp.asarray([0] * 4 + [1] * 4)
        self.model = create_model(name, num_classes=2, **arguments)
        self.variables = compiled(lambda key: self.model.init(key, self.images[:1], train=False), random_key(0))
        self.params = self.variables.pop("params")

    def __call__(self, params, **changed):
        variables, rngs = {"params": params} | self.variables, {"dropout": jax.random.key(1)}
        model = self.model.clone(**changed)
        logits, _ = model.apply(variables, self.images, train=True, mutable=["batch_stats"], rngs=rngs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, self.labels).mean()


@pytest.fixture
def few_blocks(name, monkeypatch):
    """Gives the network `name` few blocks."""
    for module, attribute, short in FEW_ROWS:
        monkeypatch.setattr(module, attribute, short)
    if name in FEW_BLOCKS:
        module, fields = FEW_BLOCKS[name]
        if isinstance(module, str):
            module, fields = find(module).module, find(module).fields | fields
        monkeypatch.setitem(registry._VARIANTS, name, registry.Variant(module, fields))


@pytest.fixture
def loss(name, few_blocks):
    return Loss(name, **ARGUMENTS.get(name, {}))


@pytest.mark.parametrize("name", NETWORKS)
def test_common_arguments_change_the_training_step_or_are_refused(name, few_blocks):
    arguments = {"size": 32, "num_classes": 2, **ARGUMENTS.get(name, {})}
    images = jnp.zeros((2, arguments["size"], arguments.pop("size"), 3))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.eval_shape(lambda: create_model(name, **arguments).init(keys, images, train=False))

    def step(**changed):
        model = create_model(name, **arguments | changed)
        apply = jax.make_jaxpr(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"], rngs=keys))
        return re.sub("0x[0-9a-f]+", "", str(apply(variables)))

    plain = step()
    for argument, value in {"drop_rate": 0.37, "drop_path_rate": 0.37, "freeze_norm": True, "remat": True}.items():
        if argument in find(name).module.without:
            with pytest.raises(UserError, match=f'{name}: no argument "{argument}"'):
                create_model(name, **{argument: value})
        else:
            assert step(**{argument: value}) != plain, argument


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if "remat" not in module_of(name).without])
def test_rematerialized_network_has_the_same_gradient(name, loss):
    """Dropout and stochastic depth use the same masks in the backward pass."""
    plain, recomputed = (
        compiled(jax.grad(partial(loss, remat=remat, drop_path_rate=0.3)), loss.params) for remat in (False, True)
    )
    difference = jax.tree.map(jnp.subtract, plain, recomputed)
    assert dot(difference, difference) < 1e-6 * dot(plain, plain)


def dot(one, other):
    """Returns the dot product of two trees."""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return sum(float(np.vdot(np.float32(a), np.float32(b))) for a, b in leaves)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in NETWORKS])
def test_step_reduces_the_loss_as_predicted_by_the_gradient(name, loss):
    """To first order, a step of t along the gradient g reduces the loss by t·|g|², here a thousandth of the loss."""

    def after_step(params, direction, length):
        return jax.value_and_grad(loss)(jax.tree.map(lambda p, d: p - length * d, params, direction))

    after_step = compile_quickly(after_step, loss.params, loss.params, jnp.float32(0))
    before, gradient = after_step(loss.params, loss.params, jnp.float32(0))
    predicted = 1e-3 * before
    after, _ = after_step(loss.params, gradient, predicted / dot(gradient, gradient))
    assert float(before - after) == pytest.approx(float(predicted), rel=0.15)  # at most 0.09 measured, on AVX2 and AVX-512


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS])
def test_gradient_in_bfloat16_has_nearly_the_direction_of_float32(name, loss):
    """The cosine is at least 0.86 for all of these networks, on AVX2 and AVX-512."""
    exact, rough = (compiled(jax.grad(partial(loss, dtype=dtype)), loss.params) for dtype in (jnp.float32, jnp.bfloat16))
    assert dot(exact, rough) > 0.75 * (dot(exact, exact) * dot(rough, rough)) ** 0.5
