"""Randomness of training that drops whole parts: stochastic depth."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class StochasticDepth(nn.Module):
    """In training, the whole branch of an image is zero with probability `rate`, and scaled by 1 / (1 - rate) otherwise.

    Huang, Sun, Liu, Sedra, Weinberger: Deep Networks with Stochastic Depth. ECCV 2016, arXiv:1603.09382. Scaled in
    training, as torchvision's ("row") and timm's; the paper scales in evaluation. Draws from the key "dropout".
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, branch: jax.Array, *, train: bool) -> jax.Array:
        """(N, …) -> (N, …)."""
        if not train or (isinstance(self.rate, float) and self.rate == 0):
            return branch
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, (branch.shape[0],) + (1,) * (branch.ndim - 1))
        return jnp.where(kept, branch / jnp.asarray(1 - self.rate, branch.dtype), jnp.zeros((), branch.dtype))
