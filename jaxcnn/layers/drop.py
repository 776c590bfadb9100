"""Stochastic depth."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class StochasticDepth(nn.Module):
    """In training, sets the residual branch of an image to zero with probability `rate` and divides it by 1 - rate otherwise.

    Huang, Sun, Liu, Sedra, Weinberger: Deep Networks with Stochastic Depth. ECCV 2016, arXiv:1603.09382. As in torchvision
    (mode "row") and timm, the branch is scaled in training; the paper scales it in evaluation. Uses the rng "dropout".
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, branch: jax.Array, *, train: bool) -> jax.Array:
        """Branch (N, …) -> (N, …)."""
        if not train or (isinstance(self.rate, float) and self.rate == 0):
            return branch
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, (branch.shape[0],) + (1,) * (branch.ndim - 1))
        return jnp.where(kept, branch / jnp.asarray(1 - self.rate, branch.dtype), jnp.zeros((), branch.dtype))
