"""The layers of a network with their output shapes and parameter counts, in the form of Keras's `model.summary()`."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from flax.traverse_util import flatten_dict


class Layer(NamedTuple):
    """One row of the summary: a module without submodules, or one with parameters in addition to those of its submodules.

    `output_shape` has None for the batch axis. `parameters` counts the module's own trainable parameters, `statistics` its own
    batch statistics (the running mean and variance of batch norm).
    """

    path: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    statistics: int = 0


def summarize(model: nn.Module, image_shape: Sequence[int], *, dtype: Any = jnp.float32) -> list[Layer]:
    """Returns the layers of `model` for images of `image_shape` (H, W, C), in the order of their first call.

    The network is traced, not compiled or run, so this needs no memory for its arrays. The counts of the rows add up to those
    of the network: parameters of a module that was not called itself are counted with its closest called parent.
    """
    kinds: dict[tuple[str, ...], str] = {}
    shapes: dict[tuple[str, ...], tuple[int, ...]] = {}

    def record(method, args, kwargs, context):
        path = context.module.path
        if context.method_name != "setup":
            kinds.setdefault(path, type(context.module).__name__)
        output = method(*args, **kwargs)
        arrays = [leaf for leaf in jax.tree.leaves(output) if hasattr(leaf, "shape")]
        if context.method_name != "setup" and arrays:
            shapes[path] = arrays[0].shape
        return output

    def init(images):
        with nn.intercept_methods(record):
            return model.init(jax.random.key(0), images, train=False)

    variables = jax.eval_shape(init, jax.ShapeDtypeStruct((1, *image_shape), dtype))
    parameters = _owned(variables.get("params", {}), kinds)
    statistics = _owned(variables.get("batch_stats", {}), kinds)

    parents = {path[:depth] for path in kinds for depth in range(len(path))}
    return [
        Layer(
            path="/".join(path) or "(model)",
            kind=kind,
            output_shape=_without_batch(shapes.get(path, ())),
            parameters=parameters[path],
            statistics=statistics[path],
        )
        for path, kind in kinds.items()
        if path not in parents or parameters[path] or statistics[path]
    ]


def as_text(layers: Sequence[Layer]) -> str:
    """Returns the table with its totals as plain text. "Param #" includes batch statistics, as in Keras."""
    rows = [("Layer (type)", "Output Shape", "Param #")]
    rows += [
        (f"{layer.path} ({layer.kind})", shape_text(layer.output_shape), f"{layer.parameters + layer.statistics:,}")
        for layer in layers
    ]
    first, second, third = (max(len(row[column]) for row in rows) for column in range(3))
    lines = [f"{name:<{first}}  {shape:<{second}}  {count:>{third}}" for name, shape, count in rows]
    width = len(lines[0])
    totals = [f"{name}: {count:,}" for name, count in total_counts(layers).items()]
    return "\n".join([lines[0], "═" * width, *lines[1:], "═" * width, *totals])


def shape_text(shape: tuple[int | None, ...]) -> str:
    """Returns the shape as Keras prints it, such as (None, 28, 28, 6)."""
    return f"({', '.join(map(str, shape))})"


def total_counts(layers: Iterable[Layer]) -> dict[str, int]:
    """Returns the numbers of total, trainable and non-trainable parameters by label. The last are the batch statistics."""
    layers = list(layers)
    trainable = sum(layer.parameters for layer in layers)
    statistics = sum(layer.statistics for layer in layers)
    return {
        "Total params": trainable + statistics,
        "Trainable params": trainable,
        "Non-trainable params (batch statistics)": statistics,
    }


def _owned(collection: Any, paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """Returns the number of values per path. An array of the collection belongs to the longest path that contains it."""
    counts = dict.fromkeys(paths, 0)
    for path, array in flatten_dict(meta.unbox(collection)).items():
        owner = next(path[:depth] for depth in range(len(path), -1, -1) if path[:depth] in counts)
        counts[owner] += sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(array))
    return counts


def _without_batch(shape: tuple[int, ...]) -> tuple[int | None, ...]:
    # The trace has one image, so a leading 1 is the batch axis.
    return (None, *shape[1:]) if shape[:1] == (1,) else shape
