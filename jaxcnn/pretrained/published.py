"""Preprocessing and class names of published weights.

They come from a config.json in timm's format, or from tables of the files that torchvision, timm and Keras published.
"""

import csv
import dataclasses
import fnmatch
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxcnn import weights
from jaxcnn.data import Preprocessing
from jaxcnn.data.files import third_party_lines
from jaxcnn.errors import UserError, first_line
from jaxcnn.models.registry import image_size

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std of pixels in 0…1, as most networks are trained with
SYMMETRIC = ((0.5,) * 3, (0.5,) * 3)  # -1 … 1
PIXELS = ((0.0,) * 3, (1 / 255,) * 3)  # 0 … 255: the network itself normalizes them
CAFFE = (tuple(mean / 255 for mean in (123.68, 116.779, 103.939)), (1 / 255,) * 3)  # and BGR: see is_caffe

_KERAS = (
    ("ResNet50", CAFFE), ("ResNet101", CAFFE), ("ResNet152", CAFFE), ("VGG1?", CAFFE), ("DenseNet*", IMAGENET),
    ("EfficientNet*", PIXELS), ("MobileNetV3*", PIXELS), ("ConvNeXt*", PIXELS), ("*", SYMMETRIC),
)  # fmt: skip
"""preprocess_input of keras.applications by model name. The first pattern that matches applies."""

_UNSPECIFIED = "because these weights do not specify it"
_OF_IMAGENET = f"preprocessing of ImageNet, {_UNSPECIFIED}"
_CROP_MODES = {"crop": "center", "stretch": "squash", "pad": "border"}  # timm's crop_mode by data.fit


def preprocessing_of_file(file: Path, name: str) -> tuple[Preprocessing, str]:
    """Returns the preprocessing for a file of weights of the model `name`, and a description of the assumption.

    If torchvision or timm published a file of this name, the preprocessing is that file's and the description is "". Otherwise
    it is assumed to be that of their first file for this model, else that of the library's models in general.
    """
    library = weights.library(name)
    plain, rows = name.removeprefix(f"{library}/"), []
    if library in ("torchvision", "timm"):
        rows = list(csv.DictReader(third_party_lines(f"preprocessing/{library}.csv")))
    same_file = [row for row in rows if row["weights"].removesuffix(".pth") in (file.name, file.stem)]
    if candidates := same_file or [row for row in rows if row["model"] == plain]:
        row = candidates[0]
        side = int(row["size"])
        mean, std = (tuple(map(float, row[key].split())) for key in ("mean", "std"))
        found = Preprocessing(
            (side, side, 3), (side, side), "bilinear", mean, std, row["fit"], side / int(row["resize"]), row["interpolation"]
        )
        return found, "" if same_file else f"preprocessing of {library}'s {row['weights']}, {_UNSPECIFIED}"
    side, (mean, std) = image_size(name), _statistics(name)
    found = Preprocessing((side, side, 3), (side, side), "bilinear", mean, std, "crop", 1.0 if side < 64 else 0.875, "bilinear")
    return found, f"preprocessing of keras.applications' {plain}, {_UNSPECIFIED}" if library == "keras" else _OF_IMAGENET


def is_caffe(name: str) -> bool:
    """Returns whether the published weights of this model are for BGR images."""
    return _statistics(name) is CAFFE


def _statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if weights.library(name) != "keras":
        return IMAGENET
    plain = name.removeprefix("keras/")
    return next(statistics for pattern, statistics in _KERAS if fnmatch.fnmatchcase(plain, pattern))


# ── timm's config.json ──────────────────────────────────────────────────────────────────────────────────────────────────


def from_timm(where: str, config: Mapping[str, Any]) -> tuple[Preprocessing, tuple[str, ...], str]:
    """Returns (preprocessing, class names, assumed) of a config.json in timm's format.

    The class names are () if it has none. `assumed` describes the assumed mean and std, "" if it specifies both.
    Raises UserError, which begins with `where`, if a value is not valid.
    """
    try:
        settings = config.get("pretrained_cfg") or {}
        channels, height, width = map(int, settings.get("input_size") or (3, 224, 224))
        mean, std = (
            tuple(map(float, settings.get(key) or default)) for key, default in zip(("mean", "std"), IMAGENET, strict=True)
        )
        if len(mean) == len(std) == 1:
            mean, std = mean * channels, std * channels
        fit = {theirs: ours for ours, theirs in _CROP_MODES.items()}.get(settings.get("crop_mode", "center"), "crop")
        crop_ratio, interpolation = float(settings.get("crop_pct") or 0.875), settings.get("interpolation")
        interpolation = interpolation if interpolation in ("bicubic", "lanczos") else "bilinear"  # timm's "random" too
        names = config.get("label_names") or settings.get("label_names") or config.get("id2label") or ()
        if isinstance(names, Mapping):
            names = [names[index] for index in sorted(names, key=int)]
        names = tuple(map(str, names))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{where}: its config.json is not in timm's format ({first_line(error)[:200]})") from error
    size = (height, width)
    preprocessing = Preprocessing((*size, channels), size, "bilinear", mean, std, fit, crop_ratio, interpolation)
    assumed = "" if settings.get("mean") and settings.get("std") else _OF_IMAGENET
    return checked(f"{where}: its config.json", preprocessing), names, assumed


