"""Keys for jax.random whose numbers the handler draws: the same numbers, but programs that draw them compile faster.

XLA compiles the random numbers of a single kernel for a quarter of a second. A call of the handler needs no compilation.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcnn.layers.onednn import decide
from jaxcnn.layers.onednn.jax_private import define_prng_impl, threefry_prng_impl
from jaxcnn.layers.onednn.library import RANDOM_TARGET
from jaxcnn.layers.onednn.operations import operation


class _DrawSettings(NamedTuple):
    shape: tuple[int, ...]  # of the result

    def to_array(self) -> np.ndarray:
        return np.asarray(self.shape, np.int64)


def _bits_by_jax(key: jax.Array, *, settings: _DrawSettings) -> tuple[jax.Array]:
    return (threefry_prng_impl.random_bits(key, 32, settings.shape),)


def _keys_by_jax(key: jax.Array, first: jax.Array, *, settings: _DrawSettings) -> tuple[jax.Array]:
    """Returns the key for `first`, of shape (2,), or the keys for 0, 1, …, of any other shape; `first` is 0 then."""
    if settings.shape == (2,):
        return (threefry_prng_impl.fold_in(key, first),)
    return (threefry_prng_impl.split(key, settings.shape[:-1]),)


def _like_settings(*operands: jax.Array, settings: _DrawSettings) -> list[tuple]:
    return [(settings.shape, np.uint32)]


_bits = operation("jaxcnn_random_bits", RANDOM_TARGET, _bits_by_jax, _like_settings)
_keys = operation("jaxcnn_random_keys", RANDOM_TARGET, _keys_by_jax, _like_settings)


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    if bit_width != 32 or 0 in shape:
        return threefry_prng_impl.random_bits(key, bit_width, shape)
    return _bits.bind(key, settings=_DrawSettings(tuple(shape)))[0]


def _fold_in(key: jax.Array, data: Any) -> jax.Array:
    return _keys.bind(key, data, settings=_DrawSettings((2,)))[0]


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if not shape or 0 in shape:
        return threefry_prng_impl.split(key, shape)
    return _keys.bind(key, np.uint32(0), settings=_DrawSettings((*shape, 2)))[0]


_THREEFRY = define_prng_impl(
    key_shape=(2,),
    seed=threefry_prng_impl.seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32 by jaxcnn's handler",
    tag="jaxcnn",
)


def random_key(seed: int | jax.Array) -> jax.Array:
    """Returns jax.random.key(seed) with an implementation that draws the same numbers by the handler, if it can be used.

    Use it in programs that draw many arrays once: the initial parameters of EfficientNet-B0 compile in 6 s of CPU time instead
    of 25. It is jax.random.key(seed) itself on other platforms, without oneDNN, and if JAX is configured to draw other numbers
    than partitionable threefry2x32. `seed` is an int or an integer array of shape ().
    """
    config: Any = jax.config  # which does not declare its attributes
    threefry = config.jax_default_prng_impl == "threefry2x32" and config.jax_threefry_partitionable
    if threefry and jax.default_backend() == "cpu" and decide.choice().library:
        return jax.random.key(seed, impl=_THREEFRY)
    return jax.random.key(seed)
