"""Images together with what lies on them: a geometric operation draws one matrix, and moves pixels, maps and boxes by it.

A matrix (2, 3) takes a place (x, y, 1) in the result to its place in the image; the centre of the first pixel is at
(0.5, 0.5). Operations take images alone, or a Scene in their place: then they return a Scene.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import flax.struct
import jax
import jax.numpy as jnp

from jaxcnn.data.fields import NO_BOX, VOID

VISIBLE = 0.25  # of a box's area: a box that shows less after all operations is dropped


@flax.struct.dataclass
class Scene:
    """Images (N, H, W, C), with the columns "map" (N, H, W), "boxes" (N, M, 4) and "classes" (N, M) that there are.

    "boxes" are cut off at the border by each operation; "corners" (N, M, 4, 2) are the moved corners of the uncut boxes.
    """

    images: jax.Array
    targets: dict[str, jax.Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return self.images.shape


Moved = TypeVar("Moved", jax.Array, Scene)


def scene(images: jax.Array, fields: Mapping[str, jax.Array]) -> Scene:
    """`images` with the fields that have a place on them: maps and boxes."""
    targets = {name: fields[name] for name in ("map", "boxes", "classes") if name in fields}
    if "boxes" in targets:
        targets["corners"] = corners_of(targets["boxes"])
    return Scene(images, targets)


def fields_on(scene: Scene) -> dict[str, jax.Array]:
    """The columns of a scene. A box of which less than VISIBLE is left has the class NO_BOX, and zeros for corners.

    A box is the intersection of two: the hull of its uncut corners, which does not widen with several rotations, and the box
    as cut off by each operation, because pixels that one operation moves out of the image do not come back with the next.
    """
    fields = dict(scene.targets)
    if "boxes" in fields:
        whole = hull(fields.pop("corners"))
        low = jnp.maximum(whole[..., :2], fields["boxes"][..., :2])
        high = jnp.maximum(low, jnp.minimum(whole[..., 2:], fields["boxes"][..., 2:]))
        area, left = jnp.prod(whole[..., 2:] - whole[..., :2], axis=-1), jnp.prod(high - low, axis=-1)
        kept = (fields["classes"] != NO_BOX) & (left > 0) & (left >= VISIBLE * area)
        fields["classes"] = jnp.where(kept, fields["classes"], NO_BOX)
        fields["boxes"] = jnp.where(kept[:, :, None], jnp.concatenate([low, high], axis=-1), 0.0)
    return fields


def moved(images: Moved, matrices: Callable[[], jax.Array], pixels: Callable[[jax.Array], jax.Array]) -> Moved:
    """Images as `pixels` moves them; of a Scene the targets too, by `matrices()`: (N, 2, 3), or (1, 2, 3) for all.

    Both describe the same move: pixels may be cut out, mirrored or resized by faster means than a warp.
    """
    if not isinstance(images, Scene):  # NumPy arrays are accepted too
        return pixels(images)
    result = pixels(images.images)
    return Scene(result, _moved_targets(images.targets, matrices(), images.shape[1:3], result.shape[1:3]))  # type: ignore[return-value]


def on_pixels(images: Moved, change: Callable[[jax.Array], jax.Array]) -> Moved:
    """Images changed by what leaves every pixel in its place."""
    if not isinstance(images, Scene):
        return change(images)
    return Scene(change(images.images), images.targets)  # type: ignore[return-value]


def nearest(matrices: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """The pixels, x and y (N, height, width) int32, in which the centres of the result's pixels come to lie.

    In Pillow's fixed point (16 bits of fraction), so that no fraction depends on how floats are rounded.
    """
    columns, rows = jnp.arange(width)[None, None], jnp.arange(height)[None, :, None]
    matrices = from_corners(matrices)
    fixed = jnp.floor(matrices * 65536 + 0.5).astype(jnp.int32)[:, :, :, None, None]
    x, y = ((fixed[:, i, 0] * columns + fixed[:, i, 1] * rows + fixed[:, i, 2]) >> 16 for i in (0, 1))
    return x, y


def from_corners(matrices: jax.Array) -> jax.Array:
    """The same, but from whole numbers: pixel (0, 0) instead of its centre (0.5, 0.5)."""
    return matrices.at[:, :, 2].add((matrices[:, :, 0] + matrices[:, :, 1]) / 2)


def _moved_targets(
    targets: Mapping[str, jax.Array], matrices: jax.Array, old: tuple[int, ...], new: tuple[int, ...]
) -> dict[str, jax.Array]:
    """Columns of images of (height, width) `old`, moved into images of the size `new`."""
    result = dict(targets)
    if "map" in targets:
        result["map"] = _moved_map(targets["map"], matrices, new)
    if "boxes" in targets:
        border = jnp.array([[[new[1], new[0]] * 2]], jnp.float32)
        result["boxes"] = jnp.clip(hull(move_corners(corners_of(targets["boxes"]), matrices)), 0, border)
        result["corners"] = move_corners(targets["corners"], matrices)
    return result


def _moved_map(maps: jax.Array, matrices: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """(N, H, W) -> (N, *size): the value of the nearest pixel, VOID outside."""
    n, height, width = maps.shape
    matrices = jnp.broadcast_to(matrices, (n, 2, 3))
    x, y = nearest(matrices, *size)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    place = jnp.where(inside, y * width + x, 0).reshape(n, -1)
    values = jax.vmap(lambda pixels, place: pixels[place])(maps.reshape(n, -1), place)
    return jnp.where(inside, values.reshape(n, *size), jnp.array(VOID, maps.dtype))


def corners_of(boxes: jax.Array) -> jax.Array:
    """(N, M, 4) -> (N, M, 4, 2)."""
    return jnp.stack([boxes[..., jnp.array([0, 2, 0, 2])], boxes[..., jnp.array([1, 1, 3, 3])]], axis=-1)


def hull(corners: jax.Array) -> jax.Array:
    """(N, M, 4, 2) -> (N, M, 4): the smallest upright box around the corners."""
    return jnp.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=-1)


def move_corners(corners: jax.Array, matrices: jax.Array) -> jax.Array:
    """(N, M, 4, 2) -> the same by the inverses of the matrices (N, 2, 3), which lead from the result to the image."""
    (a, b, left), (c, d, top) = (tuple(matrices[:, i, j, None, None] for j in range(3)) for i in range(2))
    x, y = corners[..., 0] - left, corners[..., 1] - top
    return jnp.stack([d * x - b * y, a * y - c * x], axis=-1) / (a * d - b * c)[..., None]
