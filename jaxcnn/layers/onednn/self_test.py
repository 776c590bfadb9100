"""Tests on this machine whether oneDNN and the handler compute correct numbers.

Convolutions, norms and their gradients are compared with formulas in float64, random bits with Threefry in NumPy.
"""

from collections.abc import Sequence

import numpy as np

from jaxcnn.layers.onednn.build import Unavailable
from jaxcnn.layers.onednn.library import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT, Library, Shape

SHAPES = (
    Shape(2, 9, 8, 16, 24, (3, 3), (9, 8), padding=((1, 1), (1, 1))),
    Shape(2, 9, 8, 3, 16, (5, 5), (4, 4), strides=(2, 2), padding=((0, 2), (1, 2))),
    Shape(3, 7, 7, 16, 8, (1, 1), (7, 7)),
    Shape(2, 8, 8, 16, 16, (3, 3), (8, 8), padding=((2, 2), (2, 2)), dilation=(2, 2), groups=2),
    Shape(2, 8, 9, 16, 16, (3, 3), (4, 5), strides=(2, 2), padding=((1, 1), (1, 1)), groups=16),
    Shape(1, 5, 29, 64, 32, (3, 3), (3, 15), strides=(2, 2), padding=((1, 1), (1, 1))),  # see kernel_gradient.h
)
NORMS = ((2, 9, 5, 3), (3, 4, 4, 24), (7, 200))
NORM_SETTINGS = (1e-3, 0.0, 1.0)


