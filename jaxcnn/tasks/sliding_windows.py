"""Segmentation in overlapping windows, for images that are larger than those that a network was trained on.

The windows start at multiples of the stride. The last ones are aligned with the border, so that no window extends outside of
the image, as in mmsegmentation's mode "slide" and in the code of PSPNet (Zhao et al. 2017, arXiv:1612.01105). Class
probabilities are averaged over the windows; mmsegmentation averages logits.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Returns the first pixel of each window along a side of `length` pixels, where stride ≤ window ≤ length."""
    return [*range(0, length - window, stride), length - window]


def logits_in_windows(
    network: Callable[[jax.Array], jax.Array], images: jax.Array, window: tuple[int, int], stride: tuple[int, int]
) -> jax.Array:
    """Returns the logarithm of the class probabilities, averaged over all windows that contain a pixel.

    The network is compiled once, and called for one window of all images at a time, so the memory that it needs does not grow
    with the number of windows. A window that is larger than the images is reduced to their height or width. If a single window
    remains, the network's logits are returned.

    Args:
      network: returns logits (B, h, w, K) of images (B, h, w, C).
      images: (B, H, W, C) float32.
      window: height and width in pixels.
      stride: distance of the windows in pixels, at most `window`.

    Returns:
      (B, H, W, K) float32. Their softmax is the mean of the windows' softmax.
    """
    batch_size, *size, channels = images.shape
    height, width = (min(side, length) for side, length in zip(window, size, strict=True))
    if [height, width] == size:
        return network(images)
    tops, lefts = window_starts(size[0], height, stride[0]), window_starts(size[1], width, stride[1])
    starts = list(itertools.product(tops, lefts))
    counts = np.zeros(size, np.float32)
    for top, left in starts:
        counts[top : top + height, left : left + width] += 1

    def add(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        corner = (0, *start, 0)
        logits = network(jax.lax.dynamic_slice(images, corner, (batch_size, height, width, channels)))
        before = jax.lax.dynamic_slice(total, corner, logits.shape)
        # Sums of logarithms, because a probability may be too small for float32, and the logarithm of 0 has no finite mean.
        after = jnp.logaddexp(before, jax.nn.log_softmax(logits.astype(jnp.float32)))
        return jax.lax.dynamic_update_slice(total, after, corner), None

    num_classes = jax.eval_shape(network, jax.ShapeDtypeStruct((batch_size, height, width, channels), images.dtype)).shape[-1]
    total, _ = jax.lax.scan(add, jnp.full((batch_size, *size, num_classes), -jnp.inf), jnp.array(starts))
    return total - jnp.log(counts)[None, :, :, None]
