"""Finds out from image headers whether a data set has color."""

import bisect
import concurrent.futures
import contextlib
import itertools
from collections.abc import Sequence

import numpy as np

from jaxcnn.data.decode import image_format
from jaxcnn.data.sources import EncodedSource, Source, innermost
from jaxcnn.errors import UserError

MOST = 20_000  # headers that are read at most


def has_color(sources: Sequence[Source]) -> bool:
    """Returns whether any image of `sources` has color; of more than MOST images, a sample spread evenly is checked.

    The search stops at the first color image, so only a gray data set is checked completely, at about 30 µs per image on a
    local disk. Images whose header cannot be read are ignored here; training and evaluation report them.
    """
    ends = list(itertools.accumulate(map(len, sources)))
    chosen = np.linspace(0, ends[-1] - 1, min(MOST, ends[-1])).astype(int)

    def colored(index: int) -> bool:
        part = bisect.bisect_right(ends, index)
        return _colored(*innermost(sources[part], index - ends[part] + len(sources[part])))

    with concurrent.futures.ThreadPoolExecutor() as pool:  # disks and networks serve several requests at the same time
        return any(pool.map(lambda chunk: any(map(colored, chunk.tolist())), np.array_split(chosen, -(-len(chosen) // 16))))


def _colored(source: Source, index: int) -> bool:
    assert isinstance(source, EncodedSource)
    with contextlib.suppress(UserError):
        beginning, name = source.beginning(index), source.name(index)
        if beginning[:8] == b"\x89PNG\r\n\x1a\n" and len(beginning) > 25:
            return beginning[25] not in (0, 4)  # color type: 0 is gray, 4 is gray with alpha (PNG, section 11.2.1)
        if beginning[:2] == b"\xff\xd8":
            with contextlib.suppress(UserError):
                return not image_format(beginning, name)[2]
        return not image_format(source.encoded(index), name)[2]
    return False
