"""A network's layers with their output shapes and parameters, as Keras's `model.summary()` prints them."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from flax.traverse_util import flatten_dict


class Layer(NamedTuple):
    """One row: a module that calls no other, or one that owns parameters beside those of its children.

    `output_shape` has None for the batch. `parameters` counts what is trained and this module itself owns,
    `statistics` its batch statistics (batch norm's running mean and variance).
    """

    path: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    statistics: int = 0


def summarize(model: nn.Module, image_shape: Sequence[int], *, dtype: Any = jnp.float32) -> list[Layer]:
    """The layers of `model` for images of `image_shape` (H, W, C), in the order in which they are called.

    The network is traced, not compiled or run, so a large one costs no memory. A module called several times stands
    where it was first called. The rows' parameters add up to the whole: what belongs to no module that was called is
    counted with the one above it.
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
    """The table in plain text, with its totals; Param # counts batch statistics too, as Keras does."""
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
    """The shape as Keras writes it: (None, 28, 28, 6)."""
    return f"({', '.join(map(str, shape))})"


def total_counts(layers: Iterable[Layer]) -> dict[str, int]:
    """Total, trainable and non-trainable parameters; the last are the batch statistics."""
    layers = list(layers)
    trainable = sum(layer.parameters for layer in layers)
    statistics = sum(layer.statistics for layer in layers)
    return {
        "Total params": trainable + statistics,
        "Trainable params": trainable,
        "Non-trainable params (batch statistics)": statistics,
    }


def _owned(collection: Any, paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """How many numbers of the collection each path owns: an array belongs to the longest path that leads to it."""
    counts = dict.fromkeys(paths, 0)
    for path, array in flatten_dict(meta.unbox(collection)).items():
        owner = next(path[:depth] for depth in range(len(path), -1, -1) if path[:depth] in counts)
        counts[owner] += sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(array))
    return counts


def _without_batch(shape: tuple[int, ...]) -> tuple[int | None, ...]:
    # The trace has one image, so a leading 1 is the batch.
    return (None, *shape[1:]) if shape[:1] == (1,) else shape
