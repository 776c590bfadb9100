"""Augmentation on the device, inside the jitted step: batched, and decided by the step's key alone.

A policy is a list in the config: ("flip", ("random_crop", {"pad": 4})). A new operation is a function
(images, key, **settings) -> images, of any real dtype, and a line in OPERATIONS.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.errors import UserError, did_you_mean


def flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability 1/2. (N, H, W, C)."""
    mirrored = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1, :], images)


def random_crop(images: jax.Array, key: jax.Array, *, pad: int = 4, mode: str = "constant") -> jax.Array:
    """Pads each side by `pad` pixels and cuts the old size out at a random place. (N, H, W, C).

    `mode` is "constant" (zeros; He et al. 2015, section 4.2) or "reflect" (Wide ResNet).
    """
    if pad < 0 or mode not in ("constant", "reflect"):
        raise UserError(f'data.augment: random_crop takes pad >= 0 and mode "constant" or "reflect", not {pad}, {mode!r}')
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=mode)
    offsets = jax.random.randint(key, (images.shape[0], 2), 0, 2 * pad + 1)

    def cut(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], jnp.zeros_like(offset[0])), images.shape[1:])

    return jax.vmap(cut)(padded, offsets)


OPERATIONS: dict[str, Callable[..., jax.Array]] = {"flip": flip, "random_crop": random_crop}


def make_augmentation(policy: Sequence[Any]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(images, key) -> images, all operations of `policy` in order, each with a key of its own.

    Raises:
      UserError: an unknown operation, or a setting that it does not have.
    """
    operations = [_operation(entry) for entry in policy]

    def augment(images: jax.Array, key: jax.Array) -> jax.Array:
        for index, (operation, arguments) in enumerate(operations):
            images = operation(images, jax.random.fold_in(key, index), **arguments)
        return images

    return augment


def _pair(entry: Any) -> tuple[str, Any]:
    match entry:
        case (str(name),):
            return name, {}
        case (str(name), Mapping() as arguments):
            return name, arguments
    raise UserError(f'data.augment: {entry!r} should be "name" or ("name", {{"setting": value, …}})')


def _operation(entry: Any) -> tuple[Callable[..., jax.Array], dict[str, Any]]:
    name, arguments = (entry, {}) if isinstance(entry, str) else _pair(entry)
    if name not in OPERATIONS:
        raise UserError(
            f"data.augment: no operation {name!r}{did_you_mean(name, OPERATIONS)}; there are {', '.join(OPERATIONS)}"
        )
    parameters = inspect.signature(OPERATIONS[name]).parameters.values()
    known = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    for argument, value in dict(arguments).items():
        if argument not in known:
            there = ", ".join(known) or "none"
            raise UserError(f"data.augment: {name} has no setting {argument!r}{did_you_mean(argument, known)}; it has {there}")
        if type(value) is not type(known[argument]):
            raise UserError(f"data.augment: {name}: {argument} is {value!r}, but a value such as {known[argument]!r} is meant")
    return OPERATIONS[name], dict(arguments)