def check(library: Library) -> None:
    """Runs the test, which takes a few milliseconds.

    Raises:
      Unavailable: a result is wrong.
    """
    random = np.random.default_rng(0)
    for shape in SHAPES:
        x = random.standard_normal((shape.images, shape.height, shape.width, shape.inputs)).astype(np.float32)
        kernel = random.standard_normal((*shape.kernel, shape.inputs // shape.groups, shape.outputs)).astype(np.float32)
        y = random.standard_normal((shape.images, *shape.output, shape.outputs)).astype(np.float32)
        expected = by_definition(shape, x, kernel, y)
        for kind, position, what in (
            (FORWARD, 2, "forward"),
            (INPUT_GRADIENT, 0, "input gradient"),
            (KERNEL_GRADIENT, 1, "kernel gradient"),
        ):
            arrays = [x, kernel, y]
            arrays[position] = np.full_like(arrays[position], np.nan)
            status = library.run(kind, shape, *arrays)
            _compare(f"{what} of {shape}", status, [arrays[position]], [expected[kind]])
    for dims in NORMS if library.supports_norms(1) else ():
        operands = norm_operands(random, dims)
        x, scale, bias, y_gradient, *_ = operands
        mean, var, y, *gradients = (np.full_like(array, np.nan) for array in (scale, scale, x, x, scale, scale))
        status = library.run_norm(NORM_SETTINGS, [x, scale, bias, mean, var, y])
        status |= library.run_norm(NORM_SETTINGS, [x, scale, bias, mean, var, y, *operands[3:], *gradients])
        results, expected_gradients = norm_by_definition(*operands, settings=NORM_SETTINGS)
        _compare(f"batch norm of {dims}", status, [y, mean, var, *gradients], [*results, *expected_gradients])
        y, *gradients = (np.full_like(array, np.nan) for array in (x, x, scale, scale))
        status = library.run_layer_norm(1e-3, [x, scale, bias, y])
        status |= library.run_layer_norm(1e-3, [x, scale, bias, y, y_gradient, *gradients])
        _compare(
            f"layer norm of {dims}",
            status,
            [y, *gradients],
            layer_norm_by_definition(x, scale, bias, y_gradient, epsilon=1e-3),
        )
    key, bits = np.array([2**32 - 1, 7], np.uint32), np.zeros(37, np.uint32)
    library.run_random_bits(key, bits)
    if (bits != np.bitwise_xor(*threefry_by_definition(key, np.zeros_like(bits), np.arange(bits.size, dtype=np.uint32)))).any():
        raise Unavailable("the self-test failed: random bits differ from JAX's")


def _compare(what: str, status: int, found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    pairs = zip(found, expected, strict=True)
    error = np.max([np.abs(a.reshape(b.shape) - b).max() / np.abs(b).max() for a, b in pairs])
    if status or not error < 1e-4:  # usually 1e-6; NaN is an error too
        raise Unavailable(f"the self-test failed: {what} is off by {error:.2g} of the largest value")


def norm_operands(random: np.random.Generator, dims: tuple[int, ...]) -> list[np.ndarray]:
    """Returns random x (…, C), scale and bias (C,), and gradients of y, mean and var, all float32; `dims` is the shape of x."""
    shapes = dims, dims[-1:], dims[-1:], dims, dims[-1:], dims[-1:]
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def norm_by_definition(
    x: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    y_gradient: np.ndarray,
    mean_gradient: np.ndarray,
    var_gradient: np.ndarray,
    *,
    settings: tuple[float, float, float],
) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
    """Returns (y, mean, var) and the gradients of (x, scale, bias) of a batch norm, in float64; y and x are (rows, C).

    The gradient of x comes from the Jacobian of the normalized values, not from the formula that norm.h uses.
    `settings` are epsilon and the bounds of y.
    """
    epsilon, low, high = settings
    x, y_gradient = (array.astype(np.float64).reshape(-1, array.shape[-1]) for array in (x, y_gradient))
    n, mean, var = len(x), x.mean(0), x.var(0)
    deviation = np.sqrt(var + epsilon)
    normal = (x - mean) / deviation
    v = normal * scale + bias
    gradient = np.where((low < v) & (v < high), y_gradient, 0)
    # ∂normal_i / ∂x_j = (δ_ij - 1/n - normal_i · normal_j / n) / deviation
    jacobian = np.eye(n)[:, :, None] - 1 / n - normal[:, None] * normal[None] / n
    x_gradient = np.einsum("ic,ijc->jc", gradient * scale, jacobian) / deviation
    x_gradient += mean_gradient / n + 2 * var_gradient * (x - mean) / n
    return (np.clip(v, low, high), mean, var), (x_gradient, (gradient * normal).sum(0), gradient.sum(0))


def layer_norm_by_definition(
    x: np.ndarray, scale: np.ndarray, bias: np.ndarray, y_gradient: np.ndarray, *, epsilon: float
) -> Sequence[np.ndarray]:
    """Returns y (rows, C) and the gradients of x, scale and bias of a layer norm, in float64.

    It is the batch norm of the transposed array, whose channels are the rows here.
    """
    rows, y_gradient = (array.reshape(-1, array.shape[-1]).T for array in (x, y_gradient))
    ones, zeros = np.ones(rows.shape[1]), np.zeros(rows.shape[1])
    settings = (epsilon, -np.inf, np.inf)
    (normal, *_), _ = norm_by_definition(rows, ones, zeros, y_gradient, zeros, zeros, settings=settings)
    _, (x_gradient, *_) = norm_by_definition(rows, ones, zeros, y_gradient * scale[:, None], zeros, zeros, settings=settings)
    return normal.T * scale + bias, x_gradient.T, (y_gradient * normal).sum(1), y_gradient.sum(1, dtype=np.float64)


def by_definition(shape: Shape, x: np.ndarray, kernel: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the convolution of (x, kernel), the gradients of x from (kernel, y) and of the kernel from (x, y), in float64."""
    x, kernel, y = (array.astype(np.float64) for array in (x, kernel, y))
    (top, bottom), (left, right) = shape.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    results, x_gradient, kernel_gradient = np.zeros_like(y), np.zeros_like(padded), np.zeros_like(kernel)
    inputs, outputs = shape.inputs // shape.groups, shape.outputs // shape.groups
    for row, column, group in np.ndindex(*shape.kernel, shape.groups):
        i, o = slice(group * inputs, (group + 1) * inputs), slice(group * outputs, (group + 1) * outputs)
        rows, columns = (
            slice(at * dilation, at * dilation + (length - 1) * stride + 1, stride)
            for at, dilation, length, stride in zip((row, column), shape.dilation, shape.output, shape.strides, strict=True)
        )
        covered = (slice(None), rows, columns, i)  # the inputs that this pixel of the kernel is multiplied by, per result
        results[..., o] += padded[covered] @ kernel[row, column, :, o]
        x_gradient[covered] += y[..., o] @ kernel[row, column, :, o].T
        kernel_gradient[row, column, :, o] = np.einsum("nhwi,nhwo->io", padded[covered], y[..., o])
    return results, x_gradient[:, top : top + shape.height, left : left + shape.width], kernel_gradient


def threefry_by_definition(key: np.ndarray, high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both halves (n,) of Threefry-2x32-20 (Salmon et al. 2011) of counters, whose halves are `high` and `low` (n,).

    `key` is (2,); all are uint32.
    """
    keys = *key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA)
    high, low = high + keys[0], low + keys[1]
    for round_, rotation in enumerate(np.tile(np.array([13, 15, 26, 6, 17, 29, 16, 24], np.uint32), 3)[:20]):
        high = high + low
        low = (low << rotation | low >> 32 - rotation) ^ high
        if round_ % 4 == 3:
            injection = round_ // 4 + 1
            high, low = high + keys[injection % 3], low + keys[(injection + 1) % 3] + np.uint32(injection)
    return high, low
