"""Test-time augmentation: predictions are averaged over several weighted views of each image."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from msgspec import Meta

from jaxcnn.data.augment.geometry import resized_crop
from jaxcnn.data.augment.settings import parse
from jaxcnn.settings import Count, Positive


@dataclasses.dataclass(frozen=True)
class InferenceView:
    """A transformation of images and the weight of its prediction; the weights of all views sum to 1."""

    weight: float
    functions: tuple[Callable[[jax.Array], jax.Array], ...] = ()

    def __call__(self, images: jax.Array) -> jax.Array:
        """Transforms images (N, H, W, C). Only the view "scale" changes their height and width."""
        for function in self.functions:
            images = function(images)
        return images


def make_views(policy: Sequence[Any]) -> list[InferenceView]:
    """Returns every combination of one view per entry; the first is the unchanged image.

    (("shift", {"pixels": 1}), "horizontal_flip") gives the six views of airbench (Jordan, arXiv:2404.00498, section 3.5): the
    image and two translations, each with its mirror image. The translations together have half the weight.

    Raises:
      UserError: an entry or setting does not exist, or a value has the wrong type or is out of range.
    """
    operations = [parse(entry, (VIEWS,), where="evaluate.views") for entry in policy]
    choices = [operation.function(**dict(operation.settings)) for operation in operations]
    views = []
    for combination in itertools.product(*choices):
        weight = 1.0
        for view in combination:
            weight *= view.weight
        views.append(InferenceView(weight, tuple(function for view in combination for function in view.functions)))
    return views


def _half(others: Sequence[Callable[[jax.Array], jax.Array]]) -> list[InferenceView]:
    """Returns the unchanged image with half the weight, and `others` sharing the other half equally."""
    return [InferenceView(0.5), *(InferenceView(0.5 / len(others), (other,)) for other in others)]


def horizontal_flip() -> list[InferenceView]:
    """Returns the image and its left-right mirror image."""
    return _half([lambda images: jnp.flip(images, 2)])


def vertical_flip() -> list[InferenceView]:
    """Returns the image and its top-bottom mirror image."""
    return _half([lambda images: jnp.flip(images, 1)])


def shift(*, pixels: Count = 1, directions: Literal["diagonal", "all"] = "diagonal") -> list[InferenceView]:
    """Returns the image and its translations by `pixels`, with reflected edges.

    "diagonal" translates to the lower right and the upper left, "all" in all eight directions.
    """
    offsets = [(1, 1), (-1, -1)]
    if directions == "all":
        offsets = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]

    def moved(y: int, x: int) -> Callable[[jax.Array], jax.Array]:
        def move(images: jax.Array) -> jax.Array:
            height, width = images.shape[1:3]
            padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")
            return padded[:, pixels * (1 - y) :, pixels * (1 - x) :][:, :height, :width]

        return move

    return _half([moved(y, x) for y, x in offsets])


def center_crop(*, share: Annotated[float, Meta(gt=0, le=1)] = 0.875) -> list[InferenceView]:
    """Returns the image and its center crop of `share` of the height and width, resized to the full size."""

    def crop(images: jax.Array) -> jax.Array:
        n, height, width, _ = images.shape
        h, w = max(1, round(share * height)), max(1, round(share * width))
        box = ((height - h) // 2, (width - w) // 2, h, w)
        top, left, heights, widths = (jnp.full(n, value, jnp.float32) for value in box)
        return resized_crop(images, (top, left, heights, widths), (height, width), "linear")

    return _half([crop])


def scale(*, factor: Positive = 1.25) -> list[InferenceView]:
    """Returns the image and its version resized by `factor`, for networks that accept any image size."""

    def resize(images: jax.Array) -> jax.Array:
        n, height, width, _ = images.shape
        zero, h, w = (jnp.full(n, value, jnp.float32) for value in (0, height, width))
        size = (max(1, round(factor * height)), max(1, round(factor * width)))
        return resized_crop(images, (zero, zero, h, w), size, "linear")

    return _half([resize])


# functions (**settings) -> views
VIEWS: dict[str, Callable[..., list[InferenceView]]] = {
    "horizontal_flip": horizontal_flip,
    "vertical_flip": vertical_flip,
    "shift": shift,
    "center_crop": center_crop,
    "scale": scale,
}
