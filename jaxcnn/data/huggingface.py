"""Data sets of the Hugging Face hub, or that `save_to_disk` wrote, through the library `datasets`: the extra "huggingface".

The library finds and caches them; their pictures are decoded here, as those of every other source.
"""

import dataclasses
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxcnn.data.choices import Ranges, choose_features, choose_parts, label_array, listed
from jaxcnn.data.decode import read_bytes
from jaxcnn.data.files import existing
from jaxcnn.data.sources import Dataset, EncodedSource, Source
from jaxcnn.errors import UserError, did_you_mean, first_line
from jaxcnn.files import user_path


@dataclasses.dataclass(frozen=True)
class HuggingFaceSource(EncodedSource):
    """The pictures in the one column of `table`, a datasets.Dataset that does not decode them.

    `ranges` are where they are in the splits of the set, which is called `title`.
    """

    title: str
    table: Any
    ranges: Ranges
    labels: np.ndarray

    def encoded(self, index: int) -> bytes:
        """The picture in the table, or the file that it names."""
        try:
            (picture,) = self.table[int(index)].values()
        except Exception as error:  # whatever Arrow stumbles over in a damaged file
            raise UserError(f"{self.name(index)}: can't be read ({first_line(error)})") from error
        if picture is None or (picture["bytes"] is None and picture["path"] is None):
            raise UserError(f"{self.name(index)}: no picture")
        return read_bytes(picture["path"]) if picture["bytes"] is None else picture["bytes"]

    def stamp(self) -> str:
        """The library's own hash of the table, and which of its examples."""
        return f"{self.table._fingerprint} {self.ranges.pieces}"

    def name(self, index: int) -> str:
        """As one would write it in Python."""
        return "{}, {}[{}]".format(self.title, *self.ranges.find(index))


def from_hugging_face(name: str, root: str, splits: Mapping[str, str], features: Sequence[str] = ()) -> Dataset:
    """The set OWNER/NAME[/CONFIG] of the hub; with a `root` the one that `save_to_disk` wrote into that folder.

    `splits` says for train, validation and test which split, in the library's syntax: "train[:90%]"; "" takes the split of
    that name (or val, valid, …) if no other part uses it. Where there is no test split with labels, validation is the test
    set. `features` names those of image and label; () takes the only ones there are.

    Raises:
      UserError: `datasets` is not installed; no such set, split or feature; damaged; parts that overlap.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"data.name: huggingface:{name} wants the library datasets: pip install 'jaxcnn[huggingface]'"
        ) from error
    title = root or f"huggingface:{name}"
    tables = _tables(datasets, name, root)
    typical = "train" if "train" in tables else next(iter(tables))
    described = tables[typical].features
    images = [key for key, feature in described.items() if isinstance(feature, datasets.Image)]
    labels = [key for key, feature in described.items() if _classes(datasets, feature)]
    image, label = choose_features(title, described, images, labels, features)
    names = tuple(_classes(datasets, described[label]).names)
    several = 0 if isinstance(described[label], datasets.ClassLabel) else len(names)

    def part(split: str) -> tuple[Ranges, Source]:
        ranges = _ranges(datasets, split, tables)
        pieces = []
        for key, first, number in ranges.pieces:
            table = tables[key]
            if any(table.features.get(feature) != described[feature] for feature in (image, label)):
                raise UserError(f"{title}: {key!r} has not the same {image!r} and {label!r} as {typical!r}")
            pieces.append(table.select_columns([image, label]).select(range(first, first + number)))
        table = datasets.concatenate_datasets(pieces) if len(pieces) > 1 else pieces[0]
        pictures = table.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        return ranges, HuggingFaceSource(title, pictures, ranges, _labels(table, label, several))

    parts = choose_parts(title, splits, tables, part)
    return Dataset(parts["train"], parts.get("validation"), parts.get("test"), names)


def _tables(datasets: Any, name: str, root: str) -> dict[str, Any]:
    """{split: datasets.Dataset}."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?", name)
    for logger in ("huggingface_hub", "datasets"):  # each try of each file is a line of its own
        logging.getLogger(logger).setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        if root:
            found = datasets.load_from_disk(str(existing(user_path(root))))
        elif match:
            found = datasets.load_dataset(match[1], match[2])
        else:
            raise UserError(f"data.name: 'huggingface:{name}' is not written as huggingface:OWNER/NAME[/CONFIG]")
    except UserError:
        raise
    except Exception as error:  # what the library, the hub, the network and Arrow may raise has no base in common
        what = f"data.root: {root}" if root else f"data.name: huggingface:{name}"
        hint = "a folder that save_to_disk wrote is meant" if root else "data.root=DIR reads a folder that save_to_disk wrote"
        raise UserError(f"{what}: can't be loaded ({first_line(error)[:500]}); {hint}") from error
    return dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}


def _classes(datasets: Any, feature: Any) -> Any:
    """The ClassLabel that a feature is, or is a list of; or else None."""
    return next((f for f in (feature, getattr(feature, "feature", None)) if isinstance(f, datasets.ClassLabel)), None)


def _ranges(datasets: Any, split: str, tables: Mapping[str, Any]) -> Ranges:
    """(split, first example, number of examples) of what a split in the library's syntax reads."""
    sizes = {key: len(table) for key, table in tables.items()}
    try:
        found = datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
    except ValueError as error:
        near = "" if (key := split.split("[")[0]) in sizes else did_you_mean(key, sizes)
        raise UserError(f"data.*_split: {split!r}{near}: {first_line(error)}; there are {listed(sizes)}") from error
    ranges = Ranges(tuple((piece.splitname, piece.from_, piece.to - piece.from_) for piece in found))
    if any(number <= 0 for _, _, number in ranges.pieces):
        raise UserError(f"data.*_split: {split!r} holds no example")
    return ranges


def _labels(table: Any, label: str, several: int) -> np.ndarray:
    """As `label_array` has them; -1 where an example has none."""
    column = table.select_columns([label]).with_format("arrow")[:].column(label)
    empty: Any = [] if several else -1
    return label_array([empty if value is None else value for value in column.to_pylist()], several)
