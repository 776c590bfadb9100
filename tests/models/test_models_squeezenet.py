"""SqueezeNet against torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.promises import count, initialized, parameters

from jaxcnn.errors import UserError
from jaxcnn.models import create_model


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("squeezenet1_0", [(54, 256), (27, 512), (13, 512), (109, 96)]),
        ("squeezenet1_1", [(55, 128), (27, 256), (13, 512), (111, 64)]),
    ],
)
def test_map_sizes_are_those_of_the_published_networks(name, stages):
    """Sizes of the maps of the stem and the three stages."""
    model = create_model(name, num_classes=0)

    def maps(x):
        return model.init_with_output(jax.random.key(0), x, train=False, mutable=["params", "intermediates"])

    _, sown = jax.eval_shape(maps, jnp.zeros((1, 224, 224, 3)))
    assert [maps.shape[2:] for (maps,) in sown["intermediates"].values()] == stages


def test_fire_modules_are_those_of_table_1():
    params, _ = parameters("squeezenet1_0", 224)
    fires = [count(layer) for name, layer in params.items() if "fire" in name]
    expected = []
    for inputs, squeeze in ((96, 16), (128, 16), (128, 32), (256, 32), (256, 48), (384, 48), (384, 64), (512, 64)):
        expand = 4 * squeeze
        expected.append(inputs * squeeze + squeeze + squeeze * expand + expand + 9 * squeeze * expand + expand)
    assert fires == expected  # 11,920, 12,432, … 197,184


def test_initialization_is_torchvisions():
    params = initialized("squeezenet1_1")
    for layer, fan_in in (("squeeze", 512), ("expand1x1", 64), ("expand3x3", 9 * 64)):
        kernel = params["stage3_fire9"][layer]["kernel"]
        assert kernel.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
        assert np.abs(kernel).max() <= (6 / fan_in) ** 0.5
    assert params["head"]["kernel"].std() == pytest.approx(0.01, rel=0.01)
    assert all((leaf == 0).all() for path, leaf in jax.tree_util.tree_leaves_with_path(params) if "bias" in str(path))


@pytest.mark.parametrize(("name", "least"), [("squeezenet1_0", 21), ("squeezenet1_1", 17)])
def test_features_input_channels_and_minimum_size(name, least):
    params, _ = parameters(name, least, channels=1, num_classes=0)
    assert params["stem_conv"]["kernel"].shape[2] == 1
    assert "head" not in params
    with pytest.raises(UserError, match=f"too small for {name}: at least {least}×{least}"):
        parameters(name, least - 1)
