"""What is known of weights that others published: preprocessing, and the names of ImageNet's classes.

It is in timm's config.json, or in tables of the files of torchvision, timm and Keras.
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

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std of pixels in 0…1: what most networks are trained with
SYMMETRIC = ((0.5,) * 3, (0.5,) * 3)  # -1 … 1
PIXELS = ((0.0,) * 3, (1 / 255,) * 3)  # 0 … 255: the network normalises them itself
CAFFE = (tuple(mean / 255 for mean in (123.68, 116.779, 103.939)), (1 / 255,) * 3)  # and blue first: see is_caffe

_KERAS = (
    ("ResNet50", CAFFE), ("ResNet101", CAFFE), ("ResNet152", CAFFE), ("VGG1?", CAFFE), ("DenseNet*", IMAGENET),
    ("EfficientNet*", PIXELS), ("MobileNetV3*", PIXELS), ("ConvNeXt*", PIXELS), ("*", SYMMETRIC),
)  # fmt: skip
"""keras.applications' preprocess_input, by the model's name; the first that matches."""

_NONE = "for these weights state none"
_OF_IMAGENET = f"preprocessing of ImageNet, {_NONE}"
_CROP_MODES = {"crop": "center", "stretch": "squash", "pad": "border"}  # data.fit: timm's crop_mode


def preprocessing_of_file(file: Path, name: str) -> tuple[Preprocessing, str]:
    """The preprocessing of weights of the model `name`; and what it is assumed to be, "" where the file's name says it.

    It is the preprocessing of the file of this name that torchvision or timm published, else of their first file of this
    model, else of the library's models in general.
    """
    library = weights.library(name)
    plain, rows = name.removeprefix(f"{library}/"), []
    if library in ("torchvision", "timm"):
        rows = list(csv.DictReader(third_party_lines(f"preprocessing/{library}.csv")))
    of_name = [row for row in rows if row["weights"].removesuffix(".pth") in (file.name, file.stem)]
    if chosen := of_name or [row for row in rows if row["model"] == plain]:
        row = chosen[0]
        side = int(row["size"])
        mean, std = (tuple(map(float, row[key].split())) for key in ("mean", "std"))
        found = Preprocessing(
            (side, side, 3), (side, side), "bilinear", mean, std, row["fit"], side / int(row["resize"]), row["interpolation"]
        )
        return found, "" if of_name else f"preprocessing of {library}'s {row['weights']}, {_NONE}"
    side, (mean, std) = image_size(name), _statistics(name)
    found = Preprocessing((side, side, 3), (side, side), "bilinear", mean, std, "crop", 1.0 if side < 64 else 0.875, "bilinear")
    return found, f"preprocessing of keras.applications' {plain}, {_NONE}" if library == "keras" else _OF_IMAGENET


def is_caffe(name: str) -> bool:
    """Whether the published weights of this model are for images with blue first."""
    return _statistics(name) is CAFFE


def _statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if weights.library(name) != "keras":
        return IMAGENET
    plain = name.removeprefix("keras/")
    return next(statistics for pattern, statistics in _KERAS if fnmatch.fnmatchcase(plain, pattern))


# ── timm's config.json ──────────────────────────────────────────────────────────────────────────────────────────────────


def from_timm(where: str, config: Mapping[str, Any]) -> tuple[Preprocessing, tuple[str, ...], str]:
    """(preprocessing, class names, assumed) of a config.json of timm's form.

    The names are () where there are none; `assumed` is "" or what the preprocessing is assumed to be where it has none.
    Raises UserError, which begins with `where`, if a value in it can't be used.
    """
    try:
        settings = config.get("pretrained_cfg") or {}
        channels, height, width = map(int, settings.get("input_size") or (3, 224, 224))
        mean, std = (tuple(map(float, settings.get(key) or of)) for key, of in zip(("mean", "std"), IMAGENET, strict=True))
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
        raise UserError(f"{where}: its config.json is not one of timm's ({first_line(error)[:200]})") from error
    size = (height, width)
    preprocessing = Preprocessing((*size, channels), size, "bilinear", mean, std, fit, crop_ratio, interpolation)
    assumed = "" if settings.get("mean") and settings.get("std") else _OF_IMAGENET
    return checked(f"{where}: its config.json", preprocessing), names, assumed


def to_timm(name: str, preprocessing: Preprocessing, class_names: Sequence[str], **more: Any) -> dict[str, Any]:
    """The config.json of a model as timm writes it (save_config_for_hf in timm/models/_hub.py).

    `more` is what pretrained_cfg says beside the preprocessing. timm knows no interpolation by area; it is stated as
    bilinear, which is antialiased too.
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
    """What `config`, of timm's form, says otherwise than `to_timm` of these; of what they have in common."""
    ours = to_timm("", preprocessing, class_names)
    settings = config.get("pretrained_cfg") or {}
    different = [key for key, value in ours["pretrained_cfg"].items() if settings.get(key, value) != value]
    return different + ["label_names"] * (config.get("label_names", []) != ours.get("label_names", []))


def checked(where: str, preprocessing: Preprocessing) -> Preprocessing:
    """`preprocessing`, read from a file. Raises UserError, which begins with `where`, if it has values that can't be used."""
    values = dataclasses.asdict(preprocessing)
    channels = preprocessing.image_shape[-1]
    sides = (*preprocessing.image_shape, *preprocessing.size)
    right = {
        "image_shape": len(sides) == 5 and all(isinstance(side, int) and side > 0 for side in sides),
        "mean": len(preprocessing.mean) == channels and all(-1e6 < value < 1e6 for value in preprocessing.mean),
        "std": len(preprocessing.std) == channels and all(0 < value < 1e6 for value in preprocessing.std),
        "crop_ratio": 0 < preprocessing.crop_ratio <= 1,
        "fit": preprocessing.fit in _CROP_MODES,
        "interpolation": preprocessing.interpolation in ("area", "bilinear", "bicubic", "lanczos"),
        "resize": preprocessing.resize in ("bilinear", "pad"),
    }
    for field, is_right in right.items():
        if not is_right:
            raise UserError(f"{where}: {field} is {values[field]}, which can't be used for {channels} channels")
    return preprocessing


# ── ImageNet's classes ──────────────────────────────────────────────────────────────────────────────────────────────────


def imagenet_names() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, in their order."""
    return tuple(third_party_lines("imagenet/class_names.txt"))


def is_imagenet(names: Sequence[str]) -> bool:
    """Whether these are ImageNet's 1,000 classes in their order: by name, or by WordNet number, which sorts them.

    Lists of their names differ in synonyms ("tench, Tinca tinca"), underscores and a few corrections.
    """
    if len(names) != 1000:
        return False
    if all(re.fullmatch(r"n\d{8}", name) for name in names):
        return list(names) == sorted(names) and (names[0], names[-1]) == ("n01440764", "n15075141")
    first = [name.split(",")[0].replace("_", " ").lower() for name in names]
    return sum(map(str.__eq__, first, map(str.lower, imagenet_names()))) >= 900
