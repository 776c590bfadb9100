"""Data sets that TensorFlow Datasets (TFDS) prepared as array_record files, read without TensorFlow.

experiments/prepare.py prepares one. Only its files are read, so the code that prepared it is not needed here. TFDS shuffles
the examples that it writes, so their order differs from that of the original files.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data.choices import Ranges, choose_features, choose_parts, label_array, listed
from jaxcnn.data.class_maps import MapClasses, class_file_of, numbered_classes
from jaxcnn.data.decode import View, in_channels
from jaxcnn.data.files import read_npz, stamp
from jaxcnn.data.layout import denotes_maps
from jaxcnn.data.sources import Dataset, EncodedSource, Source, apply_view
from jaxcnn.errors import UserError, did_you_mean, first_line


@dataclasses.dataclass(frozen=True)
class Records:
    """The records `files` of a split, or of a slice or sum of splits, of the prepared data set in the folder `directory`.

    `feature` is the name of the image feature.
    """

    directory: str
    split: str
    files: Ranges
    feature: str

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Returns the file of the record and its index in the file."""
        return "{}, record {}".format(*self.files.find(index))

    def stamp(self) -> str:
        """Returns a text that identifies the files, the records and the feature."""
        return f"{stamp([path for path, _, _ in self.files.pieces])} {[of for _, *of in self.files.pieces]} {self.feature}"

    def encoded_image(self, index: int) -> bytes:
        """Returns the encoded image of a record."""
        return self.read(index, lambda record: _values(record, self.feature).bytes_list.value[0])

    def array(self, index: int) -> np.ndarray:
        """Returns the image of a record that stores it as an array."""
        return self.read(index, lambda record: self._features.deserialize_example_np(record)[self.feature])

    def read(self, index: int, parse: Callable[[bytes], Any]) -> Any:
        """Returns `parse(record)` of an encoded tf.train.Example. Raises UserError, which names a damaged record."""
        try:
            return parse(self._data[index])
        except Exception as error:  # of array_record (RuntimeError), protobuf or TFDS
            why = _why(error)
            raise UserError(f"{self.name(index)}: damaged or missing; prepare the data set again ({why})") from error

    def read_many(self, indices: Sequence[int], parse: Callable[[bytes], Any]) -> list[Any]:
        """Returns `parse(record)` of several records, ten times as fast as one by one."""
        try:
            return [parse(record) for record in self._data.__getitems__(indices)]
        except Exception:
            return [self.read(index, parse) for index in indices]  # raises the error that names the damaged record

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self.directory)

    @functools.cached_property
    def _data(self) -> Any:
        import tensorflow_datasets as tfds

        return self._builder.as_data_source(self.split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)

    @functools.cached_property
    def _features(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.features.FeaturesDict({self.feature: self._builder.info.features[self.feature]})

    def __getstate__(self) -> dict[str, Any]:
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }  # every process opens the files itself


@dataclasses.dataclass(frozen=True)
class TfdsEncodedImages(EncodedSource):
    """Images that are stored encoded; `shape` is their common (H, W, C), or None if they differ in size."""

    records: Records
    labels: np.ndarray | None
    shape: tuple[int, int, int] | None
    map_records: Records | None = None
    """the records with the feature of the maps; None if there are none"""

    def __len__(self) -> int:
        return len(self.records)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(H, W, C), or None if sizes differ."""
        return self.shape and (*self.shape[:2], self.channels)

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`."""
        image = super().read(index, view)
        return image if view else _of_shape(self.image_shape, image, self.name(index))

    def encoded(self, index: int) -> bytes:
        """Returns the encoded image of the record."""
        return self.records.encoded_image(index)

    def encoded_map(self, index: int) -> tuple[str, bytes]:
        """Returns the name of the record and its encoded map."""
        assert self.map_records is not None, "the images have no maps"
        return f"{self.name(index)}, map", self.map_records.encoded_image(index)

    def stamp(self) -> str:
        """Returns the stamp of the records."""
        return self.records.stamp()

    def name(self, index: int) -> str:
        """Returns the file of the record and its index in the file."""
        return self.records.name(index)


