"""LeNet-1 and LeNet-4, highway networks, FractalNet and airbench94 against their papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, parameters

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models import create_model
from jaxcnn.models.airbench import Airbench, whiten
from jaxcnn.models.fractalnet import XAVIER, FractalBlock, FractalNet
from jaxcnn.models.highway import HE, Highway


def init(model, size=32, channels=3):
    return compiled(lambda key: model.init(key, jnp.zeros((1, size, size, channels)), train=False), random_key(0))


def test_lenet1_has_the_2578_parameters_of_1989_layer_by_layer():
    params, _ = parameters("lenet1", 28, channels=1, num_classes=10)
    counts = {layer: count(tree) for layer, tree in params.items()}
    assert counts == {"H1": 104, "H2": 8, "H3": 512, "H4": 24, "head": 1930}
    assert sum(counts.values()) == 2578
    connections = 24 * 24 * 104 + 12 * 12 * 4 * 5 + 8 * 8 * 512 + 4 * 4 * 12 * 5 + 1930
    assert connections == 98_442  # the paper's count; the 512 parameters of H3 are 20 kernels of 5×5 and 12 biases


def test_lenet4_has_the_papers_connections():
    params, _ = parameters("lenet4", 32, channels=1, num_classes=10)
    counts = {layer: count(tree) for layer, tree in params.items()}
    assert counts == {"C1": 104, "S2": 16, "C3": 1216, "S4": 32, "F5": 48_120, "head": 1210}
    connections = 28 * 28 * 104 + 14 * 14 * 8 * 5 + 10 * 10 * 1216 + 5 * 5 * 16 * 5 + 48_120 + 1210
    assert round(connections, -4) == 260_000


@pytest.mark.parametrize(("name", "size", "features"), [("lenet1", 28, 192), ("lenet4", 32, 120)])
def test_small_lenets_refuse_small_images(name, size, features):
    with pytest.raises(UserError, match=f"{size - 1}×{size - 1} is too small for {name}: at least {size}×{size}"):
        parameters(name, size - 1)
    model = create_model(name, num_classes=0, dtype="bfloat16")
    assert jax.eval_shape(lambda: model.apply(init_zeros(model), jnp.zeros((2, 40, 40, 1)), train=False)).shape == (2, features)


def init_zeros(model):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 40, 40, 1)), train=False))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)


def test_lenet1_averages_over_larger_images():
    model = create_model("lenet1")
    variables = init(model, 28, 1)
    images = jax.random.normal(jax.random.key(1), (2, 28, 32, 1))
    apply = jax.jit(lambda x: model.apply(variables, x, train=False))
    np.testing.assert_allclose(apply(images), (apply(images[:, :, :28]) + apply(images[:, :, 4:])) / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "channels", "parameters_", "paper"),
    [
        ("highway10_16", 28, 1, 160 + 8 * 2 * 16 * 145 + 10 * 145, 39_000),
        ("highway10_32", 28, 1, 320 + 8 * 2 * 32 * 289 + 10 * 289, 151_000),
        ("highway19", 32, 3, 2_342_406, 2_300_000),
        ("airbench94", 32, 3, 24 * 13 + 9 * (24 * 64 + 64 * 320 + 3 * 256**2) + 1152 + 2560, 1_972_000),
        ("fractalnet20", 32, 3, 33_724_618, None),  # the paper states 38.6 M, which does not agree with its figure 2
    ],
)
def test_counts(name, size, channels, parameters_, paper):
    exact = count(parameters(name, size, channels)[0])
    assert exact == parameters_
    if paper:
        assert exact == pytest.approx(paper, rel=0.02)


def test_highway19_has_the_parameters_of_its_layers():
    plain = sum(9 * a * b + b for a, b in ((3, 32), (32, 48), (48, 80), (80, 128)))
    gated = sum(n * 2 * (9 * c * c + c) for n, c in ((2, 32), (1, 48), (5, 80), (5, 128)))
    assert plain + gated + 129 * 500 + 501 * 10 == 2_342_406


def test_fractalnet20_has_the_parameters_of_its_layers():
    """Seven convolutions per block without biases, three of them applied to its input; norms; head."""
    total, before = 0, 3
    for width in (64, 128, 256, 512, 512):
        total += 9 * width * (3 * before + 4 * width) + 7 * 2 * width
        before = width
    assert total + 513 * 10 == 33_724_618


def test_closed_gates_return_their_input():
    model = Highway(flavor=HE, widths=((4, 4),), hidden=0)
    variables = init(model, 8)
    gate = variables["params"]["stage1_layer2"]["gate"]
    assert (gate["bias"] == -2).all()
    images = jax.random.normal(jax.random.key(1), (1, 8, 8, 3))
    closed = {"kernel": jnp.zeros_like(gate["kernel"]), "bias": gate["bias"] - 100}
    params = {**variables["params"], "stage1_layer2": {**variables["params"]["stage1_layer2"], "gate": closed}}
    features = Highway(flavor=HE, widths=((4, 4),), hidden=0, num_classes=0).apply({"params": params}, images, train=False)
    shorter = Highway(flavor=HE, widths=((4,),), hidden=0, num_classes=0).apply(
        {"params": {"stem_conv": params["stem_conv"]}}, images, train=False
    )
    np.testing.assert_array_equal(features, shorter)


def test_initialization_of_highway_is_he():
    kernel = init(Highway(flavor=HE, widths=((32, 32),), hidden=0), 8)["params"]["stage1_layer2"]["transform"]["kernel"]
    assert kernel.std() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.03)


def block(**options):
    defaults = {"columns": 3, "filters": 4, "drop_path": 0.0, "dropout": 0.0, "train": True}
    layers = {"conv": XAVIER.conv(jnp.float32), "norm": XAVIER.norm(True, jnp.float32)}  # with running statistics
    return FractalBlock(**defaults | layers | options)


def columns_of(x, variables):
    """Returns the block's output for each column alone and for all columns, computed from the numbered convolutions."""

    def unit(x, number):
        conv, norm = variables["params"][f"conv{number}"], variables["params"][f"norm{number}"]
        y = jax.lax.conv_general_dilated(x, conv["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.relu(y / np.float32(np.sqrt(1 + 1e-5)) * norm["scale"][None, None, None] + norm["bias"][None, None, None])

    alone = [unit(x, 1), unit(unit(x, 2), 5), unit(unit(unit(unit(x, 3), 4), 6), 7)]
    half = (unit(x, 2) + unit(unit(x, 3), 4)) / 2
    together = (unit(x, 1) + unit(half, 5) + unit(unit(half, 6), 7)) / 3

    def pooled(maps):
        n, height, width, channels = maps.shape
        return maps.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))

    return [pooled(maps) for maps in alone], pooled(together)


