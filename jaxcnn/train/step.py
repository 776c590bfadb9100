"""One training step of any task, as a pure function of (state, batch)."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcnn.data import Batch, key_of_run, step_keys
from jaxcnn.tasks.task import Keys, Metrics, Phase, Task, Variables
from jaxcnn.train.frozen import keep_statistics, without_gradient
from jaxcnn.train.state import TrainState, averaged_part

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class Update(NamedTuple):
    """How a step changes the parameters."""

    optimizers: Mapping[Phase, optax.GradientTransformation]
    schedule: optax.Schedule
    """step -> learning rate, for the metrics"""
    ema_decay: float = 0.0
    accumulate: int = 1
    """parts of a batch whose gradients are averaged"""
    frozen: frozenset[str] = frozenset()
    """paths of parameters that get a gradient of zero, which costs nothing; the gradient norm covers the others"""


def make_train_step(task: Task, update: Update, *, unroll: bool = True) -> Step:
    """The step: a batch of B examples -> next state, and the metrics of this step (scalars, float32).

    These are the task's, "gradient_norm" and "learning_rate". All randomness comes from step_keys(seed, step), so that a
    resumed run draws the same numbers.
    """

    def run_phase(phase: Phase, inputs: Any, key: jax.Array, variables: Variables, opt_state: Any) -> AfterPhase:
        def objective(trained: Any, variables: Variables, inputs: Any, key: jax.Array) -> tuple[jax.Array, Any]:
            params = _with(phase, variables["params"], trained)
            if not update.frozen:
                return task.objective(variables | {"params": params}, inputs, key, phase)
            params = without_gradient(params, update.frozen)
            with keep_statistics(params, update.frozen):
                return task.objective(variables | {"params": params}, inputs, key, phase)

        value_and_grad = jax.value_and_grad(objective, has_aux=True)
        if update.accumulate > 1:
            value_and_grad = averaged_over_parts(value_and_grad, update.accumulate, unroll=unroll)
        trained = trained_by(phase, variables["params"])
        (_, (metrics, collections)), gradient = value_and_grad(trained, variables, inputs, key)
        updates, opt_state = update.optimizers[phase].update(gradient, opt_state, trained)
        params = _with(phase, variables["params"], optax.apply_updates(trained, updates))
        return variables | collections | {"params": params}, opt_state, metrics, optax.tree.norm(gradient)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        augment_key, dropout_key, mix_key = step_keys(state.seed, state.step)
        inputs = task.inputs(batch, Keys(augment_key, dropout_key, mix_key, key_of_run(state.seed)))
        variables, opt_states, norms = state.variables, by_phase(task.phases, state.opt_state), []
        metrics: Metrics = {}
        for number, phase in enumerate(task.phases):
            key = jax.random.fold_in(dropout_key, number) if number else dropout_key
            run = functools.partial(run_phase, phase, inputs, key)
            if phase.every > 1:
                run = functools.partial(_run_or_skip, run, (state.step + 1) % phase.every == 0)
            variables, opt_states[phase], of_phase, norm = run(variables, opt_states[phase])
            metrics |= of_phase
            norms.append(norm)
        variables = task.after(variables, state.step)
        ema = None
        if update.ema_decay:
            # rises to ema_decay, so that the average of a short run is not mostly its initial parameters
            count = state.step.astype(jnp.float32)
            decay = jnp.minimum(update.ema_decay, (1 + count) / (10 + count))
            ema = optax.incremental_update(averaged_part(variables), state.ema, 1 - decay)
        norm = norms[0] if len(norms) == 1 else jnp.sqrt(sum(norm**2 for norm in norms))
        metrics |= {"gradient_norm": norm, "learning_rate": jnp.asarray(update.schedule(state.step))}
        return TrainState(state.step + 1, state.seed, variables, of_phases(opt_states), ema), metrics

    return step


def init_state(variables: Variables, seed: int | jax.Array, update: Update) -> TrainState:
    """Step 0 of a training that starts from `variables`."""
    opt_states = {phase: rule.init(trained_by(phase, variables["params"])) for phase, rule in update.optimizers.items()}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(seed, jnp.uint32),
        variables=variables,
        opt_state=of_phases(opt_states),
        # a copy: the state is donated, and one buffer can't be given away twice
        ema=jax.tree.map(jnp.copy, averaged_part(variables)) if update.ema_decay else None,
    )


AfterPhase = tuple[Variables, Any, Metrics, jax.Array]
"""Variables, the optimizer's state, metrics, gradient norm."""


