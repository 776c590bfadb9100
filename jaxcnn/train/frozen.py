"""Frozen parameters: no gradient is computed for them, and batch norm whose parameters are frozen keeps its statistics."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jaxcnn.layers import BatchNorm

Interceptor = Callable[[Callable, tuple, dict, nn.module.InterceptorContext], Any]


def without_gradient(params: Any, frozen: frozenset[str]) -> Any:
    """`params`, of which those at the paths `frozen`, such as "stem_conv/kernel", are constants for differentiation."""
    return jax.tree.map_with_path(lambda path, leaf: jax.lax.stop_gradient(leaf) if _name(path) in frozen else leaf, params)


def keep_statistics(params: Any, frozen: frozenset[str]) -> Interceptor:
    """For nn.intercept_methods: batch norm all of whose parameters are frozen uses its running statistics in training too.

    So the frozen layers compute in training what they compute in evaluation.
    """
    names = [_name(path) for path, _ in jax.tree.leaves_with_path(params)]

    def call(method: Callable, arguments: tuple, named: dict, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, BatchNorm) and context.method_name == "__call__":
            own = [name for name in names if name.startswith("/".join(module.path) + "/")]
            if own and frozen.issuperset(own):
                object.__setattr__(module, "use_running_average", True)  # a module in use is immutable to its user
        return method(*arguments, **named)

    return call


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
