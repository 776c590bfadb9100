"""Feature maps by stage, for explanations, detection and segmentation."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax


def feature_maps(model: nn.Module, variables: Mapping[str, Any], images: jax.Array) -> dict[str, jax.Array]:
    """{"stage1": (N, H, W, C), …}: what each stage of a model in evaluation gives, from the images to the head.

    Every model names its own: `stem` and `stage1` to `stage4` in a ResNet. They are in the model's compute type, in the
    order of the network (sorted by name where the caller jits this). What comes after the last stage falls away in jit.
    """
    _, sown = model.apply(variables, images, train=False, mutable=["intermediates"])
    return {name: maps for name, (maps,) in sown["intermediates"].items()}
