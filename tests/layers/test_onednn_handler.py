"""The handler in C: limited number of plans, threads, independence of Python's lock, invalid calls."""

import ctypes
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.onednn_cases import (
    assert_close,
    assert_refused,
    jax_convolution,
    library,
    needs_onednn,
    network_convolution,
    normal,
)

from jaxcnn.layers.onednn.library import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT, TARGET, Shape
from jaxcnn.layers.onednn.self_test import by_definition

pytestmark = [needs_onednn, pytest.mark.instruction_set]


@pytest.fixture
def few_plans():
    """The library, with at most 20 plans during a test."""
    library().set_plan_capacity(20)
    yield library()
    library().set_plan_capacity(1024)


def arrays(shape, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((shape.images, shape.height, shape.width, shape.inputs)).astype(np.float32)
    kernel = random.standard_normal((*shape.kernel, shape.inputs // shape.groups, shape.outputs)).astype(np.float32)
    return x, kernel, random.standard_normal((shape.images, *shape.output, shape.outputs)).astype(np.float32)


def resident_memory():
    """Returns the resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def same_size(height, width, inputs=8, outputs=8):
    """Returns the shape of a 3×3 convolution whose result has the size of its input."""
    return Shape(2, height, width, inputs, outputs, (3, 3), (height, width), padding=((1, 1), (1, 1)))


@pytest.mark.slow
def test_a_thousand_shapes_keep_20_plans_and_leak_no_memory(few_plans):
    shapes = [same_size(4 + i % 40, 4 + i // 40) for i in range(1000)]
    created = few_plans.counters().created
    for i, shape in enumerate(shapes):
        if i == 300:
            before = resident_memory()
        assert few_plans.run(i % 3, shape, *arrays(shape)) == 0
        assert few_plans.counters().plans <= 20
    assert few_plans.counters().created == created + 1000
    assert resident_memory() - before < 20, "700 more plans would need about 0.2 MB each"


@pytest.mark.slow
def test_ten_thousand_calls_leak_no_memory(few_plans):
    shapes = [same_size(6, 6, 8 * (1 + i), 16) for i in range(5)]
    operands = [arrays(shape) for shape in shapes]
    for i in range(10_000):
        if i == 2000:
            before = resident_memory()
        assert few_plans.run(i % 3, shapes[i % 5], *operands[i % 5]) == 0
    assert few_plans.counters().plans == 15
    assert resident_memory() - before < 5


def test_an_evicted_plan_is_created_again(few_plans):
    shape = same_size(7, 6)
    x, kernel, y = arrays(shape)
    expected = by_definition(shape, x, kernel, y)
    for _ in range(2):
        for kind, position in ((FORWARD, 2), (INPUT_GRADIENT, 0), (KERNEL_GRADIENT, 1)):
            operands = [x, kernel, y]
            operands[position] = np.zeros_like(operands[position])
            assert few_plans.run(kind, shape, *operands) == 0
            np.testing.assert_allclose(operands[position], expected[kind], rtol=0, atol=1e-5 * np.abs(expected[kind]).max())
        for width in range(8, 30):
            few_plans.run(FORWARD, same_size(7, width), *arrays(same_size(7, width)))


BY_PRODUCTS = [
    same_size(30, 29, 64, 32),  # several blocks of positions
    Shape(3, 9, 14, 64, 40, (2, 3), (10, 15), padding=((1, 1), (2, 1))),
    Shape(2, 31, 33, 65, 32, (3, 3), (16, 17), strides=(2, 2), padding=((1, 1), (1, 1))),
    Shape(1, 20, 50, 64, 33, (5, 4), (6, 25), strides=(3, 2), padding=((0, 2), (2, 0))),
    Shape(2, 9, 12, 3, 32, (3, 3), (7, 10), padding=((1, 1), (1, 1)), dilation=(2, 2)),
    Shape(2, 3, 2, 5, 32, (5, 7), (3, 2), padding=((2, 2), (3, 3))),  # the kernel is wider than the image
    Shape(5, 7, 3, 17, 18, (1, 1), (7, 3)),
]


DEPTHWISE = [
    Shape(3, 9, 8, 16, 16, (3, 3), (9, 8), padding=((1, 1), (1, 1)), groups=16),
    Shape(1, 20, 19, 24, 24, (7, 7), (20, 19), padding=((3, 3), (3, 3)), groups=24),  # 16 channels and 8; one image
    Shape(2, 11, 12, 8, 8, (5, 2), (3, 6), strides=(3, 2), padding=((0, 2), (1, 0)), groups=8),
    Shape(2, 9, 30, 40, 40, (3, 9), (5, 20), padding=((0, 0), (3, 3)), dilation=(2, 2), groups=40),  # wider than 7 pixels
    Shape(2, 9, 9, 8, 8, (1, 1), (2, 2), strides=(5, 5), groups=8),  # lines that no window contains
]


@pytest.mark.parametrize(
    ("shape", "program"), [*((s, "sgemm:avx2") for s in BY_PRODUCTS), *((s, "depthwise:avx2") for s in DEPTHWISE)], ids=str
)
def test_handlers_own_kernel_gradients_equal_the_definition(shape, program):
    implementation = library().implementation(KERNEL_GRADIENT, np.dtype("float32"), shape)
    assert (implementation == program) == (library().instructions == "avx2")
    x, kernel, y = arrays(shape)
    expected = by_definition(shape, x, kernel, y)[KERNEL_GRADIENT]
    kernel[:] = np.nan
    for _ in range(3):
        assert library().run(KERNEL_GRADIENT, shape, x, kernel, y) == 0
        np.testing.assert_allclose(kernel, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("kind", [FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT])
@pytest.mark.parametrize("output", [(6, 24), (6, 26), (5, 25)])
def test_result_of_a_wrong_size_is_rejected_by_all_implementations(kind, output):
    """oneDNN rejects it too, but does not compute every shape. What computes depends on the instruction set."""
    shape = Shape(1, 20, 50, 64, 33, (5, 4), output, strides=(3, 2), padding=((0, 2), (2, 0)))
    assert library().run(kind, shape, *arrays(shape)) == 2


def test_threads_do_not_disturb_each_other(few_plans):
    """Six threads compute different shapes and evict each other's plans."""
    wrong = []

    def work(thread):
        for i in range(60):
            shape = same_size(5 + thread, 5 + i % 6)
            x, kernel, y = arrays(shape, seed=thread)
            expected = by_definition(shape, x, kernel, y)[FORWARD]
            found = np.zeros_like(y)
            status = few_plans.run(FORWARD, shape, x, kernel, found)
            if status or np.abs(found - expected).max() > 1e-5 * np.abs(expected).max():
                wrong.append((thread, i, status))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_no_convolution_waits_for_pythons_lock():
    """Convolutions are computed while another thread holds Python's lock, for example to decode images."""
    x, kernel = normal(0, 1, 8, 8, 8), normal(1, 3, 3, 8, 8) / 10

    def chain(x, kernel):
        for _ in range(200):
            x = jnp.tanh(network_convolution()(x, kernel))
        return x

    # The program is large enough that JAX returns before it has run, instead of running it in the calling thread
    compiled = jax.jit(chain).lower(x, kernel).compile()
    jax.block_until_ready(compiled(x, kernel))
    holds_the_lock = ctypes.PyDLL(None)  # CDLL releases the lock
    counters = ctypes.PyDLL(library()._handler._name).jaxcnn_counters
    found = (ctypes.c_int64 * 11)()
    counters(found)
    before = found[FORWARD]
    result = compiled(x, kernel)
    holds_the_lock.usleep(2_000_000)
    counters(found)
    assert found[FORWARD] == before + 200
    jax.block_until_ready(result)


def test_an_invalid_call_raises_and_the_next_call_is_correct():
    x, kernel = normal(0, 2, 6, 6, 8), normal(1, 3, 3, 8, 8)
    settings = np.asarray([FORWARD, 1, 1, 1, 1, 1, 1, 1, 1, 1], np.int64)
    call = jax.ffi.ffi_call(TARGET, jax.ShapeDtypeStruct((2, 6, 6, 8), jnp.float32))
    assert_refused(
        {
            "shapes do not match": lambda: call(x, kernel[:, :, :4], settings=settings),
            "invalid arguments": lambda: call(x[:, :5], kernel, settings=settings),
            "float32 or bfloat16": lambda: call(x.astype(jnp.float16), kernel.astype(jnp.float16), settings=settings),
            "unknown kind of convolution": lambda: call(x, kernel, settings=np.concatenate([[3], settings[1:]])),
            "expected 10 int64 settings": lambda: call(x, kernel, settings=settings[:9]),
            "expected 2 operands, 1 result and 1 attribute": lambda: call(x, kernel, kernel, settings=settings),
        }
    )
    assert_close(call(x, kernel, settings=settings), jax_convolution()(x, kernel))
