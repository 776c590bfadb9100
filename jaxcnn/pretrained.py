"""Networks that others have trained: architecture, weights and preprocessing, from a file or the Hugging Face hub.

    model, variables, preprocessing = jaxcnn.load_pretrained("hf:timm/resnet50.tv_in1k")
    model, variables, preprocessing = jaxcnn.load_pretrained("resnet50.pth", "resnet50", num_classes=10)

A source is a file (see jaxcnn.weights.read) or "hf:OWNER/NAME[@REVISION]", a model of timm's on the hub.
"""

import csv
import dataclasses
import fnmatch
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from jaxcnn import weights
from jaxcnn.data import Preprocessing
from jaxcnn.data.files import third_party_lines
from jaxcnn.errors import UserError, did_you_mean, first_line
from jaxcnn.models import create_model, list_models
from jaxcnn.models.registry import find, image_size

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std of pixels in 0…1: what most networks are trained with
SYMMETRIC = ((0.5,) * 3, (0.5,) * 3)  # -1 … 1
PIXELS = ((0.0,) * 3, (1 / 255,) * 3)  # 0 … 255: the network normalises them itself
CAFFE = (tuple(mean / 255 for mean in (123.68, 116.779, 103.939)), (1 / 255,) * 3)  # and blue first: see `_blue_last`

_KERAS = (
    ("ResNet50", CAFFE), ("ResNet101", CAFFE), ("ResNet152", CAFFE), ("VGG1?", CAFFE), ("DenseNet*", IMAGENET),
    ("EfficientNet*", PIXELS), ("MobileNetV3*", PIXELS), ("ConvNeXt*", PIXELS), ("*", SYMMETRIC),
)  # fmt: skip
"""keras.applications' preprocess_input, by the model's name; the first that matches."""


class Pretrained(NamedTuple):
    """Weights that are known to exist; they have not been read yet."""

    source: str
    name: str
    """the model's, as create_model takes it"""
    file: Path
    preprocessing: Preprocessing
    """of RGB images"""
    class_names: tuple[str, ...] = ()
    """() where the source does not say"""

    def variables(self, **arguments: Any) -> tuple[dict[str, Any], int]:
        """{"params", "batch_stats"} of create_model(name, **arguments), and how many classes they tell apart; 0: no head.

        Raises UserError unless all that this network has is there, and nothing else.
        """
        tensors = weights.read(self.file)
        try:
            classes = weights.number_of_classes(self.name, tensors, **arguments)
            found = weights.convert(self.name, tensors, **arguments, num_classes=classes)
        except UserError as error:
            raise UserError(f"{self.source}: {error}") from error
        return _blue_last(found) if _is_caffe(self.name) else found, classes


def load_pretrained(
    source: str,
    name: str | None = None,
    *,
    num_classes: int | None = None,
    channels: int = 3,
    say: Callable[[str], None] = print,
    **arguments: Any,
) -> tuple[nn.Module, dict[str, Any], Preprocessing]:
    """A trained network: (model, variables, preprocessing).

        images = preprocessing.read("cat.jpg")[None]                                    # (1, H, W, C) uint8
        logits = model.apply(variables, preprocessing(images), train=False)

    `name` is the model's for a file; for "hf:…" the source says it. Another `num_classes` than the source's gives a fresh
    head (0: none, and the pooled features), another number of `channels` an adapted first convolution (see
    weights.adapt_stem); `say` is called with a line that names what is not the source's. The other arguments are
    create_model's.

    The preprocessing is the source's; for a file, that of the library whose names the weights have: of this very file where
    torchvision publishes one of its name, else of the first weights of this model that it or timm published.

    Raises:
      UserError: no such source or model, a damaged file, weights of another network.
    """
    origin = find_pretrained(source, name)
    variables, has = origin.variables(**arguments)
    if not has and num_classes is None:
        raise UserError(f"{source}: holds no head; num_classes=0 gives the features, another number a fresh head")
    wanted = has if num_classes is None else num_classes
    variables, changes = fit(origin.name, variables, has, wanted, channels, **arguments)
    if changes:
        say(f"{origin.name} from {source}: {'; '.join(changes)}")
    preprocessing = for_channels(origin.preprocessing, channels)
    return create_model(origin.name, num_classes=wanted, **arguments), variables, preprocessing


def fit(
    name: str, variables: dict[str, Any], has: int, num_classes: int, channels: int, **arguments: Any
) -> tuple[dict[str, Any], list[str]]:
    """Variables of a model of `has` classes, for `num_classes` and images of `channels` channels; and what was done."""
    changes = []
    takes = variables["params"]["stem_conv"]["kernel"].shape[2]
    if takes != channels:
        variables = weights.adapt_stem(variables, channels)
        changes.append(f"stem_conv/kernel adapted from {takes} channels to {channels}")
    if has != num_classes:
        variables, fresh = weights.with_fresh(name, variables, num_classes=num_classes, **arguments)
        if fresh:
            changes.append(f"fresh for {num_classes} classes instead of {has}: {', '.join(fresh)}")
    return variables, changes


def find_pretrained(source: str, name: str | None = None) -> Pretrained:
    """What `source` is; from the hub it is fetched, or taken from its cache."""
    if source.startswith("hf:"):
        return _from_hub(source, name)
    if not name:
        raise UserError(f'{source}: name the model that these weights are of, "resnet50" or so; a file does not say it')
    find(name)
    return Pretrained(source, name, Path(source), _preprocessing_of_file(Path(source), name))


