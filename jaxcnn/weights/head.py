"""Arrays of a model whose shapes depend on the number of classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models import create_model

Shape = tuple[int, int, int]
Path = tuple[str, ...]


def with_fresh(
    name: str, variables: Mapping[str, Any], /, *, input_shape: Shape | None = None, seed: int = 0, **arguments: Any
) -> tuple[dict[str, Any], list[str]]:
    """Completes `variables` for create_model(name, **arguments) with initial values, and returns the names of the new arrays.

    An array that is missing in `variables` or has another shape, such as a head for other classes, is initialized by the model
    from the key of `seed`. Arrays that the model does not have are dropped.
    The model is initialized for images of `input_shape`, (height, width, C), by default 224×224.
    """
    model, loaded = create_model(name, **arguments), flax.traverse_util.flatten_dict(variables)
    input_shape = input_shape or (224, 224, variables["params"]["stem_conv"]["kernel"].shape[2])

    def init(key: jax.Array) -> dict[Path, jax.Array]:
        return flax.traverse_util.flatten_dict(model.init(key, jnp.zeros((1, *input_shape)), train=False))

    shapes = jax.eval_shape(init, random_key(seed))
    missing = [path for path, variable in shapes.items() if path not in loaded or np.shape(loaded[path]) != variable.shape]

    def init_missing(key: jax.Array) -> dict[Path, jax.Array]:
        initial = init(key)
        return {path: initial[path] for path in missing}  # nothing else is computed

    fresh = jax.device_get(jax.jit(init_missing)(random_key(seed))) if missing else {}
    complete = {path: loaded[path] for path in shapes if path in loaded} | fresh
    return flax.traverse_util.unflatten_dict(complete), ["/".join(path[1:]) for path in missing]


def class_axes(name: str, input_shape: Shape, /, **arguments: Any) -> dict[Path, tuple[int, ...]]:
    """Returns the axes along the classes, for each variable of create_model(name, **arguments) that has such axes."""
    # An axis along the classes is one whose length changes with their number.
    seven, eight = (variable_shapes(name, input_shape, **arguments | {"num_classes": number}) for number in (7, 8))
    axes = {
        path: tuple(axis for axis, sizes in enumerate(zip(shape, eight[path], strict=True)) if sizes == (7, 8))
        for path, shape in seven.items()
        if path in eight
    }
    return {path: found for path, found in axes.items() if found}


def without_classes(variables: Mapping[str, Any], axes: Mapping[Path, tuple[int, ...]]) -> dict[str, Any]:
    """Returns `variables` without the arrays that have an entry per class, see `class_axes`."""
    flat = flax.traverse_util.flatten_dict(variables)
    return flax.traverse_util.unflatten_dict({path: array for path, array in flat.items() if path not in axes})


def reordered(variables: Mapping[str, Any], axes: Mapping[Path, tuple[int, ...]], order: Sequence[int]) -> dict[str, Any]:
    """Reorders the classes: class i of the result is class order[i] of `variables`. For `axes` see `class_axes`."""
    flat = flax.traverse_util.flatten_dict(variables)
    for path in axes.keys() & flat.keys():
        for axis in axes[path]:
            flat[path] = np.take(np.asarray(flat[path]), order, axis)
    return flax.traverse_util.unflatten_dict(flat)


def variable_shapes(name: str, input_shape: Shape, /, **arguments: Any) -> dict[Path, tuple[int, ...]]:
    """Returns the variables' shapes of create_model(name, **arguments) for images of `input_shape`, (height, width, C)."""
    model = create_model(name, **arguments)
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    return {path: variable.shape for path, variable in flax.traverse_util.flatten_dict(variables).items()}


def check_shapes(name: str, flat: Mapping[Path, Any], input_shape: Shape, /, **arguments: Any) -> None:
    """Raises UserError unless `flat` has exactly the variables of create_model(name, **arguments), in their shapes."""
    expected, found = variable_shapes(name, input_shape, **arguments), {path: np.shape(array) for path, array in flat.items()}
    different = [path for path in sorted(expected.keys() | found.keys()) if expected.get(path) != found.get(path)]
    if different:
        path, (height, width, channels) = different[0], input_shape
        given = "".join(f", {argument}={value}" for argument, value in arguments.items() if argument != "dtype")
        raise UserError(
            f"weights do not fit {name}{given} for images of {height}×{width}×{channels}: {len(different)} arrays differ; "
            f"{'/'.join(path[1:])}: expected {expected.get(path, 'no such array')}, got {found.get(path, 'none')}"
        )
