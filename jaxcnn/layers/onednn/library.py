"""Python's interface to the compiled handler and oneDNN: loading, queries, counters, and calls without JAX."""

import contextlib
import ctypes
import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxcnn.layers.onednn.build import Unavailable, handler

PACKAGE = "onednn-cpu-gomp"
# Functions of the handler, registered in XLA by the same names
TARGETS = TARGET, NORM_TARGET, LAYER_NORM_TARGET, POOL_TARGET, RANDOM_TARGET = (
    "jaxcnn_convolution",
    "jaxcnn_norm",
    "jaxcnn_layer_norm",
    "jaxcnn_pool",
    "jaxcnn_random",
)
KINDS = FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT = 0, 1, 2
AVX2, AVX512_BF16 = 0x7, 0xE7  # dnnl_cpu_isa_t: bit sets, each of which contains the smaller ones
_SETS = {"avx512_core_amx": 0xFEF, "avx512_core_bf16": AVX512_BF16, "avx512_core": 0x27, "avx2": AVX2}


class Shape(NamedTuple):
    """All sizes of a convolution, as in plans.h; images are (N, H, W, C), kernels (h, w, C / groups, features)."""

    images: int
    height: int
    width: int
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    output: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


class Counters(NamedTuple):
    """What the handler has computed in this process."""

    calls: tuple[int, int, int]  # of convolutions, input gradients and kernel gradients
    images: tuple[int, int, int]  # in these calls
    plans: int  # convolutions that are prepared now (see plans.h)
    created: int  # plans, since the process started
    evicted: int  # plans, since the process started
    norms: int  # batch norms, layer norms and their gradients
    pools: int  # maximum pools and their gradients


@dataclasses.dataclass(frozen=True)
class Library:
    """oneDNN and the handler, loaded into this process."""

    version: str
    instructions: str  # the largest instruction set that oneDNN uses on this CPU
    native_bfloat16: bool  # the CPU has instructions for bfloat16
    _handler: ctypes.CDLL = dataclasses.field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"onednn {self.version} ({self.instructions})"

    @functools.lru_cache(maxsize=4096)  # noqa: B019  one library per process
    def implementation(self, kind: int, dtype: np.dtype, shape: Shape) -> str:
        """Returns the name of the implementation, such as "jit:avx2"; "ref:any" is an unoptimized loop, "" means none."""
        name = ctypes.create_string_buffer(128)
        self._handler.jaxcnn_implementation(_convolution(kind, dtype, shape), name, ctypes.c_size_t(128))
        return name.value.decode()

    def run(self, kind: int, shape: Shape, images: np.ndarray, kernel: np.ndarray, results: np.ndarray) -> int:
        """Computes one of the three float32 arrays from the others, in place; returns oneDNN's status, 0 for success."""
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (images, kernel, results)]
        return self._handler.jaxcnn_run(_convolution(kind, np.dtype("float32"), shape), *pointers)

    def supports_norms(self, channels: int) -> bool:
        """Returns whether the handler computes norms and maximum pools of arrays with this many channels."""
        return bool(self._handler.jaxcnn_supports_norms(ctypes.c_int64(channels)))

    def run_norm(self, settings: tuple[float, float, float], arrays: Sequence[np.ndarray]) -> int:
        """Computes a batch norm, or its gradient, in place; returns oneDNN's status.

        Args:
          settings: epsilon and the bounds of y.
          arrays: float32: x (…, C), scale, bias, mean, var (C,) and y (…, C), of which mean, var and y are written. For the
            gradient, those of y, mean, var, x, scale and bias follow, the last three are written, and y is ignored.
        """
        x = arrays[0]
        norm = _Norm(x.size // x.shape[-1], x.shape[-1], *settings, *(array.ctypes.data for array in arrays))
        return self._handler.jaxcnn_run_norm(ctypes.byref(norm))

    def run_layer_norm(self, epsilon: float, arrays: Sequence[np.ndarray]) -> int:
        """Computes a layer norm of (x, scale, bias, y), which writes y, or its gradient, which takes four arrays more.

        These are the gradients of y, x, scale and bias; the last three are written. Otherwise as `run_norm`.
        """
        x = arrays[0]
        norm = _LayerNorm(x.size // x.shape[-1], x.shape[-1], epsilon, *(array.ctypes.data for array in arrays))
        return self._handler.jaxcnn_run_layer_norm(ctypes.byref(norm))

    def run_random_bits(self, key: np.ndarray, bits: np.ndarray) -> None:
        """Fills `bits` (n,) with the numbers that jax.random.bits draws with `key` (2,); both are uint32."""
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (key, bits)]
        self._handler.jaxcnn_run_random_bits(pointers[0], ctypes.c_int64(bits.size), pointers[1])

    def counters(self) -> Counters:
        """Returns the counters of this process."""
        c = (ctypes.c_int64 * 11)()
        self._handler.jaxcnn_counters(c)
        return Counters((c[0], c[1], c[2]), (c[3], c[4], c[5]), *c[6:])

    def set_plan_capacity(self, plans: int) -> None:
        """Deletes all plans and limits their number from now on."""
        self._handler.jaxcnn_set_plan_capacity(ctypes.c_int64(plans))


def load() -> Library:
    """Loads the handler, which is compiled if necessary, and oneDNN, and registers the handler in XLA.

    Raises:
      Unavailable: the message states what is missing or fails.
    """
    path = shared_library()
    handler_library = ctypes.CDLL(str(handler()))
    handler_library.jaxcnn_load.restype = ctypes.c_char_p
    with _passive_openmp():
        error = handler_library.jaxcnn_load(os.fsencode(path)).decode()
    if error:
        raise Unavailable(error)
    details = (ctypes.c_int64 * 4)()
    handler_library.jaxcnn_about(details)
    *version, isa = details
    if isa & AVX2 != AVX2:
        raise Unavailable("this CPU has no AVX2")
    # Creates XLA's CPU client first. Without it, registering a handler that XLA rejects succeeds, and the client fails later.
    jax.local_devices(backend="cpu")
    try:
        for target in TARGETS:
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(handler_library, target)), platform="cpu")
    except Exception as error:  # of an undocumented type, if the version of jaxlib's interface differs
        raise Unavailable(f"jaxlib rejects the handler: {' '.join(str(error).split())}") from error
    instructions = next(name for name, bits in _SETS.items() if isa & bits == bits)
    return Library(".".join(map(str, version[:2])), instructions, isa & AVX512_BF16 == AVX512_BF16, handler_library)


