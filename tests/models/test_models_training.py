"""A few steps on real photos lower the loss, in both types, of each family whose own tests do not show it; of short networks
where the whole one takes minutes."""

import pytest
from promises import check_training

from jaxcnn.models import registry
from jaxcnn.models.efficientnet import V1, scaled
from jaxcnn.models.fractalnet import FractalNet
from jaxcnn.models.registry import find

SHORT = {
    "fractalnet": (FractalNet, {"columns": 2, "widths": (16, 32)}),
    "efficientnet": ("torchvision/efficientnet_b0", {"design": scaled(V1, 0.5, 0.3)}),
    "keras_resnet": ("keras/ResNet50", {"depths": (1, 1, 1, 1)}),
}
LENETS = {"learning_rate": 1.0, "steps": 8}
SETTINGS = {
    "lenet1": {"size": 28, **LENETS},
    "lenet4": LENETS,
    "lenet5": LENETS,
    "efficientnet": {"size": 64, "learning_rate": 0.003, "steps": 6, "dropout": 0.0, "stochastic_depth_prob": 0.0},
    "mnasnet0_5": {"size": 64, "learning_rate": 0.0003, "steps": 6, "dropout": 0.0},
    "mobilenet_v2": {"steps": 6},
    "cbam_resnet18": {},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", sorted(SHORT.keys() | SETTINGS.keys()))
def test_training_lowers_the_loss(name, dtype, monkeypatch):
    if name in SHORT:
        module, fields = SHORT[name]
        if isinstance(module, str):
            module, fields = find(module).module, find(module).fields | fields
        monkeypatch.setitem(registry._VARIANTS, name, registry.Variant(module, fields))
    check_training(name, dtype=dtype, **{"size": 32, **SETTINGS.get(name, {})})
