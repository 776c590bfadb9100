"""Optimizers by name, composed of optax's transformations: clipping, weight decay, update rule, learning rate, freezing.

Parameters can be divided into groups, each with a separate update rule, learning rate and schedule.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.settings import refuse_without_effect
from jaxcnn.train.schedules import with_standard_promotion
from jaxcnn.train.settings import OptimizerSettings, ScheduleSettings, group_settings

Params = Any
Rules = Sequence[tuple[str, float]]
_COUPLED = ("sgd", "adam", "rmsprop")  # weight decay is added to the gradient (L2), for other rules to the update


def parameter_paths(params: Params) -> list[str]:
    """Returns the path of every leaf, such as "stage1_block1/conv1/kernel", in tree order."""
    return [_name(path) for path, _ in jax.tree.leaves_with_path(params)]


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


class Group(NamedTuple):
    """Parameters whose path matches `pattern`, with their settings `optimizer.*` and their schedule."""

    pattern: str
    config: OptimizerSettings
    schedule: optax.Schedule


def make_groups(
    optimizer: OptimizerSettings,
    schedule: ScheduleSettings,
    make_schedule: Callable[[ScheduleSettings, float], optax.Schedule],
) -> list[Group]:
    """Returns the groups of the setting optimizer.groups. `make_schedule(settings, peak)` creates the schedule of a group.

    Raises:
      UserError: if a group has an unknown setting, an invalid value, or a setting without effect.
    """
    return [
        Group(pattern, settings.optimizer, make_schedule(settings.schedule, settings.optimizer.learning_rate))
        for pattern, settings in group_settings(optimizer, schedule)
    ]


def make_optimizer(
    config: OptimizerSettings, schedule: optax.Schedule, params: Params, groups: Sequence[Group] = ()
) -> optax.GradientTransformation:
    """Returns the optimizer of the settings `optimizer.*`, and of `groups` for their parameters.

        optimizer = make_optimizer(OptimizerSettings(name="adamw"), schedule, params)

    `schedule` maps the step to the learning rate. The leaves of `params` may be jax.ShapeDtypeStructs.

    Raises:
      UserError: if a regular expression is invalid or matches no parameter, or if all parameters are frozen.
    """
    refuse_without_effect(config)
    paths = parameter_paths(params)
    for settings in (config, *(group.config for group in groups)):
        _check_factors("weight_decay_factors", settings.weight_decay_factors, paths, must_match=False)
        _check_factors("learning_rate_factors", settings.learning_rate_factors, paths, must_match=True)
    _check_patterns("freeze", config.freeze, paths, must_match=True)
    _check_patterns("groups", [group.pattern for group in groups], paths, must_match=True)
    trained = _update(config, schedule)
    if groups:
        trained = optax.partition(
            {f"group{i}": _update(group.config, group.schedule) for i, group in enumerate(groups)} | {"rest": trained},
            lambda params: jax.tree.map_with_path(lambda path, _: _label(groups, _name(path)), params),
        )
    if config.clip_norm:
        trained = optax.chain(optax.clip_by_global_norm(config.clip_norm), trained)
    optimizer = trained if not config.freeze else _without_frozen(trained, config.freeze, paths)
    return optax.GradientTransformation(optimizer.init, with_standard_promotion(optimizer.update))


def _label(groups: Sequence[Group], path: str) -> str:
    """Returns the label of the first group whose pattern matches, or "rest"."""
    return next((f"group{i}" for i, group in enumerate(groups) if re.search(group.pattern, path)), "rest")


def _update(config: OptimizerSettings, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the transformation of one group from the gradients to the updates that are added to the parameters."""
    decay = _add_decayed_weights(config.weight_decay, config.weight_decay_factors)
    rule = _rule(config)
    return optax.chain(
        *((decay, rule) if config.name in _COUPLED else (rule, decay)),
        optax.scale_by_trust_ratio() if config.name == "lamb" else optax.identity(),
        _scale_by_factors(config.learning_rate_factors),
        optax.scale_by_learning_rate(schedule),
        optax.stateless(_rescale_filters) if config.rescale_filters else optax.identity(),
    )


def _without_frozen(
    trained: optax.GradientTransformation, freeze: Sequence[str], paths: Sequence[str]
) -> optax.GradientTransformation:
    """Returns `trained` for the parameters that match no pattern of `freeze`, and zero updates for the others."""
    if all(_matches(freeze, path) for path in paths):
        raise UserError(f"optimizer.freeze: {freeze} matches every parameter, so there is nothing to train")
    return optax.partition(
        {"trained": trained, "frozen": optax.set_to_zero()},
        lambda params: jax.tree.map_with_path(lambda path, _: "frozen" if _matches(freeze, _name(path)) else "trained", params),
    )


def frozen_paths(config: OptimizerSettings, params: Params) -> frozenset[str]:
    """Returns the paths of the parameters that match a pattern of `optimizer.freeze`."""
    return frozenset(path for path in parameter_paths(params) if _matches(config.freeze, path))


