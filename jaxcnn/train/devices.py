"""The devices of a run: a mesh with the axis "data", over which batches are sharded and the state is replicated."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.errors import UserError


def make_mesh(devices: int = 0) -> Mesh:
    """Returns a mesh of the first `devices` devices, or of all if 0. Raises UserError if JAX finds fewer."""
    found = jax.devices()
    if devices > len(found):
        raise UserError(f"devices: {devices} requested, but JAX finds only {len(found)} ({found[0].platform})")
    # Auto axes: the compiler propagates shardings; they are not part of an array's type
    return jax.make_mesh(
        (devices or len(found),), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=found[: devices or None]
    )


def on_cpu(mesh: Mesh) -> bool:
    """Returns whether the devices are CPUs. There, loops around gradients are slow, and virtual devices must be waited for."""
    return mesh.devices.flat[0].platform == "cpu"


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays with a copy on every device."""
    return NamedSharding(mesh, P())


def sharded(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of K batches: axis 1, the examples, is split over the devices."""
    return NamedSharding(mesh, P(None, "data"))


def replicated_shapes(make: Callable[[jax.Array], Any], mesh: Mesh) -> Any:
    """Returns the shapes and dtypes of the result of `make(key)`, each with the replicated sharding."""
    shapes = jax.eval_shape(make, jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), shapes)