def installed() -> bool:
    """Returns whether the package that contains oneDNN is installed."""
    try:
        return bool(metadata.distribution(PACKAGE))
    except metadata.PackageNotFoundError:
        return False


def shared_library() -> Path:
    """Returns oneDNN's shared library in the installed package.

    Raises:
      Unavailable: the package is not installed, or does not contain the file.
    """
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise Unavailable(f"{PACKAGE} is not installed (pip install 'jaxcnn[cpu]')") from None
    for file in distribution.files or ():
        if file.name == "libdnnl.so.3":
            return Path(str(distribution.locate_file(file))).resolve()
    raise Unavailable(f"{PACKAGE} {distribution.version} has no libdnnl.so.3")


@contextlib.contextmanager
def _passive_openmp() -> Iterator[None]:
    """Makes OpenMP's threads sleep while they wait for each other, unless the user has set how they wait.

    XLA's threads and the data readers need the cores too. On 2 cores shared with other programs MobileNetV2 trained at 3.1
    images/s with threads that sleep, and at 1.0 with threads that spin. OpenMP reads the variable when it is loaded. It is
    removed afterwards, so that child processes do not inherit it.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        yield
        return
    os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        yield
    finally:
        del os.environ["OMP_WAIT_POLICY"]


class _Norm(ctypes.Structure):
    """`Norm` in norm.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "channels")),
        *((name, ctypes.c_float) for name in ("epsilon", "low", "high")),
        *((name, ctypes.c_void_p) for name in ("x", "scale", "bias", "mean", "var", "y")),
        *((name + "_gradient", ctypes.c_void_p) for name in ("y", "mean", "var", "x", "scale", "bias")),
    )


class _LayerNorm(ctypes.Structure):
    """`LayerNorm` in layer_norm.h."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("x", "scale", "bias", "y")),
        *((name + "_gradient", ctypes.c_void_p) for name in ("y", "x", "scale", "bias")),
        ("sums", ctypes.c_void_p),
    )


def _convolution(kind: int, dtype: np.dtype, s: Shape) -> ctypes.Array:
    """Returns `Convolution` in plans.h, whose fields are all int64."""
    flat = [kind, 3 if dtype == np.dtype("float32") else 2, s.images, s.height, s.width, s.inputs, s.outputs, *s.kernel]
    flat += [*s.output, *s.strides, *s.padding[0], *s.padding[1], *s.dilation, s.groups]
    return (ctypes.c_int64 * len(flat))(*flat)
