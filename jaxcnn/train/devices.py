"""The devices of a run, as one mesh with the axis "data": batches are sharded over it, the state is replicated."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.errors import UserError


def make_mesh(devices: int = 0) -> Mesh:
    """The first `devices` devices that JAX finds (0: all). Raises UserError if there are fewer."""
    found = jax.devices()
    if devices > len(found):
        raise UserError(f"devices: {devices} were asked for, but JAX finds {len(found)} ({found[0].platform})")
    # Auto axes: shardings are propagated by the compiler, not part of an array's type
    return jax.make_mesh(
        (devices or len(found),), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=found[: devices or None]
    )


def on_cpu(mesh: Mesh) -> bool:
    """Whether this is the CPU, where loops around gradients are slow and devices have to be waited for."""
    return mesh.devices.flat[0].platform == "cpu"


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, P())


def sharded(mesh: Mesh) -> NamedSharding:
    """K batches, each shared by the devices: axis 1 is the examples' axis."""
    return NamedSharding(mesh, P(None, "data"))


def replicated_shapes(make: Callable[[jax.Array], Any], mesh: Mesh) -> Any:
    """The shapes of what `make(key)` returns, each with the sharding "on every device"."""
    shapes = jax.eval_shape(make, jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), shapes)