@pytest.mark.slow
def test_fractal_block_averages_at_joins_and_can_use_a_single_column():
    x = jax.random.normal(jax.random.key(0), (4, 6, 6, 2))
    column = jnp.asarray([0, 1, 2, -1])
    variables = block(train=False).init(jax.random.key(1), x, column)
    alone, together = columns_of(x, variables)
    np.testing.assert_allclose(block(train=False).apply(variables, x, column), together, atol=1e-5)
    drawn = block().apply(variables, x, column, rngs={"dropout": jax.random.key(2)})
    for image, expected in enumerate([*alone, together]):
        np.testing.assert_allclose(drawn[image], expected[image], atol=1e-5)


@pytest.mark.slow
def test_local_drop_path_leaves_one_input_of_a_join():
    x = jax.random.normal(jax.random.key(0), (64, 6, 6, 2))
    column = jnp.full(64, -1)
    variables = block(train=False).init(jax.random.key(1), x, column)
    alone, _ = columns_of(x, variables)
    drawn = block(drop_path=1.0).apply(variables, x, column, rngs={"dropout": jax.random.key(2)})
    nearest = [min(float(np.abs(drawn[i] - path[i]).max()) for path in alone) for i in range(64)]
    shallow = sum(np.allclose(drawn[i], alone[0][i], atol=1e-5) for i in range(64))
    assert np.median(nearest) < 1e-5  # except for paths that change columns at the inner join
    assert 8 < shallow < 36  # a third


@pytest.mark.slow
def test_fractalnet_trains_and_refuses_small_images():
    model = FractalNet(columns=2, widths=(8, 16), num_classes=3)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(1))

    def loss(params, key):
        logits, updates = model.apply(
            {**variables, "params": params}, images, train=True, mutable="batch_stats", rngs={"dropout": key}
        )
        return -jax.nn.log_softmax(logits)[:, 1].mean(), updates

    gradient, updates = compiled(jax.grad(loss, has_aux=True), variables["params"], jax.random.key(2))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, updates)))
    kernel = variables["params"]["stage2"]["conv3"]["kernel"]
    assert np.abs(kernel).max() <= (3 / (9 * 16)) ** 0.5
    assert kernel.std() == pytest.approx((9 * 16) ** -0.5, rel=0.05)
    with pytest.raises(UserError, match="31×31 is too small for fractalnet20: at least 32×32"):
        parameters("fractalnet20", 31)


