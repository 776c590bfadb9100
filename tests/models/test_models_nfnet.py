"""NF-ResNets and NFNets against timm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.promises import count, initialized, parameters

from jaxcnn.layers import ScaledStandardizedConv, conv
from jaxcnn.models.nfnet import scaled_gelu

COUNTS = (71489284, 132634256, 193779228, 254924200, 316069172, 377214144, 438359116)  # timm's dm_nfnet_f0 to f6


@pytest.mark.slow
@pytest.mark.parametrize("number", range(7))
def test_parameter_count_is_timms(number):
    assert count(parameters(f"timm/dm_nfnet_f{number}")[0]) == COUNTS[number]


@pytest.mark.slow
def test_blocks_initially_equal_their_shortcuts_and_kernels_are_timms():
    params = initialized("timm/nf_resnet26", num_classes=100)
    assert all((params[block]["conv3"]["gain"] == 0).all() for block in params if block.startswith("stage"))
    assert (params["stage1_block1"]["conv1"]["gain"] == 1).all()
    assert params["stage4_block2"]["conv2"]["kernel"].std() == pytest.approx((9 * 512) ** -0.5, rel=0.01)
    assert params["head"]["kernel"].std() == pytest.approx(0.01, rel=0.02)


@pytest.mark.slow
def test_scaled_convolution_and_activation_preserve_the_variance():
    x = jax.random.normal(jax.random.key(0), (8, 16, 16, 64))
    layer = conv(64, 1, kind=ScaledStandardizedConv)
    y, variables = layer.init_with_output(jax.random.key(1), scaled_gelu(x) - scaled_gelu(x).mean())
    assert scaled_gelu(x).var() == pytest.approx(1, rel=0.02)
    assert y.var() == pytest.approx(1, rel=0.1)
    variables["params"]["kernel"] = 5 * variables["params"]["kernel"] + 3  # removed by standardization
    np.testing.assert_allclose(layer.apply(variables, scaled_gelu(x) - scaled_gelu(x).mean()), y, atol=2e-3)


def test_convolution_with_zero_gain_returns_zero():
    zero = conv(4, 3, kind=ScaledStandardizedConv)
    x = jnp.ones((1, 5, 5, 2))
    variables = zero.init(jax.random.key(0), x)
    variables["params"]["gain"] = jnp.zeros(4)
    np.testing.assert_array_equal(zero.apply(variables, x), 0)
