"""Data sets that TensorFlow Datasets prepared as array_record files, read without TensorFlow.

experiments/prepare.py prepares one; it is read by its files alone, so the code that prepared it is not needed here.
TFDS shuffles what it writes: the examples of a set stand in another order than in its original files.
"""

import bisect
import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxcnn.data.decode import View, decode, in_channels
from jaxcnn.data.sources import Dataset, Source
from jaxcnn.errors import UserError, did_you_mean, first_line


@dataclasses.dataclass(frozen=True)
class TfdsSource(Source):
    """A split, or a slice or sum of splits, of the prepared data set in the folder `directory`.

    `files` are (path, first record, number of records) of what it reads, in order. `feature` names the images, which
    are `encoded` pictures or arrays; `shape` is theirs where all have one. They are shown in `channels`.
    """

    directory: str
    split: str
    files: tuple[tuple[str, int, int], ...]
    feature: str
    encoded: bool
    shape: tuple[int, int, int] | None
    labels: np.ndarray
    channels: int = 3

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(H, W, C), or None where sizes differ."""
        return self.shape and (*self.shape[:2], self.channels)

    def __getitem__(self, index: int) -> np.ndarray:
        if self.encoded:
            image = decode(self.encoded_bytes(index), self.name(index), self.channels)
        else:
            image = self._read(index, lambda record: self._features.deserialize_example_np(record)[self.feature])
            image = in_channels(image if image.ndim == 3 else image[..., None], self.channels)
        if self.image_shape not in (None, image.shape):
            raise UserError(f"{self.name(index)}: an image of {image.shape}, but all are said to have {self.image_shape}")
        return image

    def view(self, index: int, view: View) -> np.ndarray:
        """Decoded no larger than the view needs."""
        if self.encoded and self.shape is None:
            return decode(self.encoded_bytes(index), self.name(index), self.channels, view)
        return super().view(index, view)

    def encoded_bytes(self, index: int) -> bytes:
        """The picture as it is stored."""
        return self._read(index, lambda record: _values(record, self.feature).bytes_list.value[0])

    def name(self, index: int) -> str:
        """The file that holds it, and which of its records it is."""
        return _name(self.files, self._ends, index)

    def _read(self, index: int, parse: Callable[[bytes], Any]) -> Any:
        try:
            return parse(self._records[index])
        except Exception as error:
            raise _damaged(self.name(index), error) from error

    @functools.cached_property
    def _ends(self) -> list[int]:
        return _ends(self.files)

    @functools.cached_property
    def _records(self) -> Sequence[bytes]:
        return _records(self.directory, self.split)

    @functools.cached_property
    def _features(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.features.FeaturesDict(
            {self.feature: tfds.builder_from_directory(self.directory).info.features[self.feature]}
        )

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # a process opens its own files


def prepared(name: str, root: str, splits: Mapping[str, str], features: Sequence[str] = ()) -> Dataset:
    """The data set NAME[/CONFIG][:VERSION] that lies prepared in the data_dir `root`; "" is ~/tensorflow_datasets.

    `splits` says for train, validation and test which split, in TFDS's syntax: "train[:90%]"; "" takes the split of
    that name if no other part uses it. Where there is no test split with labels, the validation split is the test set.
    `features` names those of image and label; () takes the supervised_keys, or else the only ones there are.

    All records are read once, for the labels; that checks their hashes too.

    Raises:
      UserError: not prepared, prepared as something else, damaged; no such split or feature; parts that overlap.
    """
    if not re.fullmatch(r"\w+(/[^/:]+)?(:[\d.*]+)?", name):
        raise UserError(f"data.name: 'tfds:{name}' is not written as tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:1.0.0")
    builder = _builder(name, root)
    info, directory = builder.info, os.fspath(builder.data_dir)
    image, label = _features(info, name, features)
    pixels, classes = info.features[image], info.features[label]
    encoded = _is_picture(pixels)
    shape = tuple(pixels.shape) if len(pixels.shape) == 3 else (*pixels.shape, 1)
    if pixels.np_dtype not in (np.uint8, np.uint16 if encoded else np.uint8):
        raise UserError(f"tfds:{name}: the images of {image!r} are {pixels.np_dtype.__name__}, not uint8")
    if encoded:
        shape = (*shape[:2], 1 if shape[2] in (1, 2) else 3)  # transparency is dropped
    elif None in shape:
        raise UserError(f"tfds:{name}: the arrays of {image!r} are {shape}; only those of one size can be read")
    class_names = tuple((classes if _is_classes(classes) else classes.feature).names)

    def part(split: str) -> TfdsSource:
        files = _files(info, split)
        labels = _labels(_records(directory, split), label, files, 0 if _is_classes(classes) else len(class_names))
        fixed = None if None in shape else shape
        return TfdsSource(directory, split, files, image, encoded, fixed, labels, shape[2])

    chosen = dict(splits)
    parts = {which: part(split) for which, split in chosen.items() if split}
    named = {piece.split("[")[0].strip() for split in chosen.values() for piece in split.split("+")}
    free = [split for split in info.splits if split not in named and "all" not in named]
    if "train" not in parts:
        if "train" not in free:
            raise UserError(f"data.train_split: say which split of tfds:{name} is for training; there are {_list(info.splits)}")
        parts["train"] = part("train")
    for which, candidates in (("test", ("test", "validation")), ("validation", ("validation",))):
        for split in candidates:
            if which not in parts and split in free and (found := part(split)).labels.max() >= 0:
                parts[which] = found
                free.remove(split)
    _check_apart(parts)
    return Dataset(parts["train"], parts.get("validation"), parts.get("test"), class_names)


def _builder(name: str, root: str) -> Any:
    import tensorflow_datasets as tfds

    folder = os.path.expanduser(root or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    set_name = re.split("[/:]", name)[0]
    command = f"python experiments/prepare.py --dataset={name}" + (f" --data_dir={root}" if root else "")
    _entries(folder)  # TFDS takes one that is closed for one that holds nothing
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
        info = builder.info
        broken = "" if info.splits else "no split in it"
        formats = {str(format.value) for format in info.available_file_formats()}
    except tfds.core.DatasetNotFoundError as error:
        inside = _entries(os.path.join(folder, set_name))
        near = "" if inside else did_you_mean(set_name, (entry for entry in _entries(folder) if entry != set_name))
        if inside and all(entry.startswith("incomplete.") for entry in inside):
            near = f"; its preparation was cut off ({os.path.join(folder, set_name, inside[0])})"
        elif inside:
            near = f"; its folder holds {_list(inside)}"
        raise UserError(f'data.name: no data set "{name}" is prepared in "{folder}"{near}; to prepare it: {command}') from error
    except Exception as error:  # whatever TFDS stumbles over in the files that describe the set
        broken = _why(error)
    if broken:
        raise UserError(
            f"{os.path.join(folder, set_name)}: damaged or half written ({broken}); delete it and prepare it again: {command}"
        )
    if "array_record" not in formats:
        raise UserError(
            f"{os.fspath(builder.data_dir)}: prepared as {_list(formats)}, not as array_record; move it away, then {command}"
        )
    return builder


def _features(info: Any, name: str, chosen: Sequence[str]) -> tuple[str, str]:
    """Names of the image and of the label."""
    features = info.features if hasattr(info.features, "items") else {}
    images = [key for key, feature in features.items() if _is_picture(feature)]
    images = images or [key for key, feature in features.items() if _is_array(feature)]
    labels = [
        key for key, feature in features.items() if _is_classes(feature) or _is_classes(getattr(feature, "feature", None))
    ]
    if chosen and len(chosen) != 2:
        raise UserError(f"data.features: {chosen!r} is not a pair of names such as image,label")
    keys = info.supervised_keys
    keys = keys if isinstance(keys, tuple) and len(keys) == 2 else (None, None)

    def one(which: str, found: list[str], wanted: str, supervised: Any) -> str:
        if wanted:
            if wanted not in found:
                near = did_you_mean(wanted, found)
                raise UserError(f"data.features: tfds:{name} has no {which} {wanted!r}{near}; there are {_list(found)}")
            return wanted
        if supervised in found:
            return supervised
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"data.features: tfds:{name} has several features that are {which}s: {_list(found)}; name two, image,label"
            )
        raise UserError(f"tfds:{name} has no {which} feature, so it is no set for classification; there are {_list(features)}")

    wanted = tuple(chosen) or ("", "")
    return one("image", images, wanted[0], keys[0]), one("class label", labels, wanted[1], keys[1])


def _is_picture(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Image) and not isinstance(feature, tfds.features.LabeledImage)  # that is a mask


def _is_array(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return type(feature) is tfds.features.Tensor and len(feature.shape) in (2, 3) and feature.np_dtype == np.uint8


def _is_classes(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.ClassLabel) and feature.num_classes is not None


def _files(info: Any, split: str) -> tuple[tuple[str, int, int], ...]:
    """(path, first record, number of records) of what a split reads."""
    try:
        instructions = info.splits[split].file_instructions
    except (ValueError, NotImplementedError) as error:
        name = split.split("[")[0]
        near = "" if name in info.splits else did_you_mean(name, info.splits)
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise UserError(f"data.*_split: {split!r}{near}: {reason}; there are {_list(info.splits)}") from error
    files = tuple((os.fspath(i.filename), int(i.skip), int(i.take)) for i in instructions)
    if not files or any(take <= 0 for _, _, take in files):
        raise UserError(f"data.*_split: {split!r} holds no example")
    for path, _, _ in files:
        if not os.path.isfile(path):
            raise UserError(f"{path}: not there; the set is half written or was copied in part, prepare it again")
    return files


def _records(directory: str, split: str) -> Any:
    """The records of a split, each an encoded tf.train.Example."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(directory)
    return builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)


