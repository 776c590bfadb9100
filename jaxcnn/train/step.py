"""The training step of any task, a pure function of (state, batch)."""

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
    """number of parts of a batch whose gradients are averaged"""
    frozen: frozenset[str] = frozenset()
    """paths of parameters whose gradient is zero and not computed, so the gradient norm covers only the others"""


def make_train_step(task: Task, update: Update, *, unroll: bool = True) -> Step:
    """Returns the function (state, batch of B examples) -> (next state, metrics of the step).

    The metrics are float32 scalars: those of the task, "gradient_norm" and "learning_rate". All randomness is derived from
    step_keys(seed, step), so that a resumed run draws the same numbers. For `unroll` see `scan`.
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
            variables, opt_states[phase], phase_metrics, norm = run(variables, opt_states[phase])
            metrics |= phase_metrics
            norms.append(norm)
        variables = task.after(variables, state.step)
        ema = None
        if update.ema_decay:
            # rises to ema_decay, so that the initial parameters do not dominate the average of a short run
            count = state.step.astype(jnp.float32)
            decay = jnp.minimum(update.ema_decay, (1 + count) / (10 + count))
            ema = optax.incremental_update(averaged_part(variables), state.ema, 1 - decay)
        norm = norms[0] if len(norms) == 1 else jnp.sqrt(sum(norm**2 for norm in norms))
        metrics |= {"gradient_norm": norm, "learning_rate": jnp.asarray(update.schedule(state.step))}
        return TrainState(state.step + 1, state.seed, variables, of_phases(opt_states), ema), metrics

    return step


def init_state(variables: Variables, seed: int | jax.Array, update: Update) -> TrainState:
    """Returns the state at step 0 of a training that starts from `variables`."""
    opt_states = {phase: rule.init(trained_by(phase, variables["params"])) for phase, rule in update.optimizers.items()}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(seed, jnp.uint32),
        variables=variables,
        opt_state=of_phases(opt_states),
        # a copy, because the state is donated and a buffer cannot be donated twice
        ema=jax.tree.map(jnp.copy, averaged_part(variables)) if update.ema_decay else None,
    )


AfterPhase = tuple[Variables, Any, Metrics, jax.Array]
"""The result of a phase: variables, optimizer state, metrics, gradient norm."""


def by_phase(phases: Sequence[Phase], opt_state: Any) -> dict[Phase, Any]:
    """Splits `TrainState.opt_state` into the optimizer states of the phases."""
    return {phase: opt_state if len(phases) == 1 else opt_state[phase.name] for phase in phases}


def of_phases(opt_states: Mapping[Phase, Any]) -> Any:
    """Returns `TrainState.opt_state`: the optimizer states by phase name, or that of the only phase itself."""
    if len(opt_states) == 1:
        return next(iter(opt_states.values()))
    return {phase.name: opt_state for phase, opt_state in opt_states.items()}


def trained_by(phase: Phase, params: Mapping[str, Any]) -> Any:
    """Returns the parameters that a phase trains."""
    return {name: params[name] for name in phase.trains} if phase.trains else params


def _with(phase: Phase, params: Any, trained: Any) -> Any:
    """Returns all parameters, with those that a phase trains replaced by `trained`."""
    return params | trained if phase.trains else trained


def averaged_over_parts(value_and_grad: Callable[..., Any], parts: int, *, unroll: bool) -> Callable[..., Any]:
    """Returns a version of jax.value_and_grad(objective, has_aux=True) that processes a batch in parts, one after the other.

    It returns the means of the metrics and gradients over the parts, and None as the value. Each part starts from the
    collections that the previous part returned, so batch norm normalizes each part separately. With class weights, the
    results are means of weighted means.
    """
    value_and_grad = jax.jit(value_and_grad, inline=True)  # traced only once for eval_shape and all parts

    def split(x: jax.Array) -> jax.Array:
        """Reshapes (B, …) to (parts, B / parts, …). Each part has every n-th example, so that no data move between devices."""
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    def averaged(trained: Any, variables: Variables, inputs: Any, key: jax.Array) -> Any:
        def one_part(carry: tuple, numbered: tuple) -> tuple:
            (collections, sums), (number, inputs) = carry, numbered
            part_key = jax.random.fold_in(key, number)
            (_, (metrics, collections)), gradient = value_and_grad(trained, variables | collections, inputs, part_key)
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
    """Calls `run` if it is the phase's turn. Otherwise nothing changes, the metrics are NaN and the gradient norm is 0."""
    metrics = jax.eval_shape(run, variables, opt_state)[2]

    def skip(variables: Variables, opt_state: Any) -> AfterPhase:
        missing = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), metrics)
        return variables, opt_state, missing, jnp.zeros(())

    return jax.lax.cond(turn, run, skip, variables, opt_state)


def scan(body: Callable, carry: Any, inputs: Any, *, unroll: bool) -> tuple[Any, Any]:
    """jax.lax.scan, or an equivalent Python loop if `unroll`.

    On CPU a gradient inside an XLA while loop is many times slower (ResNet-20, batch size 128: 15 s per step instead of
    0.6 s), and lax.scan with unroll=True still creates such a loop.
    """
    if not unroll:
        return jax.lax.scan(body, carry, inputs)
    outputs = []
    for index in range(jax.tree.leaves(inputs)[0].shape[0]):
        carry, output = body(carry, jax.tree.map(lambda x: x[index], inputs))  # noqa: B023
        outputs.append(output)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