@dataclasses.dataclass(frozen=True)
class TfdsArrays(Source):
    """Images that are stored as arrays of `shape`; `channels` = 3 converts gray to RGB, 1 converts RGB to gray."""

    records: Records
    labels: np.ndarray
    shape: tuple[int, int, int]
    channels: int = 0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (H, W, C) of the images."""
        return (*self.shape[:2], self.channels or self.shape[2])

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`."""
        image = self.records.array(index)
        image = _of_shape(self.shape, image if image.ndim == 3 else image[..., None], self.name(index))
        return apply_view(in_channels(image, self.image_shape[2]), view)

    def name(self, index: int) -> str:
        """Returns the file of the record and its index in the file."""
        return self.records.name(index)


def prepared(name: str, root: str, splits: Mapping[str, str], features: Sequence[str] = (), classes: str = "") -> Dataset:
    """Reads the prepared data set NAME[/CONFIG][:VERSION] in the data_dir `root`; "" is ~/tensorflow_datasets.

    `splits` maps train, validation and test to a split in TFDS's syntax, such as "train[:90%]"; "" selects the split of that
    name if no other one uses it. If no test split has labels, the validation split becomes the test set. `features` names
    the image and the label feature; () selects the supervised_keys, or else the only ones of these types. If the second feature
    is an image, it contains class maps. `classes` is the path of their class file; if it is "", the names of the feature are
    the classes, their indices the values, and 255 is void.

    All records are read once for their labels, which also verifies their hashes; the labels are saved next to them as
    `.jaxcnn-labels-*.npz`.

    Raises:
      UserError: the data set is not prepared, has another file format or is damaged; a split or feature does not exist; two
        splits overlap.
    """
    if not re.fullmatch(r"\w+(/[^/:]+)?(:[\d.*]+)?", name):
        raise UserError(f"data.name: expected tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:1.0.0, got 'tfds:{name}'")
    builder = _builder(name, root)
    info, directory = builder.info, os.fspath(builder.data_dir)
    image, label = _features(info, name, features)
    pixels, target = info.features[image], info.features[label]
    encoded = _is_encoded_image(pixels)
    shape: Any = tuple(pixels.shape) if len(pixels.shape) == 3 else (*pixels.shape, 1)
    if pixels.np_dtype not in (np.uint8, np.uint16 if encoded else np.uint8):
        raise UserError(f"tfds:{name}: expected images of dtype uint8, {image!r} has {pixels.np_dtype.__name__}")
    if encoded:
        shape = (*shape[:2], 1 if shape[2] in (1, 2) else 3)  # transparency is dropped
    elif None in shape:
        raise UserError(f"tfds:{name}: the arrays of {image!r} have the shape {shape}; arrays must be of one size")
    if _is_image(target):
        map_classes = _map_classes(f"tfds:{name}: the feature {label!r}", target, classes)
        if not encoded:
            raise UserError(f"tfds:{name}: maps need encoded images, but {image!r} stores arrays")

        def with_maps(split: str) -> tuple[Ranges, Source]:
            files = _files(info, split)
            records, maps = (Records(directory, split, files, feature) for feature in (image, label))
            of_one_size = None if None in shape else shape
            return files, TfdsEncodedImages(records, None, of_one_size, maps, channels=shape[2], map_classes=map_classes)

        parts = choose_parts(f"tfds:{name}", splits, info.splits, with_maps)
        names, colors = map_classes.names, map_classes.class_colors
        return Dataset(parts["train"], parts.get("validation"), parts.get("test"), names, class_colors=colors)
    class_names = tuple((target if _is_classes(target) else target.feature).names)

    def part(split: str) -> tuple[Ranges, Source]:
        files = _files(info, split)
        records = Records(directory, split, files, image)
        labels = _labels(records, info, label, 0 if _is_classes(target) else len(class_names))
        if not encoded:
            return files, TfdsArrays(records, labels, shape)
        return files, TfdsEncodedImages(records, labels, None if None in shape else shape, channels=shape[2])

    parts = choose_parts(f"tfds:{name}", splits, info.splits, part)
    return Dataset(parts["train"], parts.get("validation"), parts.get("test"), class_names)


