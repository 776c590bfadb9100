"""Optimisers by name, from optax's parts: clip, decay, the rule itself, factors a parameter, learning rate, freeze."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.train.schedules import with_standard_promotion

Params = Any
Rules = Sequence[tuple[str, float]]
_COUPLED = ("sgd", "adam", "rmsprop")  # weight decay is part of the gradient (L2), elsewhere of the update


def parameter_paths(params: Params) -> list[str]:
    """The path of every leaf, "stage1_block1/conv1/kernel", in tree order."""
    return [_name(path) for path, _ in jax.tree.leaves_with_path(params)]


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def make_optimizer(config: ConfigDict, schedule: optax.Schedule, params: Params) -> optax.GradientTransformation:
    """The update rule that the settings `optimizer.*` ask for. `params` may be shapes.

    Raises:
      UserError: a regular expression that is none, or that matches no parameter; everything frozen.
    """
    paths = parameter_paths(params)
    _check_factors("weight_decay_factors", config.weight_decay_factors, paths, must_match=False)
    _check_factors("learning_rate_factors", config.learning_rate_factors, paths, must_match=True)
    _check_patterns("freeze", config.freeze, paths, must_match=True)
    decay = _add_decayed_weights(config.weight_decay, config.weight_decay_factors)
    rule = _rule(config)
    trained = optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        *((decay, rule) if config.name in _COUPLED else (rule, decay)),
        optax.scale_by_trust_ratio() if config.name == "lamb" else optax.identity(),
        _scale_by_factors(config.learning_rate_factors),
        optax.scale_by_learning_rate(schedule),
    )
    optimizer = trained if not config.freeze else _without_frozen(trained, config.freeze, paths)
    return optax.GradientTransformation(optimizer.init, with_standard_promotion(optimizer.update))


def _without_frozen(
    trained: optax.GradientTransformation, freeze: Sequence[str], paths: Sequence[str]
) -> optax.GradientTransformation:
    """`trained` for the parameters that no pattern of `freeze` matches, zero updates for the others."""
    if all(_matches(freeze, path) for path in paths):
        raise UserError(f"optimizer.freeze: {freeze} matches every parameter; nothing is left to train")
    return optax.partition(
        {"trained": trained, "frozen": optax.set_to_zero()},
        lambda params: jax.tree.map_with_path(lambda path, _: "frozen" if _matches(freeze, _name(path)) else "trained", params),
    )


def _rule(config: ConfigDict) -> optax.GradientTransformation:
    """The update rule before the learning rate."""
    adam = optax.scale_by_adam(config.b1, config.b2, config.eps)
    momentum = optax.trace(config.momentum, config.nesterov) if config.momentum else optax.identity()
    rules: dict[str, Callable[[], optax.GradientTransformation]] = {
        "sgd": lambda: momentum,
        "adam": lambda: adam,
        "adamw": lambda: adam,
        "rmsprop": lambda: optax.chain(optax.scale_by_rms(config.b2, config.eps), momentum),
        "lamb": lambda: adam,
        "lion": lambda: optax.scale_by_lion(config.b1, config.b2),
        # optax.adafactor turns the gradient round; here the learning rate does that
        "adafactor": lambda: optax.chain(optax.adafactor(learning_rate=None), optax.scale(-1.0)),
        "muon": lambda: _muon(config, adam),
    }
    return rules[config.name]()


def _muon(config: ConfigDict, adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """Muon for convolution kernels, as matrices (h·w·in, out); Adam for the rest (Jordan et al. 2024).

    As there, the update of a matrix that widens is enlarged by √(out / in).
    """
    matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)

    def matrices(params: Params) -> Params:
        return jax.tree.map(lambda _: matrix, params)

    def widening(update: jax.Array) -> jax.Array:
        return update * max(1.0, update.shape[3] / math.prod(update.shape[:3])) ** 0.5

    muon = optax.chain(
        optax.contrib.scale_by_muon(beta=config.momentum, nesterov=config.nesterov, weight_dimension_numbers=matrices),
        optax.stateless(lambda updates, _: jax.tree.map(widening, updates)),
    )
    return optax.partition(
        {"convolution": muon, "rest": adam},
        lambda params: jax.tree.map(lambda p: "convolution" if p.ndim == 4 else "rest", params),
    )


def _add_decayed_weights(weight_decay: float, rules: Rules) -> optax.GradientTransformation:
    """optax.add_decayed_weights, with a factor for each parameter."""
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
    """The factor of the first rule (pattern, factor) that matches; 1 where none does."""
    return next((float(factor) for pattern, factor in rules if re.search(pattern, path)), 1.0)


def _matches(patterns: Sequence[str], path: str) -> bool:
    return any(re.search(pattern, path) for pattern in patterns)


def _check_factors(setting: str, rules: Rules, paths: Sequence[str], *, must_match: bool) -> None:
    for rule in rules:
        pair = isinstance(rule, tuple) and len(rule) == 2
        if not (pair and isinstance(rule[0], str) and isinstance(rule[1], int | float) and rule[1] >= 0):
            raise UserError(f"optimizer.{setting}: {rule!r} is not a pair (regular expression, factor)")
    _check_patterns(setting, [pattern for pattern, _ in rules], paths, must_match=must_match)


def _check_patterns(setting: str, patterns: Sequence[str], paths: Sequence[str], *, must_match: bool) -> None:
    for pattern in patterns:
        try:
            found = any(re.search(pattern, path) for path in paths)
        except re.error as error:
            raise UserError(f"optimizer.{setting}: {pattern!r} is no regular expression: {error}") from error
        if must_match and not found:
            near = did_you_mean(pattern, paths) or f"; they are named like {paths[0]!r}"
            raise UserError(f"optimizer.{setting}: {pattern!r} is found in no parameter's path{near}")
