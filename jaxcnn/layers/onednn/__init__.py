"""oneDNN, Intel's library of neural network primitives, for convolutions on CPUs; norms and maximum pooling on its threads.

XLA's own convolutions are 2 to 11 times slower on CPUs (docs/performance.md). oneDNN is called from compiled programs through
a handler in C, which is compiled at first use into `~/.cache/jaxcnn` and tested once per process.

**When it is used.** On Linux and x86-64 with AVX2, if the package `onednn-cpu-gomp` (`pip install 'jaxcnn[cpu]'`) and a C
compiler are installed and the handler passes its self-test. Otherwise JAX and XLA compute everything, and a warning states
the reason once, unless oneDNN is simply not installed. The environment variable JAXCNN_CPU_CONV decides instead of this:
"xla" never uses oneDNN, "onednn" raises a UserError if it cannot be used. The decision is made once per process, when the
first operation is traced or `cpu_convolution` is called. Exported programs and programs for other platforms never call it.

**What the rest of the project may call**, from this module only. All functions work on every platform and in all cases:
if oneDNN is not used, the same numbers, to float32 rounding, come from JAX. They can be jitted, batched by vmap and
differentiated to any order, in forward and reverse mode.

    convolve(x, kernel, …)      jax.lax.conv_general_dilated; float32 or bfloat16, also on several devices
    maximum_of_windows(x, …)    maximum pooling, (N, H, W, C) -> (N, H', W', C) in the dtype of x
    norm_operation(name, f)     a norm or its gradient in float32: f, which uses jax.numpy, or the handler in its place
    NormSettings                epsilon and the bounds of the result of a batch norm
    LayerNormSettings           epsilon of a layer norm
    random_key(seed)            jax.random.key, whose numbers the handler draws: the same numbers, bit for bit
    cpu_convolution()           the name of what computes convolutions here, for logs and results

All but `convolve` use the handler only in programs for one device and for float32 (random numbers: 32 bits).

**Files.** Python: dispatch.py decides which convolutions oneDNN computes, decide.py whether it is used at all. primitives.py
defines the convolution and its gradients as operations of JAX, and lowering.py what they become in a compiled program.
operations.py does both for the other operations, in norms.py, pools.py and random_keys.py. jax_private.py collects the private
details of JAX. build.py compiles the handler, library.py loads it, self_test.py tests it.
C: handler.c has the functions that XLA calls, worker.h the thread that computes, plans.h the convolutions that oneDNN has
prepared, api.h the declarations of oneDNN's functions. kernel_gradient.h, depthwise_gradient.h, norm.h, layer_norm.h, pool.h
and threefry.h compute what oneDNN lacks or computes more slowly.
"""

from jaxcnn.layers.onednn import lowering as _lowering  # noqa: F401  registers what the convolutions are compiled to
from jaxcnn.layers.onednn.decide import cpu_convolution
from jaxcnn.layers.onednn.dispatch import convolve
from jaxcnn.layers.onednn.norms import LayerNormSettings, NormSettings, norm_operation
from jaxcnn.layers.onednn.pools import maximum_of_windows
from jaxcnn.layers.onednn.random_keys import random_key

__all__ = [
    "LayerNormSettings",
    "NormSettings",
    "convolve",
    "cpu_convolution",
    "maximum_of_windows",
    "norm_operation",
    "random_key",
]
