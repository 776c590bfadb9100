"""Keras's ResNets (V1)."""

import jax
import numpy as np
import pytest
from common.promises import initialized, parameters


def test_initialization_is_kerass():
    params = initialized("keras/ResNet50", num_classes=100)
    for kernel, fans in (
        (params["stage4_block2"]["conv2"]["kernel"], 9 * 512 + 9 * 512),
        (params["stage4_block1"]["shortcut_conv"]["kernel"], 1024 + 2048),
        (params["head"]["kernel"], 2048 + 100),
    ):
        assert 0.99 * (6 / fans) ** 0.5 < np.abs(kernel).max() <= (6 / fans) ** 0.5
        assert kernel.std() == pytest.approx((2 / fans) ** 0.5, rel=0.02)
    biases = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if "bias" in jax.tree_util.keystr(path)]
    assert len(biases) == 53 + 53 + 1
    assert not any(np.any(bias) for bias in biases)


def test_small_stem_and_unusual_number_of_channels():
    params, _ = parameters("keras/ResNet50", 32, channels=5, stem="small")
    assert params["stem_conv"]["kernel"].shape == (3, 3, 5, 64)
