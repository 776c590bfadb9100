"""The tables of all operations, and the augmentation policy that a config describes as a list of them."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn.data.augment import erasing, geometry, mixers, random_color, recipes
from jaxcnn.data.augment.scene import Moved, fields_on, on_pixels, scene
from jaxcnn.data.augment.settings import Operation, parse
from jaxcnn.errors import UserError
from jaxcnn.layers import random_key

# (images, key, **settings) -> images: (N, H, W, C) with values 0…255, of any real dtype, which the result keeps
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
GEOMETRIC = frozenset(
    ("horizontal_flip", "vertical_flip", "random_crop", "random_resized_crop", "translate", "rotate", "scale", "shear",
     "affine", "auto_augment", "rand_augment", "trivial_augment")
)  # fmt: skip
"""Operations that move pixels and therefore accept a Scene too. All others in OPERATIONS only change pixel values."""
# (images or Scene, key of the run, index, epoch, **settings) -> images or Scene
BY_EPOCH: dict[str, Callable[..., jax.Array]] = {"alternating_flip": geometry.alternating_flip}


class Mixer(NamedTuple):
    """A function (images, targets, key, shift, **settings) -> (images, targets), and the targets for which it is defined."""

    function: Callable[..., mixers.Mixed]
    targets: tuple[Literal["label", "map"], ...]
    images: int = 2
    """The number of images that it combines."""


MIXERS: dict[str, Mixer] = {
    "mixup": Mixer(mixers.mixup, ("label",)),
    "cutmix": Mixer(mixers.cutmix, ("label", "map")),
    "mixup_or_cutmix": Mixer(mixers.mixup_or_cutmix, ("label",)),
    "mosaic": Mixer(mixers.mosaic, ("map",), images=4),
    "copy_paste": Mixer(mixers.copy_paste, ("map",)),
}
MIXED_TARGETS = {name: mixer.targets for name, mixer in MIXERS.items()} | {"aug_mix": ("label",)}
"""The targets for which each operation that mixes images is defined. aug_mix mixes an image with versions of itself."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """An augmentation policy: operations in order, each with a separate key derived from the step's key and its position.

    `repeats` is the number of consecutive copies of each image in a batch (repeated augmentation). Mixers combine images that
    are `repeats` places apart, so that no image is mixed with itself.
    """

    operations: tuple[Operation, ...]
    repeats: int = 1

    @property
    def mixed_images(self) -> int:
        """Returns the largest number of images that a mixer combines, or 1 without mixers."""
        return max((MIXERS[operation.name].images for operation in self.operations if operation.name in MIXERS), default=1)

    @property
    def mixes(self) -> bool:
        """Returns whether the policy has mixers, so that `mix` has an effect."""
        return self.mixed_images > 1

    @property
    def by_epoch(self) -> bool:
        """Returns whether an operation needs the run's key and each example's index and epoch."""
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
        """Applies all operations but the mixers.

        Args:
          images: (N, H, W, C) with values 0…255, of any real dtype.
          key: the step's key.
          run_key: the key that all steps of a run share. Needed, as are the next two, if `by_epoch`.
          index: (N,) integers, each example's index in the training set.
          epoch: (N,) integers, the epoch of each example.

        Returns:
          The augmented images with the same dtype. random_resized_crop may change their size.
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
        """Augments images as `__call__` does and transforms their maps and boxes accordingly. Other fields are unchanged.

        "map" (N, H, W) uint8 is sampled by nearest neighbor and is VOID outside the image. "boxes" (N, M, 4) float32 become
        the axis-aligned hulls of their transformed corners, clipped at the border. The class (N, M) of a box becomes NO_BOX if
        less than a quarter of its area is visible.

        Returns:
          The images, equal to those that `__call__` returns, and all fields.
        """
        augmented = self._applied(scene(images, fields), key, run_key, index, epoch)
        return augmented.images, {**fields, **fields_on(augmented)}

    def _applied(
        self, images: Moved, key: jax.Array, run_key: jax.Array | None, index: jax.Array | None, epoch: jax.Array | None
    ) -> Moved:
        if self.by_epoch and (run_key is None or index is None or epoch is None):
            raise ValueError("this policy needs run_key, and the index and epoch of each example")
        for position, operation in enumerate(self.operations):
            apply = functools.partial(operation.function, **dict(operation.settings))
            if operation.name in GEOMETRIC:
                images = apply(images, jax.random.fold_in(key, position))
            elif operation.name in OPERATIONS:
                images = on_pixels(images, functools.partial(apply, key=jax.random.fold_in(key, position)))
            elif operation.name in BY_EPOCH:
                images = apply(images, run_key, index, epoch)
        return images

    def check_fields(self, kinds: Collection[str]) -> None:
        """Raises UserError if an operation mixes images in a way that is not defined for targets of these `kinds`."""
        for name in (operation.name for operation in self.operations if operation.name in MIXED_TARGETS):
            defined = MIXED_TARGETS[name]
            plurals = {"map": "maps", "boxes": "boxes"}
            undefined = [plural for kind, plural in plurals.items() if kind in kinds and kind not in defined]
            if undefined:
                targets = " and ".join(undefined)
                raise UserError(f"data.augment: {name} mixes images, which is not defined for {targets}; leave it out")
            if defined == ("map",) and "map" not in kinds:
                raise UserError(f"data.augment: {name} needs maps, as in semantic segmentation; leave it out")

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raises UserError if an operation does not support images of the shape (H, W, C). Nothing is computed."""
        images, zero = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8), jnp.zeros(1, jnp.int32)
        key = jax.random.key(0)
        jax.eval_shape(lambda images: self(images, key, run_key=key, index=zero, epoch=zero), images)

    def mix(self, images: jax.Array, targets: jax.Array, key: jax.Array) -> mixers.Mixed:
        """Applies the mixers.

        Args:
          images: (N, H, W, C) with any value range.
          targets: those of the classes, (N, K) float32, or maps (N, H, W) uint8. The mixers must be defined for them, see
            `check_fields`.
          key: the step's key.

        Returns:
          Images and targets with the same shapes and dtypes.
        """
        for position, operation in enumerate(self.operations):
            if operation.name in MIXERS:
                mix = functools.partial(operation.function, **dict(operation.settings))
                images, targets = mix(images, targets, jax.random.fold_in(key, position), self.repeats)
        return images, targets


def step_keys(seed: int | jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the keys of a training step: for the augmentation, for dropout, and for the mixers."""
    augment_key, dropout_key, mix_key = jax.random.split(jax.random.fold_in(random_key(seed), step), 3)
    return augment_key, dropout_key, mix_key


def key_of_run(seed: int | jax.Array) -> jax.Array:
    """Returns the key for values that are drawn once per run. It differs from the keys of all steps."""
    return jax.random.fold_in(random_key(seed), 2**32 - 1)


def make_augmentation(policy: Sequence[Any], repeats: int = 1) -> Augmentation:
    """Returns the policy described by a list of entries "name" or ("name", {"setting": value, …}).

    Raises:
      UserError: an operation or setting does not exist, or a value has the wrong type or is out of range.
    """
    tables = OPERATIONS, BY_EPOCH, {name: mixer.function for name, mixer in MIXERS.items()}
    return Augmentation(tuple(parse(entry, tables) for entry in policy), repeats)
