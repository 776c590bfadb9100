"""The compiled handler together with oneDNN, for Python: what it can do, what it did, and a call without JAX."""

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
TARGETS = TARGET, NORM_TARGET, LAYER_NORM_TARGET, POOL_TARGET, RANDOM_TARGET = (
    "jaxcnn_convolution",
    "jaxcnn_norm",
    "jaxcnn_layer_norm",
    "jaxcnn_pool",
    "jaxcnn_random",
)
KINDS = FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT = 0, 1, 2
AVX2, AVX512_BF16 = 0x7, 0xE7  # dnnl_cpu_isa_t: sets of bits, each with those before
_SETS = {"avx512_core_amx": 0xFEF, "avx512_core_bf16": AVX512_BF16, "avx512_core": 0x27, "avx2": AVX2}


class Shape(NamedTuple):
    """A convolution's sizes, as plans.h has them; images are N×H×W×C, kernels H×W×I×O."""

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
    """What this process computed: calls and images of each kind; plans there are, were made and forgotten; norms; pools."""

    calls: tuple[int, int, int]
    images: tuple[int, int, int]
    plans: int
    made: int
    forgotten: int
    norms: int
    pools: int


@dataclasses.dataclass(frozen=True)
class Library:
    """oneDNN, loaded; its handlers are known to XLA by the names TARGETS."""

    version: str
    instructions: str  # the best set that it uses here
    native_bfloat16: bool
    _handler: ctypes.CDLL = dataclasses.field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"onednn {self.version} ({self.instructions})"

    @functools.lru_cache(maxsize=4096)  # noqa: B019  one library a process
    def implementation(self, kind: int, dtype: np.dtype, shape: Shape) -> str:
        """Which of its programs oneDNN takes, such as "jit:avx2"; "ref:any" is a plain loop, "" none."""
        name = ctypes.create_string_buffer(128)
        self._handler.jaxcnn_implementation(_convolution(kind, dtype, shape), name, ctypes.c_size_t(128))
        return name.value.decode()

    def run(self, kind: int, shape: Shape, images: np.ndarray, kernel: np.ndarray, results: np.ndarray) -> int:
        """Computes one of the three from the others, in place, float32; returns oneDNN's status, 0 where all is well."""
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (images, kernel, results)]
        return self._handler.jaxcnn_run(_convolution(kind, np.dtype("float32"), shape), *pointers)

    def has_threads(self, channels: int) -> bool:
        """Whether the handler computes more than convolutions, for images of so many channels."""
        return bool(self._handler.jaxcnn_has_threads(ctypes.c_int64(channels)))

    def run_norm(self, settings: tuple[float, float, float], arrays: Sequence[np.ndarray]) -> int:
        """A batch norm in place: (x, scale, bias, mean, var, y), or its gradient: those of y, mean, var, x, scale, bias more.

        Settings are epsilon and bounds. y is not looked at for the gradient. Returns oneDNN's status.
        """
        x = arrays[0]
        norm = _Norm(x.size // x.shape[-1], x.shape[-1], *settings, *(array.ctypes.data for array in arrays))
        return self._handler.jaxcnn_run_norm(ctypes.byref(norm))

    def run_layer_norm(self, epsilon: float, arrays: Sequence[np.ndarray]) -> int:
        """A layer norm in place: (x, scale, bias, y), or its gradient: those of y, x, scale, bias more. As run_norm."""
        x = arrays[0]
        norm = _LayerNorm(x.size // x.shape[-1], x.shape[-1], epsilon, *(array.ctypes.data for array in arrays))
        return self._handler.jaxcnn_run_layer_norm(ctypes.byref(norm))

    def run_random_bits(self, key: np.ndarray, bits: np.ndarray) -> None:
        """Fills bits (n,) with what jax.random.bits draws with the key (2,); all uint32."""
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (key, bits)]
        self._handler.jaxcnn_run_random_bits(pointers[0], ctypes.c_int64(bits.size), pointers[1])

    def counters(self) -> Counters:
        """The counters of this process."""
        c = (ctypes.c_int64 * 11)()
        self._handler.jaxcnn_counters(c)
        return Counters((c[0], c[1], c[2]), (c[3], c[4], c[5]), *c[6:])

    def keep(self, plans: int) -> None:
        """Keeps that many plans at most, and forgets those of now."""
        self._handler.jaxcnn_keep(ctypes.c_int64(plans))


def load() -> Library:
    """Builds the handler if need be, loads oneDNN into it and makes it known to XLA.

    Raises:
      Unavailable: with what is missing.
    """
    path = shared_library()
    so = ctypes.CDLL(str(handler()))
    so.jaxcnn_load.restype = ctypes.c_char_p
    with _quiet_openmp():
        error = so.jaxcnn_load(os.fsencode(path)).decode()
    if error:
        raise Unavailable(error)
    about = (ctypes.c_int64 * 4)()
    so.jaxcnn_about(about)
    *version, isa = about
    if isa & AVX2 != AVX2:
        raise Unavailable("this CPU has no AVX2")
    jax.local_devices(backend="cpu")  # before it is there, what it does not take is no error here but makes it fail later
    try:
        for target in TARGETS:
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(so, target)), platform="cpu")
    except Exception as error:  # jaxlib's, of no documented kind, where its interface has another version
        raise Unavailable(f"jaxlib does not take its handler: {' '.join(str(error).split())}") from error
    instructions = next(name for name, bits in _SETS.items() if isa & bits == bits)
    return Library(".".join(map(str, version[:2])), instructions, isa & AVX512_BF16 == AVX512_BF16, so)


def installed() -> bool:
    """Whether the package that brings oneDNN is there."""
    try:
        return bool(metadata.distribution(PACKAGE))
    except metadata.PackageNotFoundError:
        return False


def shared_library() -> Path:
    """The file of oneDNN in the installed package."""
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise Unavailable(f"{PACKAGE} is not installed (pip install 'jaxcnn[cpu]')") from None
    for file in distribution.files or ():
        if file.name == "libdnnl.so.3":
            return Path(str(distribution.locate_file(file))).resolve()
    raise Unavailable(f"{PACKAGE} {distribution.version} has no libdnnl.so.3")


@contextlib.contextmanager
def _quiet_openmp() -> Iterator[None]:
    """What OpenMP reads as it is loaded, unless the user has set it, and no other program shall inherit.

    Its threads shall sleep when they wait for each other, for XLA's threads and the readers of data need the cores too. On 2
    cores shared with other programs MobileNetV2 trained 3.1 images/s so, and 1.0 with threads that spin.
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
    """As in norm.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "channels")),
        *((name, ctypes.c_float) for name in ("epsilon", "low", "high")),
        *((name, ctypes.c_void_p) for name in ("x", "scale", "bias", "mean", "var", "y")),
        *((name + "_gradient", ctypes.c_void_p) for name in ("y", "mean", "var", "x", "scale", "bias")),
    )


class _LayerNorm(ctypes.Structure):
    """As in layer_norm.h."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("x", "scale", "bias", "y")),
        *((name + "_gradient", ctypes.c_void_p) for name in ("y", "x", "scale", "bias")),
        ("sums", ctypes.c_void_p),
    )


def _convolution(kind: int, dtype: np.dtype, s: Shape) -> ctypes.Array:
    flat = [kind, 3 if dtype == np.dtype("float32") else 2, s.images, s.height, s.width, s.inputs, s.outputs, *s.kernel]
    flat += [*s.output, *s.strides, *s.padding[0], *s.padding[1], *s.dilation, s.groups]
    return (ctypes.c_int64 * len(flat))(*flat)
