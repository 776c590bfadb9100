"""ResNets with attention, deep stems and antialiasing against timm; CBAM against its paper's count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.promises import count, initialized, parameters

from jaxcnn.layers import BatchNorm, blur_pool
from jaxcnn.models.cbam import CBAM


def test_blocks_initially_equal_their_shortcuts():
    params = initialized("timm/resnet18d")
    assert all((params[block]["norm2"]["scale"] == 0).all() for block in params if block.startswith("stage"))
    assert params["stem_conv3"]["kernel"].std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


def test_blur_preserves_constants_and_removes_alternating_values():
    x = jnp.ones((1, 7, 6, 2)) * jnp.asarray([1.0, 3.0]).reshape(1, 1, 1, 2)
    np.testing.assert_allclose(blur_pool(x, 2), x[:, ::2, ::2], rtol=1e-6)
    alternating = jnp.asarray([1.0, -1.0] * 4).reshape(1, 8, 1, 1) * jnp.ones((1, 8, 8, 1))
    np.testing.assert_allclose(blur_pool(alternating, 1), 0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "resnet", "blocks", "millions"),
    [
        ("cbam_resnet18", "resnet18", [(2, 64), (2, 128), (2, 256), (2, 512)], "11.78"),
        ("cbam_resnet50", "resnet50", [(3, 256), (4, 512), (6, 1024), (3, 2048)], "28.09"),
        ("cbam_resnet101", "resnet101", [(3, 256), (4, 512), (23, 1024), (3, 2048)], "49.33"),
    ],
)
def test_cbam_adds_two_layers_and_a_normalized_7x7_convolution_per_block(name, resnet, blocks, millions):
    """The expected counts in millions are those of the paper's table 4."""
    added = sum(n * (2 * c * (c // 16) + c // 16 + c + 49 * 2 + 2) for n, c in blocks)
    params, _ = parameters(name)
    assert count(params) == count(parameters(resnet)[0]) + added
    assert f"{count(params) / 1e6:.2f}" == millions


@pytest.mark.slow
def test_cbam_gates_channels_by_mean_and_maximum_then_positions():
    def norm(momentum, scale_init, name):
        return BatchNorm(use_running_average=True, momentum=momentum, name=name)  # a scale of 1

    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 16))
    module = CBAM(16, norm=norm, dtype=jnp.float32)
    variables = module.init(jax.random.key(1), x)
    p = jax.tree.map(np.asarray, variables["params"])

    def dense(v, layer):
        return v @ p[layer]["kernel"] + p[layer]["bias"]

    x = np.asarray(x)
    both = [dense(np.maximum(dense(v, "channel_reduce"), 0), "channel_expand") for v in (x.mean((1, 2)), x.max((1, 2)))]
    gated = x / (1 + np.exp(-sum(both)))[:, None, None]
    padded = np.pad(np.stack([gated.max(-1), gated.mean(-1)], -1), ((0, 0), (3, 3), (3, 3), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(1, 2))
    spatial = np.einsum("nhwcij,ijco->nhwo", windows, p["spatial_conv"]["kernel"]) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(module.apply(variables, x), gated / (1 + np.exp(-spatial)), atol=1e-5)
