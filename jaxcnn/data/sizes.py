"""Sizes of images, and sizes that change during training: in steps, or at random."""

import bisect
import dataclasses

import numpy as np

_HELD = 10  # steps that a size drawn at random is kept (YOLOv2: Redmon and Farhadi 2017, section 2, "every 10 batches")


Size = tuple[int, int]
"""(height, width) in pixels"""


def height_and_width(size: int | Size) -> Size:
    """What a setting means by 224, the side of a square, or by (192, 256)."""
    return (size, size) if isinstance(size, int) else size


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The size of the images of each training step, a function of the step (and of `seed`) alone.

    With `boundaries`, steps, the `sizes` follow one another: progressive resizing, as in FFCV's ImageNet recipe (Leclerc
    et al. 2023, appendix). Without, one is drawn every 10 steps. Without `sizes` images keep the size that they have.
    """

    sizes: tuple[Size, ...] = ()
    boundaries: tuple[int, ...] = ()
    seed: int = 0
    batch_size: int = 1

    def at_step(self, step: int) -> Size | None:
        """None: the size that they have."""
        if not self.sizes:
            return None
        if self.boundaries or len(self.sizes) == 1:
            return self.sizes[bisect.bisect_right(self.boundaries, step)]
        return self.sizes[np.random.default_rng((self.seed, step // _HELD)).choice(len(self.sizes))]

    def at_place(self, place: int) -> Size | None:
        """That of the step in which this place of the training comes."""
        return self.at_step(place // self.batch_size)

    def until(self, step: int, total: int) -> int:
        """The first step after `step` that may have another size, or `total`."""
        if self.boundaries or len(self.sizes) < 2:
            following = [boundary for boundary in self.boundaries if boundary > step]
            return min([total, *following])
        return min(total, (step // _HELD + 1) * _HELD)


ONE_SIZE = Sizes()
