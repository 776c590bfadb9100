"""Sizes of images, and sizes that change during training: in stages, or at random."""

import bisect
import dataclasses

import numpy as np

_STEPS_PER_SIZE = 10  # for sizes drawn at random (YOLOv2: Redmon and Farhadi 2017, section 2, "every 10 batches")


Size = tuple[int, int]
"""(height, width) in pixels"""


def height_and_width(size: int | Size) -> Size:
    """Returns (height, width) for a setting that is the side of a square, such as 224, or a pair, such as (192, 256)."""
    return (size, size) if isinstance(size, int) else size


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The size of the images at each training step, a function of the step and of `seed` alone.

    With `boundaries`, the steps at which the size changes, the `sizes` are used in turn: progressive resizing, as in FFCV's
    ImageNet recipe (Leclerc et al. 2023, appendix). Otherwise a size is drawn every 10 steps. Without `sizes` the images are
    not resized.
    """

    sizes: tuple[Size, ...] = ()
    boundaries: tuple[int, ...] = ()
    seed: int = 0
    batch_size: int = 1

    def at_step(self, step: int) -> Size | None:
        """Returns (height, width) of the images of a step; None if they are not resized."""
        if not self.sizes:
            return None
        if self.boundaries or len(self.sizes) == 1:
            return self.sizes[bisect.bisect_right(self.boundaries, step)]
        return self.sizes[np.random.default_rng((self.seed, step // _STEPS_PER_SIZE)).choice(len(self.sizes))]

    def at_position(self, position: int) -> Size | None:
        """Returns `at_step` for the step that contains this position of the training sequence."""
        return self.at_step(position // self.batch_size)

    def until(self, step: int, total: int) -> int:
        """Returns the first step after `step` at which the size may change, at most `total`."""
        if self.boundaries or len(self.sizes) < 2:
            following = [boundary for boundary in self.boundaries if boundary > step]
            return min([total, *following])
        return min(total, (step // _STEPS_PER_SIZE + 1) * _STEPS_PER_SIZE)


ONE_SIZE = Sizes()
