"""Muon's formulas in NumPy."""

import numpy as np


def matrix(kernel):
    """(h, w, in, out) -> (out, in · h · w): a row a filter, as PyTorch keeps them."""
    return np.transpose(kernel, (3, 2, 0, 1)).reshape(kernel.shape[3], -1).astype(np.float64)


def kernel_of(matrix, shape):
    h, w, inputs, outputs = shape
    return np.transpose(matrix.reshape(outputs, inputs, h, w), (2, 3, 1, 0))


def newton_schulz(x, steps, coefficients=(3.4445, -4.775, 2.0315)):
    """x (X Xᵀ)⁰ nearly, as Jordan has it: iterations on the matrix divided by its norm, laid on its longer side."""
    a, b, c = coefficients
    x = x / np.linalg.norm(x)
    lies = x.shape[0] <= x.shape[1]
    x = x if lies else x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if lies else x.T
