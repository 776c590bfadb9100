"""Frozen parameters: no gradient is computed for them, and batch norm whose parameters are frozen keeps its statistics."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax

from jaxcnn.layers import BatchNorm


def without_gradient(params: Any, frozen: frozenset[str]) -> Any:
    """`params`, of which those at the paths `frozen`, such as "stem_conv/kernel", are constants for differentiation."""
    return jax.tree.map_with_path(lambda path, leaf: jax.lax.stop_gradient(leaf) if _name(path) in frozen else leaf, params)


@contextlib.contextmanager
def keep_statistics(params: Any, frozen: frozenset[str]) -> Iterator[None]:
    """Batch norm all of whose parameters are frozen uses its running statistics in training too.

    So the frozen layers compute in training what they compute in evaluation. Of a task with several networks, the name of
    a network's module is its name in `params`.
    """
    names = [_name(path) for path, _ in jax.tree.leaves_with_path(params)]

    def call(method: Callable, arguments: tuple, named: dict, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, BatchNorm) and context.method_name == "__call__":
            path = [_network(module), *module.path] if _network(module) in params else module.path
            own = [name for name in names if name.startswith("/".join(path) + "/")]
            if own and frozen.issuperset(own):
                object.__setattr__(module, "use_running_average", True)  # a module in use is immutable to its user
        return method(*arguments, **named)

    with nn.intercept_methods(call):
        yield


def _network(module: nn.Module) -> str | None:
    """The name of the network that a layer is in."""
    while isinstance(module.parent, nn.Module):
        module = module.parent
    return module.name


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
