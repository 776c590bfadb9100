"""Muon and the optimizer of airbench, compared with their formulas in NumPy."""

import jax
import numpy as np
import optax
import pytest
from common.muon_formulas import kernel_of, matrix, newton_schulz

from jaxcnn.errors import UserError
from jaxcnn.train.optimizers import make_optimizer
from jaxcnn.train.settings import OptimizerSettings

RNG = np.random.default_rng(0)
SHAPES = {"a": (3, 3, 6, 16), "b": (3, 3, 6, 16), "c": (3, 3, 16, 6), "wide": (1, 1, 3, 12)}


def normal(shape):
    return RNG.standard_normal(shape).astype(np.float32)


def muon(params, rate=1.0, **changes):
    return make_optimizer(OptimizerSettings(**{"name": "muon", "momentum": 0.0, **changes}), lambda _: rate, params)


def trained(optimizer, params, gradients):
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return jax.tree.map(np.asarray, params)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 5])
def test_newton_schulz_maps_singular_values_by_its_polynomial_and_keeps_their_vectors(steps):
    gradient = {name: normal(shape) for name, shape in SHAPES.items()}
    update, _ = muon(gradient, muon_steps=steps).update(gradient, muon(gradient).init(gradient), gradient)
    for name in ("a", "b", "c"):
        left, values, right = np.linalg.svd(matrix(gradient[name]), full_matrices=False)
        values = values / np.linalg.norm(values)
        for _ in range(steps):
            values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
        np.testing.assert_allclose(matrix(np.asarray(update[name])), -(left * values) @ right, atol=1e-5)
        if steps == 5:
            assert (values > 0.6).all()
            assert (values < 1.3).all()


@pytest.mark.slow
def test_bfloat16_orthogonalizes_as_well_as_its_precision_allows():
    gradient = {name: normal(shape) for name, shape in SHAPES.items()}
    exact, rounded = (
        muon(gradient, muon_steps=3, muon_dtype=dtype).update(gradient, muon(gradient).init(gradient), gradient)[0]
        for dtype in ("float32", "bfloat16")
    )
    for name in SHAPES:
        assert rounded[name].dtype == np.float32
        error = np.linalg.norm(rounded[name] - exact[name]) / np.linalg.norm(exact[name])
        assert 1e-4 < error < 0.05, name


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_of_muon_are_those_of_airbench(nesterov):
    # airbench94_muon: b = μb + g; g + μb or b is orthogonalized; p · √out / |p| - γ · that
    def formula(p, gradients):
        p, buffer = matrix(p), 0.0
        for gradient in gradients:
            g = matrix(gradient)
            buffer = 0.6 * buffer + g
            update = newton_schulz(g + 0.6 * buffer if nesterov else buffer, 3)
            p = p * len(p) ** 0.5 / np.linalg.norm(p) - 0.24 * update
        return p

    params = {name: normal(shape) for name, shape in SHAPES.items() if name != "wide"}
    gradients = [{name: normal(params[name].shape) for name in params} for _ in range(5)]
    optimizer = muon(params, 0.24, momentum=0.6, nesterov=nesterov, muon_steps=3, rescale_filters=True)
    found = trained(optimizer, params, gradients)
    for name, kernel in params.items():
        expected = kernel_of(formula(kernel, [g[name] for g in gradients]), kernel.shape)
        np.testing.assert_allclose(found[name], expected, atol=2e-5, err_msg=name)


def test_other_coefficients_and_the_factor_of_a_matrix_that_widens():
    coefficients, gradient = (3.4576, -4.7391, 2.0843), {"wide": normal(SHAPES["wide"])}
    optimizer = muon(gradient, muon_steps=2, muon_coefficients=coefficients)
    update, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    expected = -(4**0.5) * newton_schulz(matrix(gradient["wide"]), 2, coefficients)
    np.testing.assert_allclose(matrix(np.asarray(update["wide"])), expected, atol=1e-5)
    with pytest.raises(UserError, match=r"optimizer\.muon_coefficients: expected .a finite number, "):
        muon(gradient, muon_coefficients=(1.0, 2.0))


def test_kernels_of_one_shape_are_orthogonalized_as_one_batch():
    params = {name: normal((3, 3, 4, 8)) for name in "abc"}
    optimizer = muon(params, muon_steps=1)
    text = jax.jit(optimizer.update).lower(params, optimizer.init(params), params).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 3  # X Xᵀ, its square, and the step
    assert all("tensor<3x8x" in line for line in products)


def test_rescaling_does_not_change_other_parameters_and_zero_kernels():
    params = {"bias": normal((5,)), "zero": np.zeros((1, 1, 2, 3), np.float32), "conv": normal((3, 3, 2, 4))}
    gradient = jax.tree.map(np.zeros_like, params)
    found = trained(muon(params, name="sgd", rescale_filters=True), params, [gradient])
    np.testing.assert_array_equal(found["bias"], params["bias"])
    np.testing.assert_array_equal(found["zero"], 0)
    np.testing.assert_allclose(found["conv"], params["conv"] * 2 / np.linalg.norm(params["conv"]), rtol=1e-5)
