"""Channel shuffle."""

import jax


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Interleaves groups of channels: the first channel of each group, then the second of each, …; (N, H, W, C) -> same shape.

    Zhang, Zhou, Lin, Sun: ShuffleNet. CVPR 2018, arXiv:1707.01083, figure 1.
    """
    n, h, w, c = x.shape
    return x.reshape(n, h, w, groups, c // groups).swapaxes(3, 4).reshape(n, h, w, c)
