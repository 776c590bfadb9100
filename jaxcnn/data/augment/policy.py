"""The tables of all operations, and the policy that a config's list makes of them."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.data.augment import erasing, geometry, mixers, random_color, recipes
from jaxcnn.data.augment.scene import Moved, fields_on, on_pixels, scene
from jaxcnn.data.augment.settings import Operation, parse
from jaxcnn.errors import UserError
from jaxcnn.layers import random_key

# (images, key, **settings) -> images: (N, H, W, C) of values 0…255 and of any real dtype, which stays
OPERATIONS: dict[str, Callable[..., jax.Array]] = {
    "horizontal_flip": geometry.horizontal_flip,
    "vertical_flip": geometry.vertical_flip,
    "random_crop": geometry.random_crop,
    "random_resized_crop": geometry.random_resized_crop,
    "translate": geometry.translate,
    "rotate": geometry.rotate,
    "scale": geometry.scale,
    "shear": geometry.shear,
    "affine": geometry.random_affine,
    "brightness": random_color.brightness,
    "contrast": random_color.contrast,
    "saturation": random_color.saturation,
    "hue": random_color.hue,
    "sharpness": random_color.sharpness,
    "color_jitter": random_color.color_jitter,
    "grayscale": random_color.grayscale,
    "gaussian_blur": random_color.gaussian_blur,
    "solarize": random_color.solarize,
    "posterize": random_color.posterize,
    "equalize": random_color.equalize,
    "autocontrast": random_color.autocontrast,
    "invert": random_color.invert,
    "cutout": erasing.cutout,
    "random_erasing": erasing.random_erasing,
    "auto_augment": recipes.auto_augment,
    "rand_augment": recipes.rand_augment,
    "trivial_augment": recipes.trivial_augment,
    "aug_mix": recipes.aug_mix,
    "three_augment": recipes.three_augment,
}
MOVING = frozenset(
    ("horizontal_flip", "vertical_flip", "random_crop", "random_resized_crop", "translate", "rotate", "scale", "shear",
     "affine", "auto_augment", "rand_augment", "trivial_augment")
)  # fmt: skip
"""Those that move pixels, and take a Scene too; all others of OPERATIONS leave every pixel in its place."""
# (images or Scene, key of the run, index, epoch, **settings) -> the same
BY_EPOCH: dict[str, Callable[..., jax.Array]] = {"alternating_flip": geometry.alternating_flip}
# (images, targets, key, shift, **settings) -> (images, targets)
MIXERS: dict[str, Callable[..., mixers.Mixed]] = {
    "mixup": mixers.mixup,
    "cutmix": mixers.cutmix,
    "mixup_or_cutmix": mixers.mixup_or_cutmix,
}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """A policy: its operations in order, each with a key of its own, by its place in the list.

    `repeats` (repeated augmentation) is how often each image stands in a row; mixers go that far to find another image.
    """

    operations: tuple[Operation, ...]
    repeats: int = 1

    @property
    def mixes(self) -> bool:
        """Whether `mix` does anything."""
        return any(operation.name in MIXERS for operation in self.operations)

    @property
    def by_epoch(self) -> bool:
        """Whether an operation needs the run's key, and each example's index and epoch."""
        return any(operation.name in BY_EPOCH for operation in self.operations)

    def __call__(
        self,
        images: jax.Array,
        key: jax.Array,
        *,
        run_key: jax.Array | None = None,
        index: jax.Array | None = None,
        epoch: jax.Array | None = None,
    ) -> jax.Array:
        """All but the mixers: (N, H, W, C) of values 0…255 -> the same, of the same dtype.

        `key` is the step's; `run_key` the same in all steps of a run; index and epoch are (N,) integers.
        """
        return self._applied(images, key, run_key, index, epoch)

    def with_fields(
        self,
        images: jax.Array,
        fields: Mapping[str, jax.Array],
        key: jax.Array,
        *,
        run_key: jax.Array | None = None,
        index: jax.Array | None = None,
        epoch: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """`__call__` on images, with the same pixels, and on what lies on them; other fields stay as they are.

        "map" (N, H, W) uint8 is sampled nearest, VOID outside. "boxes" (N, M, 4) float32 become the upright hulls of their
        corners, cut off at the border; the class (N, M) of a box becomes NO_BOX where less than a quarter of it is left.
        """
        after = self._applied(scene(images, fields), key, run_key, index, epoch)
        return after.images, {**fields, **fields_on(after)}

    def _applied(
        self, images: Moved, key: jax.Array, run_key: jax.Array | None, index: jax.Array | None, epoch: jax.Array | None
    ) -> Moved:
        if self.by_epoch and (run_key is None or index is None or epoch is None):
            raise ValueError("this policy needs the run's key, and the index and the epoch of each example")
        for place, operation in enumerate(self.operations):
            apply = functools.partial(operation.function, **dict(operation.settings))
            if operation.name in MOVING:
                images = apply(images, jax.random.fold_in(key, place))
            elif operation.name in OPERATIONS:
                images = on_pixels(images, functools.partial(apply, key=jax.random.fold_in(key, place)))
            elif operation.name in BY_EPOCH:
                images = apply(images, run_key, index, epoch)
        return images

    def check_fields(self, kinds: Collection[str]) -> None:
        """Raises UserError where a policy mixes images, but the task learns from fields of these kinds that have a place."""
        placed = [kind for kind in ("map", "boxes") if kind in kinds]
        for operation in self.operations if placed else ():
            if operation.name in MIXERS or operation.name == "aug_mix":
                what = " and ".join({"map": "maps", "boxes": "boxes"}[kind] for kind in placed)
                raise UserError(f"data.augment: {operation.name} mixes images, which is not defined for {what}; leave it out")

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raises UserError where an operation can't take images (H, W, C)."""
        images, places = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8), jnp.zeros(1, jnp.int32)
        key = jax.random.key(0)
        jax.eval_shape(lambda images: self(images, key, run_key=key, index=places, epoch=places), images)

    def mix(self, images: jax.Array, targets: jax.Array, key: jax.Array) -> mixers.Mixed:
        """The mixers: images (N, H, W, C) of any range, targets (N, K) float32 -> the same, mixed within the batch."""
        for place, operation in enumerate(self.operations):
            if operation.name in MIXERS:
                mix = functools.partial(operation.function, **dict(operation.settings))
                images, targets = mix(images, targets, jax.random.fold_in(key, place), self.repeats)
        return images, targets


def step_keys(seed: int | jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """All randomness of a training step: its keys for the augmentation, for dropout, and for the mixers."""
    augment_key, dropout_key, mix_key = jax.random.split(jax.random.fold_in(random_key(seed), step), 3)
    return augment_key, dropout_key, mix_key


def key_of_run(seed: int | jax.Array) -> jax.Array:
    """For what is drawn once a run; no step's."""
    return jax.random.fold_in(random_key(seed), 2**32 - 1)


def make_augmentation(policy: Sequence[Any], repeats: int = 1) -> Augmentation:
    """The policy of a list of "name" and ("name", {"setting": value, …}).

    Raises:
      UserError: an unknown operation, a setting that it does not have, or a value that it can't use.
    """
    return Augmentation(tuple(parse(entry, (OPERATIONS, BY_EPOCH, MIXERS)) for entry in policy), repeats)