def _rule(config: OptimizerSettings) -> optax.GradientTransformation:
    """Returns the update rule, without the learning rate."""
    adam = optax.scale_by_adam(config.b1, config.b2, config.eps)
    momentum = optax.trace(config.momentum, config.nesterov) if config.momentum else optax.identity()
    rules: dict[str, Callable[[], optax.GradientTransformation]] = {
        "sgd": lambda: momentum,
        "adam": lambda: adam,
        "adamw": lambda: adam,
        "rmsprop": lambda: optax.chain(optax.scale_by_rms(config.b2, config.eps), momentum),
        "lamb": lambda: adam,
        "lion": lambda: optax.scale_by_lion(config.b1, config.b2),
        # optax.adafactor negates the update, but here scale_by_learning_rate does
        "adafactor": lambda: optax.chain(optax.adafactor(learning_rate=None), optax.scale(-1.0)),
        "muon": lambda: _muon(config, adam),
    }
    return rules[config.name]()


def _muon(config: OptimizerSettings, adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns Muon for convolution kernels, treated as matrices (h·w·in, out), and Adam for the other parameters.

    Jordan et al.: Muon: An optimizer for hidden layers in neural networks. 2024, kellerjordan.github.io/posts/muon.
    The momentum of SGD is orthogonalized and, as in the original, scaled by max(1, out / (h·w·in))^0.5. Kernels of the same
    shape are orthogonalized as one batch. optax's scale_by_muon is used without its momentum, which has a bias correction
    that the original lacks.
    """
    matrices = optax.contrib.MuonDimensionNumbers(reduction_axis=(1, 2, 3), output_axis=4)
    newton_schulz = optax.contrib.scale_by_muon(
        config.muon_coefficients, config.muon_steps, beta=0.0, nesterov=False, weight_dimension_numbers=matrices
    )

    def orthogonalize(updates: Params, _: Params) -> Params:
        kernels, structure = jax.tree.flatten(updates)
        orthogonalized = list(kernels)
        for shape in {kernel.shape for kernel in kernels}:
            indices = [index for index, kernel in enumerate(kernels) if kernel.shape == shape]
            batch = jnp.stack([kernels[index] for index in indices]).astype(config.muon_dtype)
            batch, _ = newton_schulz.update(batch, newton_schulz.init(batch))
            batch = batch.astype(kernels[indices[0]].dtype) * max(1.0, shape[3] / math.prod(shape[:3])) ** 0.5
            for index, kernel in zip(indices, batch, strict=True):
                orthogonalized[index] = kernel
        return jax.tree.unflatten(structure, orthogonalized)

    momentum = optax.trace(config.momentum, config.nesterov) if config.momentum else optax.identity()
    return optax.partition(
        {"convolution": optax.chain(momentum, optax.stateless(orthogonalize)), "rest": adam},
        lambda params: jax.tree.map(lambda p: "convolution" if p.ndim == 4 else "rest", params),
    )


def _rescale_filters(updates: Params, params: Params) -> Params:
    """Changes updates so that a convolution kernel p becomes √filters · p / |p| + update. Must come after the learning rate."""

    def rescale(update: jax.Array, p: jax.Array) -> jax.Array:
        return update + p * (p.shape[3] ** 0.5 / jnp.maximum(jnp.linalg.norm(p), 1e-30) - 1) if p.ndim == 4 else update

    return jax.tree.map(rescale, updates, params)


def _add_decayed_weights(weight_decay: float, rules: Rules) -> optax.GradientTransformation:
    """Returns optax.add_decayed_weights with a separate factor for each parameter."""
    if not weight_decay:
        return optax.identity()

    def add(updates: Params, params: Params) -> Params:
        return jax.tree.map_with_path(
            lambda path, u, p: u + weight_decay * factor * p if (factor := _factor(rules, _name(path))) else u,
            updates,
            params,
        )

    return optax.stateless(add)


def _scale_by_factors(rules: Rules) -> optax.GradientTransformation:
    if not rules:
        return optax.identity()
    return optax.stateless(lambda updates, _: jax.tree.map_with_path(lambda path, u: u * _factor(rules, _name(path)), updates))


def _factor(rules: Rules, path: str) -> float:
    """Returns the factor of the first rule (pattern, factor) that matches, or 1 if none does."""
    return next((float(factor) for pattern, factor in rules if re.search(pattern, path)), 1.0)


def _matches(patterns: Sequence[str], path: str) -> bool:
    return any(re.search(pattern, path) for pattern in patterns)


def _check_factors(setting: str, rules: Rules, paths: Sequence[str], *, must_match: bool) -> None:
    _check_patterns(setting, [pattern for pattern, _ in rules], paths, must_match=must_match)


def _check_patterns(setting: str, patterns: Sequence[str], paths: Sequence[str], *, must_match: bool) -> None:
    for pattern in patterns:
        try:
            found = any(re.search(pattern, path) for path in paths)
        except re.error as error:
            raise UserError(f"optimizer.{setting}: {pattern!r} is not a regular expression: {error}") from error
        if must_match and not found:
            hint = did_you_mean(pattern, paths) or f"; an example of a path is {paths[0]!r}"
            raise UserError(f"optimizer.{setting}: {pattern!r} matches no parameter's path{hint}")