def test_initialization_of_airbench_is_that_of_the_original():
    params = init(Airbench(widths=(32, 48)))["params"]
    kernel = np.asarray(params["stage1_conv1"]["kernel"])  # 24 inputs, 32 filters
    identity = np.zeros((3, 3, 24, 24))
    identity[1, 1] = np.eye(24)
    np.testing.assert_array_equal(kernel[..., :24], identity)
    assert 0.99 * (9 * 24) ** -0.5 < np.abs(kernel[..., 24:]).max() <= (9 * 24) ** -0.5
    assert params["head"]["kernel"].std(ddof=1) == pytest.approx(1, abs=1e-5)
    assert set(params["stage1_norm1"]) == {"bias"}


def test_whitened_patches_have_unit_covariance_and_their_filters_no_gradient():
    model = Airbench(widths=(8,))
    images = np.random.default_rng(0).normal(size=(50, 12, 12, 3)).cumsum(1).astype(np.float32)  # correlated pixels
    variables = init(model, 12)
    kernel = compiled(functools.partial(whiten, epsilon=0.0), images)
    variables["params"]["stem_conv"] = {**variables["params"]["stem_conv"], "kernel": kernel}
    response = jax.lax.conv_general_dilated(
        images, kernel[..., :12], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(-1, 12)
    np.testing.assert_allclose(response.T @ response / len(response), np.eye(12), atol=1e-3)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])

    def loss(params):
        return model.apply({**variables, "params": params}, images, train=True, mutable="batch_stats")[0][:, 0].sum()

    gradient = compiled(jax.grad(loss), variables["params"])
    assert (gradient["stem_conv"]["kernel"] == 0).all()
    assert (gradient["stem_conv"]["bias"] != 0).any()


@pytest.mark.parametrize(("size", "channels"), [((2, 2), 3), ((3, 2), 1)])
def test_whitening_filters_are_the_scaled_eigenvectors_of_the_patches_covariance(size, channels):
    images = np.random.default_rng(1).normal(size=(20, 9, 10, channels)).cumsum(2) + 0.5
    windows = np.lib.stride_tricks.sliding_window_view(images, size, axis=(1, 2))  # (N, rows, columns, C, h, w)
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size[0] * size[1] * channels)
    covariance = patches.T @ patches / len(patches)
    kernel = np.asarray(compiled(functools.partial(whiten, size=size), images.astype(np.float32)))
    assert kernel.shape == (*size, channels, 2 * len(covariance))
    filters = kernel.reshape(len(covariance), -1).T.astype(np.float64)
    eigenvectors = filters[: len(covariance)]
    np.testing.assert_array_equal(filters[len(covariance) :], -eigenvectors)
    # Σ f fᵀ of filters v / √(λ + ε) is (covariance + ε)⁻¹, whatever their signs; and λ falls
    inverse = np.linalg.inv(covariance + 5e-4 * np.eye(len(covariance)))
    np.testing.assert_allclose(eigenvectors.T @ eigenvectors, inverse, atol=2e-3 * np.abs(inverse).max())
    norms = np.linalg.norm(eigenvectors, axis=1)
    assert (np.diff(norms) >= 0).all()
    np.testing.assert_allclose(norms**-2, np.sort(np.linalg.eigvalsh(covariance))[::-1] + 5e-4, rtol=1e-3)


def test_gradient_of_airbench_goes_to_one_of_equal_maxima():
    model, image = (
        Airbench(widths=(24,), num_classes=0),
        jnp.ones((1, 12, 12, 3)),
    )  # filters copy: all positions equal
    variables = init(model, 12)
    gradient = compiled(jax.grad(lambda image: model.apply(variables, image, train=False).sum()), image)
    rows, columns = np.nonzero(np.asarray(gradient[0]).any(-1))
    assert {*rows, *columns} == {0, 1}  # the first of the 2×2 patches


def test_airbench_divides_its_logits_by_the_width():
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    with_head, without = Airbench(widths=(8, 16)), Airbench(widths=(8, 16), num_classes=0)
    variables = init(with_head)
    features = without.apply(
        {**variables, "params": {k: v for k, v in variables["params"].items() if k != "head"}}, images, train=False
    )
    logits = with_head.apply(variables, images, train=False)
    np.testing.assert_allclose(logits, np.asarray(features) @ variables["params"]["head"]["kernel"] / 16, atol=1e-5)
    with pytest.raises(UserError, match="8×8 is too small for airbench94: at least 9×9"):
        parameters("airbench94", 8)
