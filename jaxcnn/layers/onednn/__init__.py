"""Convolutions by oneDNN, Intel's library, on CPUs where it is there (pip install 'jaxcnn[cpu]', Linux on x86-64); and norms
and maxima of windows on its threads.

    api.h, plans.h, worker.h    oneDNN's interface, a convolution made ready, the thread that computes it
    kernel_gradient.h           the kernel's gradient by matrix products, where that is faster
    depthwise_gradient.h        the same of a depthwise convolution
    norm.h, layer_norm.h        a batch norm with its ReLU; a layer norm
    pool.h                      a maximum of windows
    threefry.h                  JAX's random numbers
    handler.c                   the calls from XLA
    build.py                    compiles them at first use
    library.py                  the compiled handler with oneDNN, for Python
    self_test.py                whether its numbers are right
    decide.py                   whether it is used, and if not, why
    primitives.py, lowering.py  the convolution and its gradients as JAX sees them, and what they become
    operations.py               the same for what else the handler computes:
    norms.py, pools.py          norms and maxima, with their gradients
    random_keys.py              keys of jax.random whose numbers the handler draws

XLA's own convolutions are 2 to 11 times slower on CPUs (docs/performance.md). `jaxcnn.layers.convolve` decides what goes here.
"""

from jaxcnn.layers.onednn import lowering as _lowering  # noqa: F401  registers what the operations become
from jaxcnn.layers.onednn.decide import choice, described, warn_once
from jaxcnn.layers.onednn.library import KINDS, LAYER_NORM_TARGET, NORM_TARGET
from jaxcnn.layers.onednn.norms import LayerNormSettings, NormSettings, norm_operation
from jaxcnn.layers.onednn.pools import PoolSettings, maximum_of_windows
from jaxcnn.layers.onednn.primitives import ConvSettings, convolution, shape_of
from jaxcnn.layers.onednn.random_keys import random_key

__all__ = [
    "KINDS",
    "LAYER_NORM_TARGET",
    "NORM_TARGET",
    "ConvSettings",
    "LayerNormSettings",
    "NormSettings",
    "PoolSettings",
    "choice",
    "convolution",
    "described",
    "maximum_of_windows",
    "norm_operation",
    "random_key",
    "shape_of",
    "warn_once",
]
