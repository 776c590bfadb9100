"""Frozen parameters: no gradient is computed for them, and batch norm with frozen parameters keeps its statistics."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax

from jaxcnn.layers import BatchNorm


def without_gradient(params: Any, frozen: frozenset[str]) -> Any:
    """Returns `params`, with gradients stopped for parameters whose path, such as "stem_conv/kernel", is in `frozen`."""
    return jax.tree.map_with_path(lambda path, leaf: jax.lax.stop_gradient(leaf) if _name(path) in frozen else leaf, params)


@contextlib.contextmanager
def keep_statistics(params: Any, frozen: frozenset[str]) -> Iterator[None]:
    """Makes batch norm layers whose parameters are all frozen use their running statistics in training as well.

    Frozen layers thus compute the same in training as in evaluation. If a task has several networks, the name of a network's
    module must be its name in `params`.
    """
    names = [_name(path) for path, _ in jax.tree.leaves_with_path(params)]

    def call(method: Callable, arguments: tuple, named: dict, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, BatchNorm) and context.method_name == "__call__":
            path = [_network(module), *module.path] if _network(module) in params else module.path
            layer_names = [name for name in names if name.startswith("/".join(path) + "/")]
            if layer_names and frozen.issuperset(layer_names):
                object.__setattr__(module, "use_running_average", True)  # bound modules refuse assignment
        return method(*arguments, **named)

    with nn.intercept_methods(call):
        yield


def _network(module: nn.Module) -> str | None:
    """Returns the name of the network that contains a layer."""
    while isinstance(module.parent, nn.Module):
        module = module.parent
    return module.name


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
