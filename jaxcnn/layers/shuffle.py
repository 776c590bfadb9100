"""Exchange between the groups of channels."""

import jax


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    """(N, H, W, C) -> (N, H, W, C): the first channel of each group, then the second of each, and so on.

    Zhang, Zhou, Lin, Sun: ShuffleNet. CVPR 2018, arXiv:1707.01083, figure 1.
    """
    n, h, w, c = x.shape
    return x.reshape(n, h, w, groups, c // groups).swapaxes(3, 4).reshape(n, h, w, c)
