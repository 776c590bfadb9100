"""The handler in C: plans that come and go, threads, Python that is busy, calls that are wrong."""

import ctypes
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.onednn_cases import assert_close, assert_refused, library, needs_onednn, normal, ours, xlas

from jaxcnn.layers.onednn.library import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT, TARGET, Shape
from jaxcnn.layers.onednn.self_test import by_definition

pytestmark = [needs_onednn, pytest.mark.instruction_set]


@pytest.fixture
def few_plans():
    """The library, which keeps no more than 20 plans for the length of a test."""
    library().keep(20)
    yield library()
    library().keep(1024)


def arrays(shape, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((shape.images, shape.height, shape.width, shape.inputs)).astype(np.float32)
    kernel = random.standard_normal((*shape.kernel, shape.inputs // shape.groups, shape.outputs)).astype(np.float32)
    return x, kernel, random.standard_normal((shape.images, *shape.output, shape.outputs)).astype(np.float32)


def resident():
    """MB of memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def same_size(height, width, inputs=8, outputs=8):
    """A 3×3 convolution that keeps the size."""
    return Shape(2, height, width, inputs, outputs, (3, 3), (height, width), padding=((1, 1), (1, 1)))


@pytest.mark.slow
def test_a_thousand_shapes_leave_few_plans_and_no_memory(few_plans):
    shapes = [same_size(4 + i % 40, 4 + i // 40) for i in range(1000)]
    made = few_plans.counters().made
    for i, shape in enumerate(shapes):
        if i == 300:
            before = resident()
        assert few_plans.run(i % 3, shape, *arrays(shape)) == 0
        assert few_plans.counters().plans <= 20
    assert few_plans.counters().made == made + 1000
    assert resident() - before < 20, "700 plans more, of some 0.2 MB each if they were kept"


@pytest.mark.slow
def test_ten_thousand_calls_leave_no_memory(few_plans):
    shapes = [same_size(6, 6, 8 * (1 + i), 16) for i in range(5)]
    given = [arrays(shape) for shape in shapes]
    for i in range(10_000):
        if i == 2000:
            before = resident()
        assert few_plans.run(i % 3, shapes[i % 5], *given[i % 5]) == 0
    assert few_plans.counters().plans == 15
    assert resident() - before < 5


def test_a_plan_that_was_forgotten_is_made_again(few_plans):
    shape = same_size(7, 6)
    x, kernel, y = arrays(shape)
    expected = by_definition(shape, x, kernel, y)
    for _ in range(2):
        for kind, place in ((FORWARD, 2), (INPUT_GRADIENT, 0), (KERNEL_GRADIENT, 1)):
            given = [x, kernel, y]
            given[place] = np.zeros_like(given[place])
            assert few_plans.run(kind, shape, *given) == 0
            np.testing.assert_allclose(given[place], expected[kind], rtol=0, atol=1e-5 * np.abs(expected[kind]).max())
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
    Shape(2, 9, 30, 40, 40, (3, 9), (5, 20), padding=((0, 0), (3, 3)), dilation=(2, 2), groups=40),  # more than 7 at a time
    Shape(2, 9, 9, 8, 8, (1, 1), (2, 2), strides=(5, 5), groups=8),  # lines that none sees
]


@pytest.mark.parametrize(
    ("shape", "program"), [*((s, "sgemm:avx2") for s in BY_PRODUCTS), *((s, "depthwise:avx2") for s in DEPTHWISE)], ids=str
)
def test_own_kernel_gradient_is_the_definitions(shape, program):
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
def test_result_of_another_size_is_refused_whichever_program_computes(kind, output):
    """By all instruction sets: oneDNN refuses it too, but not every shape is computed by oneDNN."""
    shape = Shape(1, 20, 50, 64, 33, (5, 4), output, strides=(3, 2), padding=((0, 2), (2, 0)))
    assert library().run(kind, shape, *arrays(shape)) == 2


def test_threads_do_not_disturb_each_other(few_plans):
    """Six threads with shapes of their own, which throw each other's plans out."""
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


def test_no_convolution_waits_for_python():
    """They go on while Python's lock is held: by a thread that decodes pictures, say."""
    x, kernel = normal(0, 1, 8, 8, 8), normal(1, 3, 3, 8, 8) / 10

    def chain(x, kernel):
        for _ in range(200):
            x = jnp.tanh(ours()(x, kernel))
        return x

    # Large enough a program that JAX does not run it in the calling thread, before it returns
    compiled = jax.jit(chain).lower(x, kernel).compile()
    jax.block_until_ready(compiled(x, kernel))
    holds_the_lock = ctypes.PyDLL(None)  # unlike CDLL
    counters = ctypes.PyDLL(library()._handler._name).jaxcnn_counters
    found = (ctypes.c_int64 * 11)()
    counters(found)
    before = found[FORWARD]
    result = compiled(x, kernel)
    holds_the_lock.usleep(2_000_000)
    counters(found)
    assert found[FORWARD] == before + 200
    jax.block_until_ready(result)


def test_a_wrong_call_is_an_exception_and_the_next_is_right():
    x, kernel = normal(0, 2, 6, 6, 8), normal(1, 3, 3, 8, 8)
    settings = np.asarray([FORWARD, 1, 1, 1, 1, 1, 1, 1, 1, 1], np.int64)
    right = jax.ffi.ffi_call(TARGET, jax.ShapeDtypeStruct((2, 6, 6, 8), jnp.float32))
    assert_refused(
        {
            "shapes don't fit": lambda: right(x, kernel[:, :, :4], settings=settings),
            "invalid arguments": lambda: right(x[:, :5], kernel, settings=settings),
            "float32 or bfloat16": lambda: right(x.astype(jnp.float16), kernel.astype(jnp.float16), settings=settings),
            "kind expected": lambda: right(x, kernel, settings=np.concatenate([[3], settings[1:]])),
            "settings expected": lambda: right(x, kernel, settings=settings[:9]),
            "not called as expected": lambda: right(x, kernel, kernel, settings=settings),
        }
    )
    assert_close(right(x, kernel, settings=settings), xlas()(x, kernel))
