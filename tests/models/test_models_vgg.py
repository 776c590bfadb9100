"""VGG against torchvision and Keras; the form for CIFAR against the counts of Network Slimming."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, initialized, parameters

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models import create_model, feature_maps


@pytest.mark.parametrize(
    ("layers", "depths"), [(11, (1, 1, 2, 2, 2)), (13, (2, 2, 2, 2, 2)), (16, (2, 2, 3, 3, 3)), (19, (2, 2, 4, 4, 4))]
)
def test_form_for_cifar_has_norms_instead_of_biases_and_one_linear_layer(layers, depths):
    expected, inputs = 0, 3
    for depth, filters in zip(depths, (64, 128, 256, 512, 512), strict=True):
        for _ in range(depth):
            expected += 9 * inputs * filters + 2 * filters
            inputs = filters
    params, _ = parameters(f"vgg{layers}_cifar", 32)
    assert count(params) == expected + 512 * 10 + 10
    assert sum("kernel" in layer for layer in params.values()) == layers - 2


@pytest.mark.parametrize(("classes", "parameters_of_the_paper"), [(10, "20.04"), (100, "20.08")])
def test_vgg19_for_cifar_is_that_of_network_slimming(classes, parameters_of_the_paper):
    """Table 1 of arXiv:1708.06519; with biases, the second count would be 20.09 M."""
    params, _ = parameters("vgg19_cifar", 32, num_classes=classes)
    assert f"{count(params) / 1e6:.2f}" == parameters_of_the_paper


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "keras/VGG16", "vgg11_cifar"])
def test_without_classes_it_returns_the_means_of_the_last_maps(name):
    params, _ = parameters(name, num_classes=0, channels=4)
    assert params["stem_conv"]["kernel"].shape == (3, 3, 4, 64)
    assert not {"fc1", "fc2", "head"} & set(params)
    model = create_model(name, num_classes=0)
    pooled = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0], jnp.zeros((2, 40, 32, 4)))
    assert (pooled.shape, pooled.dtype) == ((2, 512), jnp.float32)


@pytest.mark.parametrize(("name", "least"), [("vgg11", 32), ("keras/VGG16", 32), ("vgg11_cifar", 16)])
def test_too_small_images_are_refused(name, least):
    parameters(name, least)
    with pytest.raises(UserError, match=f"too small for {name}: at least {least}×{least}"):
        parameters(name, least - 1)


@pytest.mark.slow
def test_initialization_is_torchvisions():
    params = initialized("vgg11")
    kernel = params["stage3_conv2"]["kernel"]
    assert kernel.std() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert np.abs(kernel).max() > 4 * kernel.std()
    for layer in ("fc1", "fc2", "head"):
        assert params[layer]["kernel"].std() == pytest.approx(0.01, rel=0.01)
    assert all((layer["bias"] == 0).all() for layer in params.values())


@pytest.mark.slow
def test_keras_flavor_is_initialized_by_glorot():
    params = initialized("keras/VGG16")
    for layer, fans in (("stage4_conv1", 9 * (256 + 512)), ("fc1", 25088 + 4096), ("head", 4096 + 1000)):
        kernel = params[layer]["kernel"]
        assert kernel.std() == pytest.approx((2 / fans) ** 0.5, rel=0.01)
        assert np.abs(kernel).max() <= (6 / fans) ** 0.5
    assert all((layer["bias"] == 0).all() for layer in params.values())


@pytest.mark.slow
def test_last_maps_of_form_for_cifar_are_2_by_2_and_the_head_has_their_means():
    model = create_model("vgg11_cifar")
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(0))
    maps = feature_maps(model, variables, images)
    assert [x.shape[1:] for x in maps.values()] == [
        (32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512), (2, 2, 512)
    ]  # fmt: skip
    head = variables["params"]["head"]
    logits = np.asarray(maps["stage5"]).mean((1, 2)) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(logits, model.apply(variables, images, train=False), atol=1e-5)


@pytest.mark.slow
def test_dropout_is_active_only_in_training():
    model = create_model("vgg11_cifar", dropout=0.5, freeze_norm=True)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(0))

    def logits(train, seed=0):
        return model.apply(variables, images, train=train, rngs={"dropout": jax.random.key(seed)})

    np.testing.assert_array_equal(logits(False, 0), logits(False, 1))
    assert np.abs(logits(True, 0) - logits(True, 1)).max() > 1e-3
