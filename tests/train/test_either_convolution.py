"""Training with convolutions by oneDNN and by XLA gives the same network up to float32 rounding.

A few steps of a small network without kinks here; hundreds of ResNet-20 in experiments/compare_convolutions.py.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common.onednn_cases import CHEAP, library, needs_onednn, normal, use_xla
from common.rounding import nudged

from jaxcnn.models import resnet_cifar

STEPS = 8
OPTIMIZER = optax.sgd(0.1, momentum=0.9)


@pytest.fixture
def network(monkeypatch):
    """ResNet-8 with tanh, because ReLU amplifies rounding: a value that changes sign changes a gradient by 5e-5."""
    monkeypatch.setattr(nn, "relu", jnp.tanh)
    monkeypatch.setattr(resnet_cifar, "relu", jnp.tanh)
    return resnet_cifar.CifarResNet(depth=1, block=resnet_cifar.Block, filters=(16, 32, 64))


def compile_step(network, variables):
    """Compiles (params, batch_stats, opt_state) -> (the same after a step, loss, gradient)."""
    images, labels = normal(0, 8, 16, 16, 3), jnp.arange(8)

    def step(params, stats, opt_state):
        def loss(params):
            variables = {"params": params, "batch_stats": stats}
            logits, updates = network.apply(variables, images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updates["batch_stats"]

        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = OPTIMIZER.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state), value, gradient

    return jax.jit(step).lower(*initial_state(variables)).compile(compiler_options=CHEAP)


def initial_state(variables):
    params = jax.tree.map(np.asarray, variables["params"])
    return params, variables["batch_stats"], jax.jit(OPTIMIZER.init)(params)


def train(step, variables):
    """Returns (losses, first gradient, last parameters)."""
    state, losses, gradients = initial_state(variables), [], []
    for _ in range(STEPS):
        state, loss, gradient = step(*state)
        losses.append(float(loss))
        gradients.append(gradient)
    return [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (losses, gradients[0], state[0])]


def distances(found, expected):
    """Returns the distances of losses, gradients and parameters, relative to the norm of the expected ones."""
    pairs = zip(found, expected, strict=True)
    return np.array([np.linalg.norm(one - other) / np.linalg.norm(other) for one, other in pairs])


@needs_onednn
@pytest.mark.instruction_set
def test_convolutions_differ_no_more_than_after_rounding_the_parameters(network, monkeypatch):
    """A different order of summation changes results no more than a change of the last digits of the parameters."""
    variables = jax.jit(lambda key: network.init(key, jnp.zeros((1, 16, 16, 3)), train=False))(jax.random.key(0))
    before = sum(library().counters().calls)
    by_onednn = train(compile_step(network, variables), variables)
    computed = sum(library().counters().calls) - before
    assert computed == STEPS * (7 + 6 + 7), "7 convolutions; images take no gradient"
    use_xla(monkeypatch)
    step = compile_step(network, variables)
    by_xla = train(step, variables)
    assert sum(library().counters().calls) - before == computed
    changes = [distances(train(step, nudged(variables, seed)), by_xla) for seed in range(3)]
    # measured: 0.6 to 1 times as far apart, on AVX2 and on AVX-512; 2**-24 is half a unit in the last place of a loss
    assert (distances(by_onednn, by_xla) <= 3 * np.mean(changes, axis=0) + 2**-24).all()
    assert by_onednn[0][-1] < 0.9 * by_onednn[0][0], "it learns"
