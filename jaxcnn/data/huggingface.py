"""Data sets of the Hugging Face hub or written by `save_to_disk`, through the library `datasets` (the extra "huggingface").

The library finds and caches them; their images are decoded here, like those of every other source.
"""

import dataclasses
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxcnn.data.choices import Ranges, choose_features, choose_parts, label_array, listed
from jaxcnn.data.class_maps import class_file_of
from jaxcnn.data.decode import read_bytes
from jaxcnn.data.files import existing
from jaxcnn.data.layout import denotes_maps
from jaxcnn.data.sources import Dataset, EncodedSource, Source
from jaxcnn.errors import UserError, did_you_mean, first_line
from jaxcnn.files import user_path


@dataclasses.dataclass(frozen=True)
class HuggingFaceSource(EncodedSource):
    """The images in the only column of `table`, a datasets.Dataset that does not decode them.

    `ranges` are their positions in the splits of the data set, which error messages call `title`.
    """

    title: str
    table: Any
    ranges: Ranges
    labels: np.ndarray | None
    maps: Any = None
    """a table of maps, likewise; None if there are none"""

    def __len__(self) -> int:
        return len(self.ranges)

    def encoded(self, index: int) -> bytes:
        """Returns the encoded image, from the table or from the file that the table names."""
        return self._encoded(self.table, index, "image")

    def encoded_map(self, index: int) -> tuple[str, bytes]:
        """Returns the name of the example and its encoded map."""
        return f"{self.name(index)}, map", self._encoded(self.maps, index, "map")

    def _encoded(self, table: Any, index: int, what: str) -> bytes:
        try:
            (image,) = table[int(index)].values()
        except Exception as error:  # Arrow raises various types for damaged files
            raise UserError(f"{self.name(index)}: can't be read ({first_line(error)})") from error
        if image is None or (image["bytes"] is None and image["path"] is None):
            raise UserError(f"{self.name(index)}: the example has no {what}")
        return read_bytes(image["path"]) if image["bytes"] is None else image["bytes"]

    def stamp(self) -> str:
        """Returns the library's hash of the table and the ranges of its examples."""
        return f"{self.table._fingerprint} {self.ranges.pieces}"

    def name(self, index: int) -> str:
        """Returns the example's title, split and index, as in Python: title, split[index]."""
        return "{}, {}[{}]".format(self.title, *self.ranges.find(index))


def from_hugging_face(
    name: str, root: str, splits: Mapping[str, str], features: Sequence[str] = (), classes: str = ""
) -> Dataset:
    """Loads the data set OWNER/NAME[/CONFIG] of the hub or, if `root` is set, the one that `save_to_disk` wrote there.

    `splits` maps train, validation and test to a split in the library's syntax, such as "train[:90%]"; "" selects the split
    of that name (or val, valid, …) if no other one uses it. If no test split has labels, the validation split becomes the
    test set. `features` names the image and the label feature; () selects the only ones of these types. If the second feature
    is an image, it contains class maps, and `classes` is the path of their class file.

    Raises:
      UserError: `datasets` is not installed; the data set, a split or a feature does not exist; the files are damaged; two
        splits overlap.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"data.name: huggingface:{name} needs the library datasets: pip install 'jaxcnn[huggingface]'"
        ) from error
    title = root or f"huggingface:{name}"
    tables = _tables(datasets, name, root)
    typical = "train" if "train" in tables else next(iter(tables))
    described = tables[typical].features
    images = [key for key, feature in described.items() if isinstance(feature, datasets.Image)]
    labels = [key for key, feature in described.items() if _classes(datasets, feature)]
    maps = [key for key in images if denotes_maps(key) or key in features[1:]]
    image, label = choose_features(title, described, images, labels, features, maps=maps)
    map_classes = class_file_of(classes, f"{title}: the feature {label!r}") if label in maps else None
    names = map_classes.names if map_classes else tuple(_classes(datasets, described[label]).names)
    several = 0 if map_classes or isinstance(described[label], datasets.ClassLabel) else len(names)

    def encoded(table: Any, feature: str) -> Any:
        return table.select_columns([feature]).cast_column(feature, datasets.Image(decode=False))

    def part(split: str) -> tuple[Ranges, Source]:
        ranges = _ranges(datasets, split, tables)
        pieces = []
        for key, first, number in ranges.pieces:
            table = tables[key]
            if any(table.features.get(feature) != described[feature] for feature in (image, label)):
                raise UserError(f"{title}: the features {image!r} and {label!r} of {key!r} differ from those of {typical!r}")
            pieces.append(table.select_columns([image, label]).select(range(first, first + number)))
        table = datasets.concatenate_datasets(pieces) if len(pieces) > 1 else pieces[0]
        if map_classes:
            encoded_maps = encoded(table, label)
            return ranges, HuggingFaceSource(title, encoded(table, image), ranges, None, encoded_maps, map_classes=map_classes)
        return ranges, HuggingFaceSource(title, encoded(table, image), ranges, _labels(table, label, several))

    parts = choose_parts(title, splits, tables, part)
    colors = map_classes.class_colors if map_classes else ()
    return Dataset(parts["train"], parts.get("validation"), parts.get("test"), names, class_colors=colors)


def _tables(datasets: Any, name: str, root: str) -> dict[str, Any]:
    """Returns {split: datasets.Dataset}."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?", name)
    for logger in ("huggingface_hub", "datasets"):  # they log every attempt for every file
        logging.getLogger(logger).setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        if root:
            found = datasets.load_from_disk(str(existing(user_path(root))))
        elif match:
            found = datasets.load_dataset(match[1], match[2])
        else:
            raise UserError(f"data.name: expected huggingface:OWNER/NAME[/CONFIG], got 'huggingface:{name}'")
    except UserError:
        raise
    except Exception as error:  # the library's, the hub's and Arrow's exceptions have no common base class
        setting = f"data.root: {root}" if root else f"data.name: huggingface:{name}"
        hint = "expected a folder written by save_to_disk" if root else "data.root=DIR reads a folder written by save_to_disk"
        raise UserError(f"{setting}: can't be loaded ({first_line(error)[:500]}); {hint}") from error
    return dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}


def _classes(datasets: Any, feature: Any) -> Any:
    """Returns the feature if it is a ClassLabel, its element type if it is a list of ClassLabel, else None."""
    return next((f for f in (feature, getattr(feature, "feature", None)) if isinstance(f, datasets.ClassLabel)), None)


def _ranges(datasets: Any, split: str, tables: Mapping[str, Any]) -> Ranges:
    """Returns the ranges (split, first example, number of examples) that a split in the library's syntax denotes."""
    sizes = {key: len(table) for key, table in tables.items()}
    try:
        found = datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
    except ValueError as error:
        near = "" if (key := split.split("[")[0]) in sizes else did_you_mean(key, sizes)
        raise UserError(f"data.*_split: {split!r}{near}: {first_line(error)}; the splits are {listed(sizes)}") from error
    ranges = Ranges(tuple((piece.splitname, piece.from_, piece.to - piece.from_) for piece in found))
    if any(number <= 0 for _, _, number in ranges.pieces):
        raise UserError(f"data.*_split: {split!r} contains no examples")
    return ranges


def _labels(table: Any, label: str, several: int) -> np.ndarray:
    """Returns the labels as in `label_array`; -1 for an example without a label."""
    column = table.select_columns([label]).with_format("arrow")[:].column(label)
    empty: Any = [] if several else -1
    return label_array([empty if value is None else value for value in column.to_pylist()], several)
