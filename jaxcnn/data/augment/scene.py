"""Images together with their segmentation maps and bounding boxes, which geometric operations transform by the same matrix.

A matrix (2, 3) maps a position (x, y, 1) in the result to the position in the input image. The center of the first pixel is
at (0.5, 0.5). Operations accept either images or a Scene and return the same type.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import flax.struct
import jax
import jax.numpy as jnp

from jaxcnn.data.fields import NO_BOX, VOID

VISIBLE = 0.25  # share of a box's area that must be visible after all operations; otherwise the box is dropped


@flax.struct.dataclass
class Scene:
    """Images (N, H, W, C) with those of the targets "map" (N, H, W), "boxes" (N, M, 4) and "classes" (N, M) that exist.

    Each operation clips "boxes" at the border. "corners" (N, M, 4, 2) are the transformed corners of the unclipped boxes.
    """

    images: jax.Array
    targets: dict[str, jax.Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the shape (N, H, W, C) of the images."""
        return self.images.shape


Moved = TypeVar("Moved", jax.Array, Scene)


def scene(images: jax.Array, fields: Mapping[str, jax.Array]) -> Scene:
    """Returns a Scene of images (N, H, W, C) and the maps, boxes and classes in `fields`; other fields are ignored."""
    targets = {name: fields[name] for name in ("map", "boxes", "classes") if name in fields}
    if "boxes" in targets:
        targets["corners"] = corners_of(targets["boxes"])
    return Scene(images, targets)


def fields_on(scene: Scene) -> dict[str, jax.Array]:
    """Returns the fields "map", "boxes" and "classes" of a scene after all operations.

    A box becomes the intersection of two boxes. One is the hull of its unclipped corners, which several rotations do not widen.
    The other was clipped by each operation, because pixels that one operation moves out of the image do not return with the
    next. A box with less than VISIBLE of its area left gets the class NO_BOX and coordinates of 0.
    """
    fields = dict(scene.targets)
    if "boxes" in fields:
        unclipped = hull(fields.pop("corners"))
        low = jnp.maximum(unclipped[..., :2], fields["boxes"][..., :2])
        high = jnp.maximum(low, jnp.minimum(unclipped[..., 2:], fields["boxes"][..., 2:]))
        area, visible = jnp.prod(unclipped[..., 2:] - unclipped[..., :2], axis=-1), jnp.prod(high - low, axis=-1)
        kept = (fields["classes"] != NO_BOX) & (visible > 0) & (visible >= VISIBLE * area)
        fields["classes"] = jnp.where(kept, fields["classes"], NO_BOX)
        fields["boxes"] = jnp.where(kept[:, :, None], jnp.concatenate([low, high], axis=-1), 0.0)
    return fields


def moved(images: Moved, matrices: Callable[[], jax.Array], pixels: Callable[[jax.Array], jax.Array]) -> Moved:
    """Applies `pixels` to the images, and `matrices()` to the targets of a Scene.

    Both must describe the same transformation; `pixels` may crop, mirror or resize faster than a warp would. `matrices` returns
    (N, 2, 3), or (1, 2, 3) for all images, and is called only for a Scene.
    """
    if not isinstance(images, Scene):  # not isinstance(images, jax.Array), as NumPy arrays are accepted too
        return pixels(images)
    result = pixels(images.images)
    return Scene(result, _moved_targets(images.targets, matrices(), images.shape[1:3], result.shape[1:3]))  # type: ignore[return-value]


def on_pixels(images: Moved, change: Callable[[jax.Array], jax.Array]) -> Moved:
    """Applies to the images a `change` that does not move pixels; the targets of a Scene are unchanged."""
    if not isinstance(images, Scene):
        return change(images)
    return Scene(change(images.images), images.targets)  # type: ignore[return-value]


def nearest(matrices: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Returns, for each pixel of a result of height × width, the image pixel that contains its mapped center.

    The results are x and y, (N, height, width) int32 each. They are computed in Pillow's fixed-point format with 16 fractional
    bits, so that they do not depend on how floats are rounded.
    """
    columns, rows = jnp.arange(width)[None, None], jnp.arange(height)[None, :, None]
    matrices = from_corners(matrices)
    fixed = jnp.floor(matrices * 65536 + 0.5).astype(jnp.int32)[:, :, :, None, None]
    x, y = ((fixed[:, i, 0] * columns + fixed[:, i, 1] * rows + fixed[:, i, 2]) >> 16 for i in (0, 1))
    return x, y


def from_corners(matrices: jax.Array) -> jax.Array:
    """Returns matrices that accept integer pixel indices, such as (0, 0), in place of pixel centers, such as (0.5, 0.5)."""
    return matrices.at[:, :, 2].add((matrices[:, :, 0] + matrices[:, :, 1]) / 2)


def _moved_targets(
    targets: Mapping[str, jax.Array], matrices: jax.Array, old: tuple[int, ...], new: tuple[int, ...]
) -> dict[str, jax.Array]:
    """Transforms the targets into images of the size `new` (height, width)."""
    result = dict(targets)
    if "map" in targets:
        result["map"] = _moved_map(targets["map"], matrices, new)
    if "boxes" in targets:
        border = jnp.array([[[new[1], new[0]] * 2]], jnp.float32)
        result["boxes"] = jnp.clip(hull(move_corners(corners_of(targets["boxes"]), matrices)), 0, border)
        result["corners"] = move_corners(targets["corners"], matrices)
    return result


def _moved_map(maps: jax.Array, matrices: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Samples maps (N, H, W) at `size` by nearest neighbor; pixels from outside the image are VOID."""
    n, height, width = maps.shape
    matrices = jnp.broadcast_to(matrices, (n, 2, 3))
    x, y = nearest(matrices, *size)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = jnp.where(inside, y * width + x, 0).reshape(n, -1)
    values = jax.vmap(lambda pixels, index: pixels[index])(maps.reshape(n, -1), index)
    return jnp.where(inside, values.reshape(n, *size), jnp.array(VOID, maps.dtype))


def corners_of(boxes: jax.Array) -> jax.Array:
    """Returns the corners (N, M, 4, 2), x and y each, of boxes (N, M, 4) given as x0, y0, x1, y1."""
    return jnp.stack([boxes[..., jnp.array([0, 2, 0, 2])], boxes[..., jnp.array([1, 1, 3, 3])]], axis=-1)


def hull(corners: jax.Array) -> jax.Array:
    """Returns the smallest axis-aligned boxes (N, M, 4) that contain the corners (N, M, 4, 2)."""
    return jnp.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=-1)


def move_corners(corners: jax.Array, matrices: jax.Array) -> jax.Array:
    """Transforms corners (N, M, 4, 2) by the inverses of the matrices (N, 2, 3), which map the result to the image."""
    (a, b, left), (c, d, top) = (tuple(matrices[:, i, j, None, None] for j in range(3)) for i in range(2))
    x, y = corners[..., 0] - left, corners[..., 1] - top
    return jnp.stack([d * x - b * y, a * y - c * x], axis=-1) / (a * d - b * c)[..., None]
