"""Inception v3 against torchvision and Keras."""

import jax
import jax.numpy as jnp
import pytest
from common.promises import initialized_layers, parameters

from jaxcnn.errors import UserError
from jaxcnn.models import create_model


def sown(size, **arguments):
    """Returns the shapes of the auxiliary logits in training for images of this size."""
    model = create_model("inception_v3", num_classes=5, **arguments)
    images, rngs = jnp.zeros((2, size, size, 3)), {"dropout": jax.random.key(0)}
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    assert set(variables) == {"params", "batch_stats"}
    apply = lambda v: model.apply(v, images, train=True, mutable=["batch_stats", "auxiliary"], rngs=rngs)[1]  # noqa: E731
    return jax.tree.map(jnp.shape, jax.eval_shape(apply, variables).get("auxiliary", {}))


@pytest.mark.slow
def test_auxiliary_logits_are_sown_in_training():
    assert sown(299) == {"aux": ((2, 5),)}
    assert sown(96, aux_logits=False) == {}
    with pytest.raises(UserError, match=r"298×298 is too small for the auxiliary head .* at least 299×299"):
        sown(298)


def test_initialization_is_that_of_the_library():
    layers = initialized_layers("inception_v3", ["mixed_7c/branch3_conv2", "aux_head/conv2", "head", "aux_head/fc"], 75)
    for layer, std in zip(layers, (0.1, 0.1, 0.1, 0.001), strict=True):
        assert layer["kernel"].std() == pytest.approx(std, rel=0.01)
    convolution, head = initialized_layers("keras/InceptionV3", ["mixed_7c/branch3_conv2", "head"], 75)
    assert convolution["kernel"].std() == pytest.approx((2 / (9 * (448 + 384))) ** 0.5, rel=0.01)
    assert (head["bias"] == 0).all()


def test_without_classes_there_are_no_heads():
    params, _ = parameters("inception_v3", 75, channels=1, num_classes=0)
    assert not {"head", "aux_head"} & set(params)


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match="74×74 is too small for keras/InceptionV3: at least 75×75"):
        parameters("keras/InceptionV3", 74)