def to_timm(name: str, preprocessing: Preprocessing, class_names: Sequence[str], **more: Any) -> dict[str, Any]:
    """Returns the config.json of a model as timm writes it (save_config_for_hf in timm/models/_hub.py).

    `more` contains further entries of pretrained_cfg. timm does not support area interpolation, which is written as bilinear
    because timm's bilinear interpolation is antialiased, too.
    """
    height, width, channels = preprocessing.input_shape
    settings = {
        "input_size": [channels, height, width],
        "interpolation": "bilinear" if preprocessing.interpolation == "area" else preprocessing.interpolation,
        "crop_pct": preprocessing.crop_ratio,
        "crop_mode": _CROP_MODES[preprocessing.fit],
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        **more,
    }
    names = {"label_names": list(class_names)} if class_names else {}
    return {
        "architecture": name.rpartition("/")[2],
        "num_classes": more.get("num_classes"),
        **names,
        "pretrained_cfg": settings,
    }


def differences(config: Mapping[str, Any], preprocessing: Preprocessing, class_names: Sequence[str]) -> list[str]:
    """Returns the keys whose values in `config`, in timm's format, differ from `to_timm` of the other arguments."""
    ours = to_timm("", preprocessing, class_names)
    settings = config.get("pretrained_cfg") or {}
    different = [key for key, value in ours["pretrained_cfg"].items() if settings.get(key, value) != value]
    return different + ["label_names"] * (config.get("label_names", []) != ours.get("label_names", []))


def checked(where: str, preprocessing: Preprocessing) -> Preprocessing:
    """Returns `preprocessing`. Raises UserError, which begins with `where`, if one of its values is not valid."""
    values = dataclasses.asdict(preprocessing)
    channels = preprocessing.image_shape[-1]
    sides = (*preprocessing.image_shape, *preprocessing.size)
    is_valid = {
        "image_shape": len(sides) == 5 and all(isinstance(side, int) and side > 0 for side in sides),
        "mean": len(preprocessing.mean) == channels and all(-1e6 < value < 1e6 for value in preprocessing.mean),
        "std": len(preprocessing.std) == channels and all(0 < value < 1e6 for value in preprocessing.std),
        "crop_ratio": 0 < preprocessing.crop_ratio <= 1,
        "fit": preprocessing.fit in _CROP_MODES,
        "interpolation": preprocessing.interpolation in ("area", "bilinear", "bicubic", "lanczos"),
        "resize": preprocessing.resize in ("bilinear", "pad"),
    }
    for field, valid in is_valid.items():
        if not valid:
            raise UserError(f"{where}: {field} is {values[field]}, which is not valid for {channels} channels")
    return preprocessing


# ── Classes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_CLASSES = {
    ("classification", 1000): ("ImageNet", "imagenet/class_names.txt"),
    ("segmentation", 21): ("Pascal VOC", "pascal_voc/class_names.txt"),
}
"""The data set of most published networks with this task and number of outputs, and the file of its class names."""


def classes(task: str, outputs: int) -> tuple[str, tuple[str, ...]]:
    """Returns the data set of most published networks with this number of outputs and the names of its classes in label order.

    `task` is "classification" or "segmentation". Returns ("", ()) for other numbers.
    """
    data_set, file = _CLASSES.get((task, outputs), ("", ""))
    return data_set, tuple(third_party_lines(file)) if file else ()


def is_imagenet(names: Sequence[str]) -> bool:
    """Returns whether these are ImageNet's 1,000 classes in label order, as names or as WordNet ids.

    900 names have to match, because published lists differ in synonyms ("tench, Tinca tinca"), underscores and corrections.
    """
    if len(names) != 1000:
        return False
    if all(re.fullmatch(r"n\d{8}", name) for name in names):
        return list(names) == sorted(names) and (names[0], names[-1]) == ("n01440764", "n15075141")
    first = [name.split(",")[0].replace("_", " ").lower() for name in names]
    return sum(map(str.__eq__, first, map(str.lower, classes("classification", 1000)[1]))) >= 900
