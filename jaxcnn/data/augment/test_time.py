"""Test-time augmentation: several views of each image, whose predictions are averaged by their weights."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from msgspec import Meta

from jaxcnn.data.augment.geometry import resized_part
from jaxcnn.data.augment.settings import parse
from jaxcnn.settings import Count, Positive


@dataclasses.dataclass(frozen=True)
class View:
    """images (N, H, W, C) -> images: one way to look at them; the weights of all views sum to 1."""

    weight: float
    functions: tuple[Callable[[jax.Array], jax.Array], ...] = ()

    def __call__(self, images: jax.Array) -> jax.Array:
        """(N, H, W, C) -> the same, or of another size where the view is a scale."""
        for function in self.functions:
            images = function(images)
        return images


def make_views(policy: Sequence[Any]) -> list[View]:
    """Every combination of one view from each entry; the first is the image itself, unless "scale" leaves that out.

    (("shift", {"pixels": 1}), "horizontal_flip") is the six views of airbench (Jordan, arXiv:2404.00498, section 3.5): the
    image and two translations, each with its mirror image, the translations together of half the weight.

    Raises:
      UserError: an unknown entry, a setting that it does not have, or a value that it can't use.
    """
    operations = [parse(entry, (VIEWS,), where="evaluate.views") for entry in policy]
    choices = [operation.function(**dict(operation.settings)) for operation in operations]
    views = []
    for combination in itertools.product(*choices):
        weight = 1.0
        for view in combination:
            weight *= view.weight
        views.append(View(weight, tuple(function for view in combination for function in view.functions)))
    return views


def _half(others: Sequence[Callable[[jax.Array], jax.Array]]) -> list[View]:
    """The image itself, and the others together of the same weight."""
    return [View(0.5), *(View(0.5 / len(others), (other,)) for other in others)]


def horizontal_flip() -> list[View]:
    """The image and its mirror image."""
    return _half([lambda images: jnp.flip(images, 2)])


def vertical_flip() -> list[View]:
    """The image and, as in a mirror, the image upside down."""
    return _half([lambda images: jnp.flip(images, 1)])


def shift(*, pixels: Count = 1, directions: Literal["diagonal", "all"] = "diagonal") -> list[View]:
    """The image, and moved by `pixels` to the upper left and the lower right ("all": to all eight sides); edges reflected."""
    ways = [(1, 1), (-1, -1)]
    if directions == "all":
        ways = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]

    def moved(y: int, x: int) -> Callable[[jax.Array], jax.Array]:
        def move(images: jax.Array) -> jax.Array:
            height, width = images.shape[1:3]
            padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")
            return padded[:, pixels * (1 - y) :, pixels * (1 - x) :][:, :height, :width]

        return move

    return _half([moved(y, x) for y, x in ways])


def center_crop(*, share: Annotated[float, Meta(gt=0, le=1)] = 0.875) -> list[View]:
    """The image, and `share` of its height and width in the middle, brought to the whole size."""

    def crop(images: jax.Array) -> jax.Array:
        n, height, width, _ = images.shape
        h, w = max(1, round(share * height)), max(1, round(share * width))
        box = ((height - h) // 2, (width - w) // 2, h, w)
        top, left, h_all, w_all = (jnp.full(n, value, jnp.float32) for value in box)
        return resized_part(images, (top, left, h_all, w_all), (height, width), "linear")

    return _half([crop])


def scale(*, factor: Positive = 1.25) -> list[View]:
    """The image, and `factor` times its height and width: of another shape, for networks that take any."""

    def resize(images: jax.Array) -> jax.Array:
        n, height, width, _ = images.shape
        zero, h, w = (jnp.full(n, value, jnp.float32) for value in (0, height, width))
        size = (max(1, round(factor * height)), max(1, round(factor * width)))
        return resized_part(images, (zero, zero, h, w), size, "linear")

    return _half([resize])


# (**settings) -> views
VIEWS: dict[str, Callable[..., list[View]]] = {
    "horizontal_flip": horizontal_flip,
    "vertical_flip": vertical_flip,
    "shift": shift,
    "center_crop": center_crop,
    "scale": scale,
}