def for_channels(preprocessing: Preprocessing, channels: int) -> Preprocessing:
    """The same for images of `channels` channels: for grey the average of mean and std, for others those in turn."""

    def values(of: tuple[float, ...]) -> tuple[float, ...]:
        return (float(np.mean(of)),) if channels == 1 else tuple(of[channel % len(of)] for channel in range(channels))

    if channels == preprocessing.image_shape[2]:
        return preprocessing
    shape = (*preprocessing.image_shape[:2], channels)
    mean, std = values(preprocessing.mean), values(preprocessing.std)
    return dataclasses.replace(preprocessing, image_shape=shape, mean=mean, std=std)


def class_names(origin: Pretrained, classes: int) -> tuple[str, ...]:
    """The source's; ImageNet's for 1,000 classes; else their numbers."""
    if len(origin.class_names) == classes:
        return origin.class_names
    names = third_party_lines("imagenet/class_names.txt") if classes == 1000 else []
    return tuple(names) or tuple(map(str, range(classes)))


def _preprocessing(
    size: tuple[int, int], mean: Any, std: Any, crop_ratio: float, fit: str = "crop", interpolation: str = "bilinear"
) -> Preprocessing:
    return Preprocessing((*size, 3), size, "bilinear", tuple(mean), tuple(std), fit, crop_ratio, interpolation)


def _preprocessing_of_file(file: Path, name: str) -> Preprocessing:
    library = weights.library(name)
    plain = name.removeprefix(f"{library}/")
    rows = []
    if library in ("torchvision", "timm"):
        rows = list(csv.DictReader(third_party_lines(f"preprocessing/{library}.csv")))
    of_model = [row for row in rows if row["model"] == plain]
    if chosen := [row for row in rows if Path(row["weights"]).stem == file.stem] or of_model:
        row = chosen[0]
        side = int(row["size"])
        mean, std = (tuple(map(float, row[key].split())) for key in ("mean", "std"))
        return _preprocessing((side, side), mean, std, side / int(row["resize"]), row["fit"], row["interpolation"])
    side, (mean, std) = image_size(name), _statistics(name)
    return _preprocessing((side, side), mean, std, 1.0 if side < 64 else 0.875)


def _statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if weights.library(name) != "keras":
        return IMAGENET
    plain = name.removeprefix("keras/")
    return next(statistics for pattern, statistics in _KERAS if fnmatch.fnmatchcase(plain, pattern))


def _is_caffe(name: str) -> bool:
    return _statistics(name) is CAFFE


def _blue_last(variables: dict[str, Any]) -> dict[str, Any]:
    """The network for RGB whose own images have blue first: its first convolution's channels, turned around."""
    stem = variables["params"]["stem_conv"]
    turned = stem | {"kernel": np.ascontiguousarray(stem["kernel"][:, :, ::-1])}
    return variables | {"params": variables["params"] | {"stem_conv": turned}}


# ── The hub ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_hub(source: str, name: str | None) -> Pretrained:
    if not (match := re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source)):
        raise UserError(f'{source}: write it as hf:OWNER/NAME or hf:OWNER/NAME@REVISION, "hf:timm/resnet50.tv_in1k"')
    try:
        config = json.loads(_fetch(source, match[1], match[2], "config.json").read_text(encoding="utf-8"))
        settings = config.get("pretrained_cfg") or {}
        _, height, width = settings.get("input_size", (3, 224, 224))
        mean, std = (settings.get(key, usual) for key, usual in zip(("mean", "std"), IMAGENET, strict=True))
        fit = "stretch" if settings.get("crop_mode") == "squash" else "crop"
        interpolation = settings.get("interpolation")
        interpolation = interpolation if interpolation in ("bicubic", "lanczos") else "bilinear"  # timm's "random" too
        preprocessing = _preprocessing((height, width), mean, std, settings.get("crop_pct", 0.875), fit, interpolation)
        architecture, names = config["architecture"], config.get("label_names") or settings.get("label_names") or ()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{source}: its config.json is none of timm's ({first_line(error)[:200]})") from error
    name = name or _architecture(source, architecture)
    return Pretrained(source, name, _fetch(source, match[1], match[2], "model.safetensors"), preprocessing, tuple(names))


def _architecture(source: str, architecture: str) -> str:
    """The model of this name: in timm's flavour, or else in torchvision's."""
    for name in (f"timm/{architecture}", f"torchvision/{architecture}"):
        try:
            find(name)
        except UserError:
            continue
        return name
    hint = did_you_mean(f"timm/{architecture}", list_models()) or did_you_mean(architecture, list_models())
    raise UserError(f'{source}: no model "{architecture}" here{hint}')


def _fetch(source: str, repository: str, revision: str | None, file: str) -> Path:
    """A file of the hub. One that is in the cache is taken as it is; where the hub is out of reach that is known at once."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(f"{source}: the library huggingface_hub is wanted: pip install 'jaxcnn[hub]'") from error
    for logger in ("huggingface_hub", "httpx2"):  # each try is a line of its own
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        return Path(hub.hf_hub_download(repository, file, revision=revision, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        pass
    except Exception as error:
        raise UserError(f"{source}: {first_line(error)[:300]}") from error
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file, revision=revision), timeout=10)  # the download tries for long
        return Path(hub.hf_hub_download(repository, file, revision=revision))
    except errors.OfflineModeIsEnabled as error:
        raise UserError(f"{source}: {file} is not in the cache, and HF_HUB_OFFLINE is set") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UserError(f"{source}: the hub has no such model or revision, or wants a login for it") from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{source}: there is no {file} in it; models in timm's form are read") from error
    except Exception as error:  # what the network may raise has no base in common
        reason = first_line(error)[:200]
        raise UserError(f"{source}: {file} is not in the cache, and the hub can't be reached ({reason})") from error
