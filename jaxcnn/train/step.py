"""One training step, as a pure function of (state, batch); and how it is compiled for a mesh of devices."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.data import Augmentation, Batch, Preprocessing, key_of_run, step_keys
from jaxcnn.tasks.classification_metrics import LabelKind
from jaxcnn.tasks.losses import Loss, correct, targets_of
from jaxcnn.train.frozen import keep_statistics, without_gradient
from jaxcnn.train.state import TrainState

Metrics = dict[str, jax.Array]
METRICS = ("loss", "accuracy", "gradient_norm", "learning_rate")
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    loss: Loss,
    task: LabelKind,
    preprocessing: Preprocessing,
    augment: Augmentation,
    num_outputs: int = 0,
    ema_decay: float = 0.0,
    accumulate: int = 1,
    auxiliary_weight: float = 0.0,
    frozen: frozenset[str] = frozenset(),
    unroll: bool = True,
) -> Step:
    """The step: batch of image (B, H, W, C) uint8 and label -> next state, METRICS of this step (scalars, float32).

    Mixing augmentations make targets (B, num_outputs) of the labels.

    All its randomness is that of step_keys(seed, step), so that a resumed run draws the same numbers. With `accumulate`, loss
    and gradient are the mean over the parts (with class weights: of their weighted means), and batch norm sees the parts.
    The loss of each auxiliary head that a model has, its logits sown in "auxiliary", is added times `auxiliary_weight`.
    Parameters at the paths `frozen` get a gradient of zero, which costs nothing; the gradient norm covers the others.
    """

    def loss_and_gradient(params, batch_stats, images, labels, key):
        def objective(params):
            if frozen:
                params = without_gradient(params, frozen)
            with nn.intercept_methods(keep_statistics(params, frozen)) if frozen else contextlib.nullcontext():
                logits, updates = model.apply(
                    {"params": params, "batch_stats": batch_stats},
                    images,
                    train=True,
                    mutable=["batch_stats", "auxiliary"],
                    rngs={"dropout": key},
                )
            auxiliary = [auxiliary_weight * loss(sown, labels) for sown in jax.tree.leaves(updates.get("auxiliary", {}))]
            metrics = {"loss": sum(auxiliary, loss(logits, labels)), "accuracy": correct(logits, labels, task).mean()}
            return metrics["loss"], (metrics, updates.get("batch_stats", {}))

        (_, (metrics, batch_stats)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        return metrics, batch_stats, gradient

    def accumulated(params, batch_stats, images, labels, key):
        """The same from `accumulate` parts of the batch, one after the other."""

        def part(carry, inputs):
            (batch_stats, sums), (index, images, labels) = carry, inputs
            metrics, batch_stats, gradient = loss_and_gradient(
                params, batch_stats, images, labels, jax.random.fold_in(key, index)
            )
            return (batch_stats, jax.tree.map(jnp.add, sums, (metrics, gradient))), None

        # Every accumulate-th example goes into one part, so that each device computes on its own share of the batch.
        def parts(x):
            return x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1)

        zeros = ({"loss": jnp.zeros(()), "accuracy": jnp.zeros(())}, jax.tree.map(jnp.zeros_like, params))
        inputs = (jnp.arange(accumulate), parts(images), parts(labels))
        (batch_stats, sums), _ = _scan(part, (batch_stats, zeros), inputs, unroll=unroll)
        metrics, gradient = jax.tree.map(lambda total: total / accumulate, sums)
        return metrics, batch_stats, gradient

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        augment_key, dropout_key, mix_key = step_keys(state.seed, state.step)
        places = {}
        if augment.by_epoch:
            places = {"run_key": key_of_run(state.seed), "index": batch["index"], "epoch": batch["epoch"]}
        images, labels = preprocessing(batch["image"], lambda images: augment(images, augment_key, **places)), batch["label"]
        if augment.mixes:
            images, labels = augment.mix(images, targets_of(labels, num_outputs), mix_key)
        compute = accumulated if accumulate > 1 else loss_and_gradient
        metrics, batch_stats, gradient = compute(state.params, state.batch_stats, images, labels, dropout_key)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new_variables = {"params": params, "batch_stats": batch_stats}
        ema = None
        if ema_decay:
            # rises to ema_decay, so that the average of a short run is not mostly its initial parameters
            count = state.step.astype(jnp.float32)
            decay = jnp.minimum(ema_decay, (1 + count) / (10 + count))
            ema = optax.incremental_update(new_variables, state.ema, 1 - decay)
        metrics |= {"gradient_norm": optax.tree.norm(gradient), "learning_rate": jnp.asarray(schedule(state.step))}
        return TrainState(state.step + 1, state.seed, params, batch_stats, opt_state, ema), metrics

    return step


def jit_steps(step: Step, mesh: Mesh) -> jax.stages.Wrapped:
    """K steps in one call, one after the other: (state, K batches) -> (state, metrics of shape (K,)). The state is donated.

    The batch is sharded over the mesh's axis "data", the state replicated; so batch norm sees the global batch.
    """
    replicated, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))

    @functools.partial(jax.jit, donate_argnums=0, in_shardings=(replicated, sharded), out_shardings=(replicated, replicated))
    def steps(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        return _scan(step, state, batches, unroll=True)

    return steps


def jit_loop(step: Step, mesh: Mesh) -> jax.stages.Wrapped:
    """The same in a loop, of `count` steps: (state, count, K batches) -> (state, metrics).

    Steps are made on the first `count` () int32 of the K batches; of the metrics (K,) the rest is 0. One program serves
    all counts. On CPU it is slow, see `_scan`.
    """
    replicated, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))

    @functools.partial(
        jax.jit, donate_argnums=0, in_shardings=(replicated, replicated, sharded), out_shardings=(replicated, replicated)
    )
    def steps(state: TrainState, count: jax.Array, batches: Batch) -> tuple[TrainState, Metrics]:
        def body(index: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = carry
            batch = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), batches)
            state, of_step = step(state, batch)
            return state, jax.tree.map(lambda of_call, value: of_call.at[index].set(value), metrics, of_step)

        most = jax.tree.leaves(batches)[0].shape[0]
        return jax.lax.fori_loop(0, count, body, (state, {name: jnp.zeros(most) for name in METRICS}))

    return steps


def _scan(body: Callable, carry: Any, inputs: Any, *, unroll: bool) -> tuple[Any, Any]:
    """jax.lax.scan, or as a Python loop where `unroll`.

    On CPU a gradient inside XLA's while loop is many times slower, and lax.scan's own unroll=True leaves such a loop
    (ResNet-20, batch 128: 15 s a step in it, 0.6 s without).
    """
    if not unroll:
        return jax.lax.scan(body, carry, inputs)
    outputs = []
    for index in range(jax.tree.leaves(inputs)[0].shape[0]):
        carry, output = body(carry, jax.tree.map(lambda x: x[index], inputs))  # noqa: B023
        outputs.append(output)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
