"""The cost of a network: its parameters and multiply-accumulates, computed from shapes."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Cost(NamedTuple):
    """The cost of evaluating a network on one image."""

    parameters: int
    macs: int
    """multiply-accumulates of convolutions and matrix products; norms, activations and pooling do not count"""


def cost(model: nn.Module, image_shape: tuple[int, int, int]) -> Cost:
    """Returns the cost of `model` in evaluation mode on an image of shape (H, W, C).

        cost(create_model("resnet50"), (224, 224, 3))  # Cost(parameters=25557032, macs=4089184256)

    The model is neither compiled nor run.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, images)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return Cost(parameters, sum(_macs(equation, times) for equation, times in _equations(jaxpr.jaxpr)))


def _equations(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Yields all equations of a jaxpr, including nested ones, and how often each is computed."""
    for equation in jaxpr.eqns:
        yield equation, times
        inner = times * equation.params["length"] if equation.primitive.name == "scan" else times
        for parameter in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            nested = getattr(parameter, "jaxpr", parameter)  # a ClosedJaxpr or a Jaxpr
            if hasattr(nested, "eqns"):
                yield from _equations(nested, inner)


_ONEDNN = ("jaxcnn_convolution", "jaxcnn_convolution_input_gradient")  # the latter is a transposed convolution


def _macs(equation: Any, times: int) -> int:
    if equation.primitive.name not in ("conv_general_dilated", *_ONEDNN, "dot_general"):
        return 0
    inputs, kernel = (variable.aval.shape for variable in equation.invars)
    outputs = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return times * outputs * math.prod(inputs[axis] for axis in contracted)
    numbers = equation.params.get("dimension_numbers")  # only conv_general_dilated has them; jaxcnn_convolution is HWIO
    if equation.primitive.name == _ONEDNN[1] or any(size > 1 for size in equation.params.get("lhs_dilation") or ()):
        return times * math.prod(inputs) // inputs[numbers.lhs_spec[1] if numbers else -1] * math.prod(kernel)  # transposed
    features = kernel[numbers.rhs_spec[0] if numbers else -1]
    return times * outputs * math.prod(kernel) // features
