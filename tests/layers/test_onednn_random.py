"""Random numbers by the handler equal those of Threefry's authors and of jax.random, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.onednn_cases import assert_refused, library, needs_onednn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.layers import random_key
from jaxcnn.layers.onednn.library import RANDOM_TARGET
from jaxcnn.layers.onednn.self_test import threefry_by_definition

pytestmark = needs_onednn
# Counter, key, result: from the file kat_vectors of the authors' library Random123
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


def draws(key):
    """Returns draws of all kinds: keys from keys, 8 to 32 bits, one number, thousands and none."""
    numbers, normals, parts, bits, batch = jax.random.split(jax.random.fold_in(key, 2**32 - 1), 5)
    return [
        *(jax.random.uniform(jax.random.fold_in(numbers, n), (n,)) for n in (1, 7, 8, 1000, 4099)),
        jax.random.truncated_normal(normals, -2, 2, (3, 3, 5, 7)),
        jax.random.normal(normals, ()),
        jax.random.uniform(parts, (0, 3)),
        jax.random.permutation(parts, 50),
        jax.random.key_data(jax.random.split(parts, (2, 3))),
        jax.random.key_data(jax.random.split(parts, 1)),
        *(jax.random.bits(bits, (5,), dtype) for dtype in (jnp.uint8, jnp.uint16, jnp.uint32)),
        jax.vmap(lambda key: jax.random.normal(key, (4,)))(jax.random.split(batch, 3)),
    ]


def assert_same(found, expected):
    for actual, desired in zip(found, expected, strict=True):
        np.testing.assert_array_equal(actual, desired, strict=True)


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_definition_equals_the_authors_results(counter, key, result):
    found = threefry_by_definition(np.array(key, np.uint32), *np.array(counter, np.uint32)[:, None])
    assert tuple(int(half[0]) for half in found) == result


def test_bits_equal_the_definition():
    for key, count in (((0, 0), 1), ((1, 2**31), 8), ((2**32 - 1, 12345), 70_001)):
        bits, key = np.zeros(count, np.uint32), np.array(key, np.uint32)
        library().run_random_bits(key, bits)
        high, low = threefry_by_definition(key, np.zeros(count, np.uint32), np.arange(count, dtype=np.uint32))
        np.testing.assert_array_equal(bits, high ^ low)


@pytest.mark.slow
def test_numbers_equal_jaxs():
    expected = jax.jit(lambda seed: draws(jax.random.key(seed)))(np.uint32(3))
    lowered = jax.jit(lambda seed: draws(random_key(seed))).lower(np.uint32(3))
    assert lowered.as_text().count(RANDOM_TARGET) > 15
    assert_same(lowered.compile()(np.uint32(3)), expected)
    assert_same(draws(random_key(3)), expected)


def test_vmap_over_seeds():
    seeds = np.arange(4, dtype=np.uint32)
    found = jax.jit(jax.vmap(lambda seed: jax.random.normal(jax.random.fold_in(random_key(seed), 1), (3,))))(seeds)
    expected = [jax.random.normal(jax.random.fold_in(jax.random.key(seed), 1), (3,)) for seed in seeds]
    np.testing.assert_array_equal(found, jnp.stack(expected))


def test_several_devices_draw_the_same_numbers():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def draw(seed):
        return jax.random.normal(random_key(seed), (16, 3))

    seed = jax.device_put(np.uint32(5), NamedSharding(mesh, P()))
    lowered = jax.jit(draw, out_shardings=NamedSharding(mesh, P("data"))).lower(seed)
    assert RANDOM_TARGET not in lowered.as_text(), "XLA draws each device's shard"
    np.testing.assert_array_equal(lowered.compile()(seed), jax.random.normal(jax.random.key(5), (16, 3)))


def test_key_is_jaxs_own_if_jax_is_configured_to_draw_other_numbers():
    with jax.default_prng_impl("rbg"):
        assert random_key(1).dtype == jax.random.key(1).dtype
    with jax.threefry_partitionable(False):
        assert random_key(1).dtype == jax.random.key(1).dtype
    assert random_key(1).dtype != jax.random.key(1).dtype


def test_invalid_calls_raise():
    def call(result, *operands):
        return lambda: jax.jit(jax.ffi.ffi_call(RANDOM_TARGET, jax.ShapeDtypeStruct(*result)))(*operands)

    key, number = np.zeros(2, np.uint32), np.uint32(0)
    assert_refused(
        {
            "expected a key and at most one number": call(((3,), np.uint32), key, number, number),
            "types do not match": call(((3,), np.float32), key),
            "shapes do not match": call(((3,), np.uint32), np.zeros(3, np.uint32)),
        }
    )
    assert_refused({"shapes do not match": call(((3,), np.uint32), key, number)})
