"""LeNet-5 against the paper: its counts, its table I, and its formulas in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled

from jaxcnn.errors import UserError
from jaxcnn.models import create_model

# Table I of the paper: rows are the maps of S2, columns those of C3.
TABLE_I = """
X . . . X X X . . X X X X . X X
X X . . . X X X . . X X X X . X
X X X . . . X X X . . X . X X X
. X X X . . X X X X . . X . X X
. . X X X . . X X X X . X X . X
. . . X X X . . X X X X . X X X
"""
CONNECTED = np.array([[c == "X" for c in row.split()] for row in TABLE_I.split("\n") if row])


def init(name, channels=1):
    images = jnp.zeros((1, 32, 32, channels))
    return create_model(name).init(jax.random.key(0), images, train=False)["params"]


@pytest.fixture(scope="module")
def lenet5():
    return compiled(lambda: init("lenet5"))


def parameters(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_lenet5_has_the_papers_parameters_layer_by_layer():
    params = jax.eval_shape(lambda: init("lenet5"))
    counts = {layer: parameters(tree) for layer, tree in params.items()}
    assert counts == {"C1": 156, "S2": 12, "C3": 1516, "S4": 32, "C5": 48120, "F6": 10164, "head": 850}


def test_lenet5_relu_has_61706_parameters():
    assert parameters(jax.eval_shape(lambda: init("lenet5_relu"))) == 61_706


def squash(a):
    return 1.7159 * np.tanh(2 * a / 3)


def conv5(x, kernel, bias):
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(1, 2))
    return np.einsum("nyxcij,ijco->nyxo", windows, kernel) + bias


def subsample(x, params):
    n, h, w, c = x.shape
    sums = x.reshape(n, h // 2, 2, w // 2, 2, c).sum((2, 4))
    return sums * params["scale"].reshape(c) + params["bias"].reshape(c)


def test_lenet5_computes_the_formulas_of_the_paper(lenet5):
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda p: np.asarray(p) + random.uniform(-0.05, 0.05, p.shape), lenet5)
    images = random.normal(size=(2, 32, 32, 1))

    dense = np.zeros((5, 5, 6, 16))
    connection = 0
    for target in range(16):
        for source in sorted(np.flatnonzero(CONNECTED[:, target]), key=lambda s: _order(s, target)):
            dense[:, :, source, target] = params["C3"]["kernel"][:, :, connection]
            connection += 1
    assert connection == 60

    x = squash(conv5(images, params["C1"]["kernel"], params["C1"]["bias"]))
    x = squash(subsample(x, params["S2"]))
    x = squash(conv5(x, dense, params["C3"]["bias"]))
    x = squash(subsample(x, params["S4"]))
    x = squash(conv5(x, params["C5"]["kernel"], params["C5"]["bias"]))[:, 0, 0]
    x = squash(x @ params["F6"]["kernel"] + params["F6"]["bias"])
    expected = x @ params["head"]["kernel"] + params["head"]["bias"]

    single = jax.tree.map(jnp.float32, params)
    logits = compiled(lambda p, x: create_model("lenet5").apply({"params": p}, x, train=False), single, jnp.float32(images))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def _order(source, target):
    """C3's connections are stored by map, in cyclic order of the six inputs from the first neighbor."""
    return (source - target % 6) % 6 if target < 15 else source


@pytest.mark.parametrize(("layer", "fan_in"), [("C1", 25), ("S2", 4), ("C5", 400), ("F6", 120), ("head", 84)])
def test_lenet5_is_initialized_uniformly_within_the_papers_bounds(lenet5, layer, fan_in):
    weights = np.abs(lenet5[layer]["scale" if layer == "S2" else "kernel"])
    assert weights.max() <= 2.4 / fan_in
    if weights.size > 100:
        assert weights.max() > 0.95 * 2.4 / fan_in
        assert weights.std() == pytest.approx(2.4 / fan_in / math.sqrt(12), rel=0.1)


def test_initialization_of_c3_depends_on_the_inputs_of_each_map(lenet5):
    kernel = np.abs(lenet5["C3"]["kernel"])
    start = 0
    for inputs in CONNECTED.sum(0):
        bound = 2.4 / (25 * inputs)
        assert 0.9 * bound < kernel[:, :, start : start + inputs].max() <= bound
        start += inputs
    assert start == kernel.shape[2] == 60


@pytest.mark.parametrize("name", ["lenet5", "lenet5_relu"])
@pytest.mark.parametrize("size", [(8, 8), (31, 64), (64, 31)])
def test_too_small_images_are_refused_by_name(name, size):
    with pytest.raises(UserError, match=f"{size[0]}×{size[1]} is too small for {name}: at least 32×32"):
        jax.eval_shape(lambda: create_model(name).init(jax.random.key(0), jnp.zeros((1, *size, 1)), train=False))


def test_images_without_channels_are_refused():
    with pytest.raises(UserError, match=r"lenet5: expected images of shape \(N, H, W, C\), got \(2, 32, 32\)"):
        jax.eval_shape(lambda: create_model("lenet5").init(jax.random.key(0), jnp.zeros((2, 32, 32)), train=False))