def by_phase(phases: Sequence[Phase], opt_state: Any) -> dict[Phase, Any]:
    """The optimizer's state of each phase."""
    return {phase: opt_state if len(phases) == 1 else opt_state[phase.name] for phase in phases}


def of_phases(opt_states: Mapping[Phase, Any]) -> Any:
    """TrainState.opt_state; for one phase as in checkpoints of earlier versions."""
    if len(opt_states) == 1:
        return next(iter(opt_states.values()))
    return {phase.name: opt_state for phase, opt_state in opt_states.items()}


def trained_by(phase: Phase, params: Mapping[str, Any]) -> Any:
    """The parameters that a phase trains."""
    return {name: params[name] for name in phase.trains} if phase.trains else params


def _with(phase: Phase, params: Any, trained: Any) -> Any:
    """All parameters, with those that a phase trains."""
    return params | trained if phase.trains else trained


def averaged_over_parts(value_and_grad: Callable[..., Any], parts: int, *, unroll: bool) -> Callable[..., Any]:
    """What jax.value_and_grad(objective, has_aux=True) returns, computed in parts of the batch one after the other.

    Metrics and gradient are the means, and there is no value. A part starts from the collections of the one before, so that
    batch norm sees the parts. With class weights, these are means of weighted means.
    """
    value_and_grad = jax.jit(value_and_grad, inline=True)  # traced once, for its shapes and for all parts

    def split(x: jax.Array) -> jax.Array:
        """(B, …) -> (parts, B / parts, …): every n-th example in one part, so that each device computes on its own share."""
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    def averaged(trained: Any, variables: Variables, inputs: Any, key: jax.Array) -> Any:
        def one_part(carry: tuple, numbered: tuple) -> tuple:
            (collections, sums), (number, inputs) = carry, numbered
            of_part = value_and_grad(trained, variables | collections, inputs, jax.random.fold_in(key, number))
            (_, (metrics, collections)), gradient = of_part
            return (collections, jax.tree.map(jnp.add, sums, (metrics, gradient))), None

        inputs = jax.tree.map(split, inputs)
        first = jax.tree.map(lambda x: x[0], inputs)
        (_, (metrics, collections)), _ = jax.eval_shape(value_and_grad, trained, variables, first, key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (metrics, trained))
        carry = ({name: variables[name] for name in collections}, zeros)
        (collections, sums), _ = scan(one_part, carry, (jnp.arange(parts), inputs), unroll=unroll)
        metrics, gradient = jax.tree.map(lambda total: total / parts, sums)
        return (None, (metrics, collections)), gradient

    return averaged


def _run_or_skip(run: Callable[..., AfterPhase], turn: jax.Array, variables: Variables, opt_state: Any) -> AfterPhase:
    """`run` if it is the phase's turn; else nothing changes, its metrics are NaN and its gradient norm is 0."""
    metrics = jax.eval_shape(run, variables, opt_state)[2]

    def skip(variables: Variables, opt_state: Any) -> AfterPhase:
        missing = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), metrics)
        return variables, opt_state, missing, jnp.zeros(())

    return jax.lax.cond(turn, run, skip, variables, opt_state)


def scan(body: Callable, carry: Any, inputs: Any, *, unroll: bool) -> tuple[Any, Any]:
    """jax.lax.scan, or as a Python loop where `unroll`.

    On CPU a gradient inside XLA's while loop is many times slower, and lax.scan's own unroll=True leaves such a loop
    (ResNet-20, batch 128: 15 s per step in it, 0.6 s without).
    """
    if not unroll:
        return jax.lax.scan(body, carry, inputs)
    outputs = []
    for index in range(jax.tree.leaves(inputs)[0].shape[0]):
        carry, output = body(carry, jax.tree.map(lambda x: x[index], inputs))  # noqa: B023
        outputs.append(output)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