def _values(record: bytes, feature: str) -> Any:
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature[feature]


def _labels(records: Any, feature: str, files: tuple[tuple[str, int, int], ...], several: int) -> np.ndarray:
    """(N,) classes, or (N, several) of zeros and ones."""
    size = sum(take for _, _, take in files)

    def label(record: bytes) -> Any:
        values = _values(record, feature).int64_list.value
        return list(values) if several else values[0]

    def one(index: int) -> Any:
        try:
            return label(records[index])
        except Exception as error:
            raise _damaged(_name(files, _ends(files), index), error) from error

    def some(start: int) -> list[Any]:
        indices = range(start, min(start + 250, size))
        try:
            return [label(record) for record in records.__getitems__(indices)]  # ten times as fast as one by one
        except Exception:
            return [one(index) for index in indices]  # finds out which

    with ThreadPoolExecutor() as pool:  # reading lets go of Python's lock
        values = list(itertools.chain.from_iterable(pool.map(some, range(0, size, 250))))
    if not several:
        return np.array(values, np.int32)
    labels = np.zeros((size, several), np.int32)
    for row, value in zip(labels, values, strict=True):
        row[value] = 1
    return labels


def _damaged(name: str, error: Exception) -> UserError:
    """Whatever array_record (RuntimeError), protobuf or TFDS stumbled over."""
    return UserError(f"{name}: damaged, cut off or not there; prepare the set again ({_why(error)})")


def _ends(files: tuple[tuple[str, int, int], ...]) -> list[int]:
    return list(itertools.accumulate(take for _, _, take in files))


def _name(files: tuple[tuple[str, int, int], ...], ends: list[int], index: int) -> str:
    which = min(bisect.bisect_right(ends, index), len(files) - 1)
    path, skip, take = files[which]
    return f"{path}, record {skip + index - (ends[which] - take)}"


def _check_apart(parts: Mapping[str, TfdsSource]) -> None:
    for (one, first), (other, second) in itertools.combinations(parts.items(), 2):
        for (path, skip, take), (path2, skip2, take2) in itertools.product(first.files, second.files):
            if path == path2 and skip < skip2 + take2 and skip2 < skip + take:
                raise UserError(
                    f"data.{other}_split: {second.split!r} shares examples with {first.split!r}, which is for {one}"
                )


def _entries(folder: str) -> list[str]:
    """What is in a folder; [] where there is none."""
    try:
        return sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder}: can't be read ({error.strerror})") from error


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"


def _why(error: Exception) -> str:
    return first_line(error)[:300]
