"""The CIFAR networks against section 4.2 of the paper."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled

from jaxcnn.layers import BatchNorm, conv
from jaxcnn.models import create_model
from jaxcnn.models.network import Striding
from jaxcnn.models.resnet_cifar import Block


def init(name):
    return create_model(name).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)


def parameters_of(layers):
    """Convolutions without bias, norms with two parameters per channel, and the head; shortcuts have no parameters."""
    n = (layers - 2) // 6
    count = 9 * 3 * 16 + 2 * 16
    for inputs, filters in ((16, 16), (16, 32), (32, 64)):
        count += 9 * inputs * filters + (2 * n - 1) * 9 * filters**2 + 2 * n * 2 * filters
    return count + 64 * 10 + 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layers", "millions"), [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7"), (1202, "19.4")]
)
def test_parameter_count_is_the_papers(layers, millions):
    params = jax.eval_shape(lambda: init(f"resnet{layers}"))["params"]
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == parameters_of(layers)
    assert f"{count / 1e6:.{len(millions.split('.')[1])}f}" == millions
    assert sum("kernel" in jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)) == layers


@pytest.mark.slow
def test_shortcut_takes_every_second_pixel_and_pads_channels_on_both_sides():
    block = Block(8, Striding(2), conv, partial(BatchNorm, use_running_average=True, scale_init=jax.nn.initializers.zeros))
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 7, 6, 4)))
    y = np.asarray(block.apply(block.init(jax.random.key(1), x), x))  # with zero scales only the shortcut remains
    np.testing.assert_array_equal(y[..., 2:6], x[:, ::2, ::2])
    np.testing.assert_array_equal(y[..., :2], 0)
    np.testing.assert_array_equal(y[..., 6:], 0)


@pytest.mark.slow
def test_initialization_is_he_fan_in():
    params = compiled(lambda: init("resnet20"))["params"]
    for block, fan_in in (("stage3_block1", 9 * 32), ("stage3_block2", 9 * 64)):
        assert params[block]["conv1"]["kernel"].std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
    assert (params["head"]["bias"] == 0).all()