def _builder(name: str, root: str) -> Any:
    import tensorflow_datasets as tfds

    folder = os.path.expanduser(root or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    set_name = re.split("[/:]", name)[0]
    command = f"python experiments/prepare.py --dataset={name}" + (f" --data_dir={root}" if root else "")
    _entries(folder)  # raises for a folder without read permission, which TFDS would treat as empty
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
        info = builder.info
        broken = "" if info.splits else "it has no splits"
        formats = {str(format.value) for format in info.available_file_formats()}
    except tfds.core.DatasetNotFoundError as error:
        inside = _entries(os.path.join(folder, set_name))
        near = "" if inside else did_you_mean(set_name, (entry for entry in _entries(folder) if entry != set_name))
        if inside and all(entry.startswith("incomplete.") for entry in inside):
            near = f"; its preparation was interrupted ({os.path.join(folder, set_name, inside[0])})"
        elif inside:
            near = f"; its folder contains {listed(inside)}"
        raise UserError(f'data.name: no data set "{name}" is prepared in "{folder}"{near}; to prepare it: {command}') from error
    except Exception as error:  # TFDS raises various types if the files that describe the data set are damaged
        broken = _why(error)
    if broken:
        raise UserError(
            f"{os.path.join(folder, set_name)}: damaged or incomplete ({broken}); delete it and prepare it again: {command}"
        )
    if "array_record" not in formats:
        raise UserError(
            f"{os.fspath(builder.data_dir)}: expected the format array_record, found {listed(formats)}; move it away, "
            f"then run {command}"
        )
    return builder


def _features(info: Any, name: str, chosen: Sequence[str]) -> tuple[str, str]:
    """Returns the names of the image feature and the label feature."""
    features = info.features if hasattr(info.features, "items") else {}
    images = [key for key, feature in features.items() if _is_encoded_image(feature)]
    images = images or [key for key, feature in features.items() if _is_array(feature)]
    labels = [
        key for key, feature in features.items() if _is_classes(feature) or _is_classes(getattr(feature, "feature", None))
    ]
    keys = info.supervised_keys
    preferred = keys if isinstance(keys, tuple) and len(keys) == 2 else (None, None)
    named = [key for key, feature in features.items() if _is_image(feature) and denotes_maps(key)]
    maps = [key for key, feature in features.items() if _is_map(feature)] or named
    maps += [key for key in chosen[1:] if key in features and _is_image(features[key]) and key not in maps]
    return choose_features(f"tfds:{name}", features, images, labels, chosen, preferred, maps)


def _map_classes(feature_name: str, feature: Any, classes: str) -> MapClasses:
    if _is_map(feature) and feature.num_classes is not None and not classes:
        return numbered_classes(feature_name, feature.names)
    return class_file_of(classes, feature_name)


def _is_image(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Image)


def _is_map(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.LabeledImage)


def _is_encoded_image(feature: Any) -> bool:
    return _is_image(feature) and not _is_map(feature)


def _is_array(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return type(feature) is tfds.features.Tensor and len(feature.shape) in (2, 3) and feature.np_dtype == np.uint8


def _is_classes(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.ClassLabel) and feature.num_classes is not None


def _files(info: Any, split: str) -> Ranges:
    """Returns the ranges (path, first record, number of records) of a split."""
    try:
        instructions = info.splits[split].file_instructions
    except (ValueError, NotImplementedError) as error:
        name = split.split("[")[0]
        near = "" if name in info.splits else did_you_mean(name, info.splits)
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise UserError(f"data.*_split: {split!r}{near}: {reason}; the splits are {listed(info.splits)}") from error
    files = tuple((os.fspath(i.filename), int(i.skip), int(i.take)) for i in instructions)
    if not files or any(take <= 0 for _, _, take in files):
        raise UserError(f"data.*_split: {split!r} contains no examples")
    for path, _, _ in files:
        if not os.path.isfile(path):
            raise UserError(f"{path}: missing; the data set is incomplete, prepare it again")
    return Ranges(files)


def _values(record: bytes, feature: str) -> Any:
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature[feature]


def _labels(records: Records, info: Any, feature: str, several: int) -> np.ndarray:
    """Returns class indices (N,), or zeros and ones (N, several): from the saved file, or else read from all records."""
    labels = _saved_with_full_splits(records, info, feature, several)
    if labels is None:
        path = _labels_path(records.directory, records.files, feature, several)
        labels = _saved(path, len(records), several)
        if labels is None:
            _save(path, labels := _read_labels(records, feature, several))
    return labels


def _saved_with_full_splits(records: Records, info: Any, feature: str, several: int) -> np.ndarray | None:
    """Returns the records' labels, cut out of the saved labels of their full splits; None if not all of these are saved."""
    by_file: dict[str, np.ndarray] = {}
    for split in {piece.split("[")[0].strip() for piece in records.split.split("+")} & set(info.splits):
        with contextlib.suppress(UserError):  # a missing file of the split need not be one with these records
            files = _files(info, split)
            labels = _saved(_labels_path(records.directory, files, feature, several), len(files), several)
            if labels is not None:
                by_file |= zip((path for path, _, _ in files.pieces), np.split(labels, files.ends), strict=False)
    if any(path not in by_file for path, _, _ in records.files.pieces):
        return None
    return np.concatenate([by_file[path][skip : skip + take] for path, skip, take in records.files.pieces])


def _labels_path(directory: str, files: Ranges, feature: str, several: int) -> Path:
    """Returns the path of the saved labels, which changes if a data file changes in size or modification time."""
    stats = [(os.path.basename(path), skip, take, os.stat(path)) for path, skip, take in files.pieces]
    about = [1, feature, several, [(name, skip, take, stat.st_size, stat.st_mtime_ns) for name, skip, take, stat in stats]]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    return Path(directory, f".jaxcnn-labels-{key}.npz")  # TFDS ignores hidden files


def _saved(path: Path, size: int, several: int) -> np.ndarray | None:
    """Returns the saved labels; None if the file does not exist or is damaged, which the checksum of an .npz file shows."""
    try:
        labels = read_npz(path)["labels"]
    except (UserError, KeyError):
        return None
    shape = (size, several) if several else (size,)
    return labels if (labels.dtype, labels.shape) == (np.int32, shape) else None


def _save(path: Path, labels: np.ndarray) -> None:
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            np.savez_compressed(file, labels=labels)
        os.replace(unfinished, path)
    except OSError:  # a read-only folder or a full disk: the labels are read again next time
        with contextlib.suppress(OSError):
            unfinished.unlink()


def _read_labels(records: Records, feature: str, several: int) -> np.ndarray:
    def label(record: bytes) -> Any:
        values = _values(record, feature).int64_list.value
        return list(values) if several else values[0]

    def chunk(start: int) -> list[Any]:
        return records.read_many(range(start, min(start + 250, len(records))), label)

    with ThreadPoolExecutor() as pool:  # reading releases the GIL
        return label_array(list(itertools.chain.from_iterable(pool.map(chunk, range(0, len(records), 250)))), several)


def _of_shape(shape: tuple[int, int, int] | None, image: np.ndarray, name: str) -> np.ndarray:
    if shape not in (None, image.shape):
        raise UserError(f"{name}: the image has the shape {image.shape}, but the data set states {shape}")
    return image


def _entries(folder: str) -> list[str]:
    """Returns the sorted names in a folder that are not hidden; [] if the folder does not exist."""
    try:
        return sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder}: can't be read ({error.strerror})") from error


def _why(error: Exception) -> str:
    return first_line(error)[:300]
