"""GoogLeNet against torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.promises import initialized_layers, parameters

from jaxcnn.errors import UserError
from jaxcnn.models import create_model, feature_maps


def test_auxiliary_logits_are_sown_only_in_training_and_on_request():
    model = create_model("googlenet", num_classes=5, dropout_aux=0.0)
    images = jnp.zeros((2, 64, 64, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    assert set(variables) == {"params", "batch_stats"}

    def sown(train, collections):
        rngs = {"dropout": jax.random.key(0)}
        updates = jax.eval_shape(lambda v: model.apply(v, images, train=train, mutable=collections, rngs=rngs)[1], variables)
        return jax.tree.map(lambda x: (x.shape, x.dtype), updates.get("auxiliary"))

    logits = (((2, 5), jnp.float32),)
    assert sown(True, ["batch_stats", "auxiliary"]) == {"aux1": logits, "aux2": logits}
    assert sown(True, ["batch_stats"]) is None
    assert not sown(False, ["auxiliary"])


def test_initialization_is_torchvisions():
    convolution, hidden, head = initialized_layers("googlenet", ["inception5b/branch2_conv2", "aux1_head/fc1", "head"])
    for layer in (convolution, hidden, head):
        assert layer["kernel"].std() == pytest.approx(0.01, rel=0.01)
    assert 0.99 * 1024**-0.5 < np.abs(head["bias"]).max() <= 1024**-0.5


def test_small_stem_preserves_the_resolution():
    model = create_model("googlenet", stem="small", aux_logits=False)
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    maps = jax.eval_shape(lambda v: feature_maps(model, v, images), variables)
    shapes = {name: x.shape[1:] for name, x in maps.items()}
    assert shapes == {"stem": (32, 32, 192), "stage1": (32, 32, 480), "stage2": (16, 16, 832), "stage3": (8, 8, 1024)}


def test_without_classes_there_are_no_heads():
    params, _ = parameters("googlenet", num_classes=0, channels=5)
    assert not {"head", "aux1_head", "aux2_head"} & set(params)
    assert params["stem_conv"]["kernel"].shape == (7, 7, 5, 64)


def test_wrong_images_are_refused():
    with pytest.raises(UserError, match="14×14 is too small for googlenet: at least 15×15"):
        parameters("googlenet", 14)
    with pytest.raises(UserError, match="transform_input: expected images with 3 channels, got 1"):
        parameters("googlenet", channels=1, transform_input=True)
    parameters("googlenet", 15)
