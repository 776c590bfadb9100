"""A few steps on real photos lower the loss, in both types, of each family whose own tests do not show it; of short networks
where the whole one takes minutes."""

import pytest
from common.promises import check_training

from jaxcnn.models import mnasnet, mobilenet_v1, mobilenet_v2, registry
from jaxcnn.models.efficientnet import V1, scaled
from jaxcnn.models.fractalnet import FractalNet
from jaxcnn.models.mobilenet_v3 import SMALL
from jaxcnn.models.nasnet import NASNet
from jaxcnn.models.registry import find
from jaxcnn.models.repvgg import RepVGG

CELL = {"depth": 1, "features": 96, "stem_filters": 8, "stem_cells": False, "skip_reduction": False, "flavour": "timm"}
ONE_BLOCK_A_STAGE = {"depths": (1, 1, 1, 1)}


def shorter(name, rows):
    design = find(name).fields["design"]
    return name, {"design": design._replace(stages=tuple(design.stages[row] for row in rows), depth=lambda repeats: 1)}


SHORT = {
    "nasnet": (NASNet, CELL),
    "repvgg": (RepVGG, {"depths": (1, 2), "widths": (16, 32, 128), "groups": 4}),
    "fractalnet": (FractalNet, {"columns": 2, "widths": (16, 32)}),
    "efficientnet": ("torchvision/efficientnet_b0", {"design": scaled(V1[:5], 0.5, 0.3)}),
    "keras_resnet": ("keras/ResNet50", ONE_BLOCK_A_STAGE),
    "cbam": ("cbam_resnet18", ONE_BLOCK_A_STAGE),
    "lcnet": shorter("timm/lcnet_050", (0, 1, 2, -1)),
    "mobilenet_v3": ("mobilenet_v3_small", {"stages": SMALL[:3]}),
    "mobilenet_v4": shorter("timm/mobilenetv4_conv_small", (0, 2)),
    "nf_resnet": ("timm/nf_resnet26", ONE_BLOCK_A_STAGE),
    "resnet_cifar": ("resnet20", {"depth": 1}),
    "resnet_v2": ("resnet50_v2", ONE_BLOCK_A_STAGE),
    "resnetv2_bit": ("timm/resnetv2_50x1_bit", ONE_BLOCK_A_STAGE),
    "seresnet": ("timm/seresnet18", ONE_BLOCK_A_STAGE),
    "wide_resnet": ("wrn_16_4", {"depth": 1, "filters": (32, 64, 128)}),
}
LENETS, SIX_STEPS = {"learning_rate": 1.0, "steps": 8}, {"steps": 6}
SETTINGS = {
    "lenet1": {"size": 28, "learning_rate": 0.1, "steps": 6},
    "lenet4": LENETS,
    "lenet5": LENETS,
    "nasnet": {"size": 16, "learning_rate": 0.1},
    "shufflenet_v1_g3_x0_25": {"learning_rate": 0.03, "steps": 8},
    "nf_resnet": {"learning_rate": 0.1, "drop_rate": 0.1, "drop_path_rate": 0.1},
    "wide_resnet": {"dropout": 0.3},
    "efficientnet": {"learning_rate": 1e-4, "steps": 6, "dropout": 0.0, "stochastic_depth_prob": 0.0},
    "mnasnet0_5": {"learning_rate": 3e-5, "steps": 6, "dropout": 0.0},
    "mobilenet_v1_025": SIX_STEPS,
    "mobilenet_v2": SIX_STEPS,
    "mobilenet_v4": {"learning_rate": 3e-5, "steps": 6},
    "mobilenet_v3": {"learning_rate": 0.1, "steps": 6},
    "repvgg": {"learning_rate": 0.1},
    "resnet_cifar": SIX_STEPS,
    "lcnet": SIX_STEPS,
}


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    """Whole mobile networks at a batch of 8 are chaotic: their loss jumps about however small the steps."""
    for module in (mnasnet, mobilenet_v1, mobilenet_v2):
        monkeypatch.setattr(module, "STAGES", tuple(row._replace(repeats=1) for row in module.STAGES[:4]))


@pytest.mark.parametrize("name", sorted(SHORT.keys() | SETTINGS.keys()))
def test_training_lowers_the_loss(name, monkeypatch):
    if name in SHORT:
        module, fields = SHORT[name]
        if isinstance(module, str):
            module, fields = find(module).module, find(module).fields | fields
        monkeypatch.setitem(registry._VARIANTS, name, registry.Variant(module, fields))
    check_training(name, **{"size": 32, **SETTINGS.get(name, {})})
