"""Muon's formulas in NumPy."""

import numpy as np


def matrix(kernel):
    """Reshapes (h, w, in, out) to (out, in · h · w), one row per filter, in PyTorch's order."""
    return np.transpose(kernel, (3, 2, 0, 1)).reshape(kernel.shape[3], -1).astype(np.float64)


def kernel_of(matrix, shape):
    h, w, inputs, outputs = shape
    return np.transpose(matrix.reshape(outputs, inputs, h, w), (2, 3, 1, 0))


def newton_schulz(x, steps, coefficients=(3.4445, -4.775, 2.0315)):
    """Approximates the orthogonal factor of x as Jordan does: iterates on x / ‖x‖, transposed if it is tall."""
    a, b, c = coefficients
    x = x / np.linalg.norm(x)
    is_wide = x.shape[0] <= x.shape[1]
    x = x if is_wide else x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if is_wide else x.T
