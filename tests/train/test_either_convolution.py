"""oneDNN's convolutions and XLA's train the same network, to float32 rounding.

The first steps here, and hundreds in experiments/compare_convolutions.py.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from onednn_cases import CHEAP, library, needs_onednn, normal

from jaxcnn.layers.onednn.decide import Choice
from jaxcnn.models import create_model


def losses_and_gradient_norms(steps):
    """Of ResNet-20 on 16 images."""
    model, images, labels = create_model("resnet20", num_classes=10), normal(0, 16, 32, 32, 3), jnp.arange(16) % 10
    variables = jax.jit(lambda key: model.init(key, images[:1], train=False))(jax.random.key(0))
    optimizer = optax.sgd(0.1, momentum=0.9)

    def step(params, stats, state):
        def loss(params):
            logits, updates = model.apply({"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updates["batch_stats"]

        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), stats, state, jnp.stack([value, optax.tree.norm(gradient)])

    state = variables["params"], variables["batch_stats"], optimizer.init(variables["params"])
    compiled = jax.jit(step).lower(*state).compile(compiler_options=CHEAP)
    figures = []
    for _ in range(steps):
        *state, figure = compiled(*state)
        figures.append(figure)
    return np.asarray(figures)


@needs_onednn
def test_first_steps_are_the_same_by_either_convolution(monkeypatch):
    before = sum(library().counters().calls)
    by_onednn = losses_and_gradient_norms(2)
    computed = sum(library().counters().calls) - before
    assert computed == 2 * (19 + 18 + 19), "19 convolutions; images take no gradient"
    monkeypatch.setattr(sys.modules["jaxcnn.layers.conv"], "choice", lambda: Choice(None))
    by_xla = losses_and_gradient_norms(2)
    assert sum(library().counters().calls) - before == computed
    np.testing.assert_allclose(by_onednn[0], by_xla[0], rtol=2e-6)
    # of the first one's update; a ReLU may be on another side of its kink (3e-5 seen; 7e-4 and 5e-3 in the next two steps)
    np.testing.assert_allclose(by_onednn[1], by_xla[1], rtol=1e-4)
    assert by_onednn[-1, 0] != by_onednn[0, 0]
