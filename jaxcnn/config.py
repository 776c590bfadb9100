"""Every setting there is, once, with its default and its meaning; and durations.

A file in configs/ starts from `default_config()` and changes what it needs:

    def get_config():
        config = default_config()
        config.model.name = "resnet18"
        return config

`validate` then checks names, types, choices and ranges, wherever the values came from.
"""

import itertools
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FieldReference

from jaxcnn.errors import UserError, did_you_mean


class Setting(NamedTuple):
    """One line of the table below."""

    name: str
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    duration: bool = False
    items: type | None = None  # what a tuple holds, where that is checked here
    pair: bool = False  # (height, width) may stand where a number of pixels does
    changes_result: bool = True  # a run may be resumed with another value where this is False


SETTINGS = (
    Setting(
        "seed", 0, "decides everything random: initial parameters, data order, augmentation, dropout", least=0, most=2**32 - 1,
    ),
    Setting("total", "10epochs", "how long to train, as steps, epochs or examples", duration=True),
    Setting("batch_size", 128, "examples a step, over all devices", least=1),
    Setting("devices", 0, "how many of the devices found to use; 0 = all", least=0, changes_result=False),
    Setting(
        "steps_per_dispatch", 0, "most training steps per call to the device, fewer where their batches take more than "
        "256 MiB; 0 = 1 on CPU, where loops are slow, 32 elsewhere",
        least=0, changes_result=False,
    ),
    # model
    Setting(
        "model.name", "lenet5", "the architecture, as jaxcnn.list_models() lists it; or a class of yours by its import path, "
        "my_package.my_net:MyNet (docs/extending.md)",
    ),
    Setting("model.arguments", {}, "its arguments beyond num_classes and dtype, e.g. --config.model.arguments.stem=small"),
    Setting("model.dtype", "float32", "compute type; parameters and statistics stay float32", ("float32", "bfloat16")),
    Setting(
        "model.pretrained", "", "weights to start from: a file in the names of the library that the model is of (.npz, "
        ".safetensors, .pth, .h5), a run's folder, or hf:OWNER/NAME of the hub; where the data have other classes, the head is "
        "fresh; '' = none",
    ),
    Setting(
        "model.adapt_stem", False, "where model.pretrained takes another number of channels than the data have: its first "
        "convolution is summed over them for 1 channel, else repeated over the new ones and scaled",
    ),
    Setting(
        "model.whiten", 0, "training images that the filters of a whitening first layer (airbench94's) are made from; 0 = they "
        "stay as they were drawn", least=0,
    ),
    # data
    Setting("data.name", "digits", "the data set"),
    Setting(  # a run goes on only with the same examples, see jaxcnn/train/fingerprint.py
        "data.root", "", "folder (or file) that holds it; digits needs none", changes_result=False,
    ),
    Setting(
        "data.validation", 0.1, "share of the training set cut off for validation where there is none: "
        "stratified, decided by seed", least=0, most=0.9,
    ),
    Setting(
        "data.resident", "auto", "keep the data set on the device; auto = if it takes at most 2 GiB",
        ("auto", "on", "off"), changes_result=False,
    ),
    Setting(
        "data.threads", 0, "threads that read batches when the data set is streamed (each process has as many), and batches "
        "that are read ahead; 0 = one a core, or one a process",
        least=0, changes_result=False,
    ),
    Setting(
        "data.mean", (), "mean a channel, of pixels in 0…1; () = that of model.pretrained, or measured on the training set",
        items=float,
    ),
    Setting("data.std", (), "standard deviation a channel, of pixels in 0…1; () = the same way", items=float),
    Setting(
        "data.test", 0.2, "share of the data set aside for testing where it has no test part: stratified, the same "
        "whatever the seed", least=0, most=0.9,
    ),
    Setting("data.fold", "", '"2/5": the second of five folds is the validation set; "" = data.validation decides'),
    Setting(
        "data.train_split", "", 'tfds, huggingface: what to train on, in their syntax, "train[:90%]"; folder: the folder that '
        'holds the training set\'s class folders, "." for data.root itself, "*/train" for a folder in each class; "" = by name',
    ),
    Setting(
        "data.validation_split", "", 'the validation set, likewise; "" = by name (tfds, huggingface: if there is a test set '
        'too); folder: "off" = none',
    ),
    Setting(
        "data.test_split", "", 'the test set, likewise; "" = by name (tfds, huggingface: or else validation); folder: "off" = '
        "none",
    ),
    Setting("data.features", (), "tfds, huggingface: the image and the label to use, image,label; () = found", items=str),
    Setting("data.group", "", "what no split tears apart: a regular expression over paths (folder), a column (csv)"),
    Setting("data.channels", 0, "3: RGB, grey repeated; 1: grey, luma of RGB; 0: as stored, pictures 3 if any is RGB", least=0),
    Setting("data.fit", "crop", "pictures: centre cut out, padded, or stretched", ("crop", "pad", "stretch")),
    Setting("data.crop_ratio", 0.875, "pictures: share of the shorter side that the centre shows", least=0.1, most=1),
    Setting(
        "data.interpolation", "area", "pictures: how the centre is resized: area (by OpenCV, fast), or as Pillow does, to the "
        "pixels of torchvision's and timm's transforms", ("area", "bilinear", "bicubic", "lanczos"),
    ),
    Setting(
        "data.window", (), "pictures of more than 8 bits: (low, high), the samples that become 0 and 255, (-160, 240) for "
        "Hounsfield units; linear between, cut off beyond; () = the upper 8 bits, where that is possible", items=float,
    ),
    Setting(
        "data.random_crop", (), "pictures, in training: ranges of a random crop's share of the area and of width / height "
        "(over the input's own: 1 distorts nothing), ((0.08, 1.0), (0.75, 1.33)); () = the centre",
    ),
    Setting(
        "data.on_error", "stop", "a picture that can't be read stops the run, or is skipped (training takes another one of "
        "its class), printed, and listed in summary.json",
        ("stop", "skip"), changes_result=False,
    ),
    Setting(
        "data.repeats", 1, "repeated augmentation (Hoffer et al. 2020): so many augmentations of an example side by side, "
        "and an epoch goes through a part of the examples as much smaller", least=1,
    ),
    Setting(
        "data.cache", "off", "pictures: kept, once decoded and resized, in memory or in a file (by a map of it); evaluation "
        "sees the same pixels, random crops are cut from a picture of data.cache_side", ("off", "memory", "disk"),
    ),
    Setting("data.cache_folder", "", 'where that file is; "" = .jaxcnn-cache beside the data', changes_result=False),
    Setting(
        "data.cache_side", 0, "size that a picture is kept in for random crops, one side of a square or height,width; 0 = "
        "twice data.image_size, so that a quarter of it is not enlarged", least=0, most=10_000, pair=True,
    ),
    Setting("data.balanced", False, "training draws every class equally often, those with few examples more than once"),
    Setting("data.workers", 0, "processes that read streamed examples; 0 = data.threads do", least=0, changes_result=False),
    Setting(
        "data.image_size", 0, "pixels that images are brought to: 224, the side of a square, or 192,256, height and width; "
        "0 = as they are stored, and for pictures a square, about the median of their shorter sides", least=0, pair=True,
    ),
    Setting(
        "data.sizes", (), "sizes that training's images are brought to instead, one after the other (progressive resizing) or "
        "drawn every 10 steps: sides of squares, 128,160,192, or pairs, (96,128),(192,256)", items=int, pair=True,
    ),
    Setting(
        "data.size_boundaries", (), 'durations after which the next of data.sizes follows, ("30epochs", "34epochs"); '
        "() = drawn", items=str,
    ),
    Setting("data.resize", "bilinear", "how: interpolated (antialiased), or zero-padded", ("bilinear", "pad")),
    Setting("data.augment", (), 'operations in order: "flip" or ("random_crop", {"pad": 4}); see jaxcnn/data/augment'),
    # loss
    Setting(
        "loss.name", "softmax_cross_entropy", "softmax for one class of many; sigmoid for two classes (one output), "
        "several labels an image, or one against the rest", ("softmax_cross_entropy", "sigmoid_binary_cross_entropy"),
    ),
    Setting("loss.label_smoothing", 0.0, "share of the target spread evenly over the classes", least=0, most=1),
    Setting(
        "loss.balance", "none", "class weights from the training set's counts n: 1 / n (inverse), or (1 - 0.999) / "
        "(1 - 0.999^n), the effective number of examples (Cui et al. 2019)", ("none", "inverse", "effective"),
    ),
    Setting("loss.focal_gamma", 0.0, "focal loss (Lin et al. 2017): each loss times (1 - p)^gamma; 0 = off", least=0),
    Setting(
        "loss.auxiliary_weight", 0.3, "of the loss of each auxiliary head, where a model has any: 0.3 in GoogLeNet's paper, "
        "0.4 for Inception v3", least=0,
    ),
    Setting(
        "loss.class_weights", (), "weight of each class in the training loss: numbers in the order of the classes, 2,1, or "
        "by their names, cat=2,dog=1; () = all 1",
    ),
    # optimizer
    Setting(
        "optimizer.name", "sgd", "update rule, from optax",
        ("sgd", "adam", "adamw", "rmsprop", "lamb", "lion", "adafactor", "muon"),
    ),
    Setting("optimizer.learning_rate", 0.1, "peak learning rate", least=0),
    Setting("optimizer.momentum", 0.9, "sgd, rmsprop, muon", least=0, most=1),
    Setting("optimizer.nesterov", False, "sgd, rmsprop, muon"),
    Setting("optimizer.b1", 0.9, "decay of the first moment: adam, adamw, lamb, lion; muon's adam", least=0, most=1),
    Setting("optimizer.b2", 0.999, "decay of the second moment: the same and rmsprop", least=0, most=1),
    Setting("optimizer.eps", 1e-8, "adam, adamw, rmsprop, lamb; muon's adam", least=0),
    Setting(
        "optimizer.weight_decay", 0.0, "added to the gradient (sgd, adam, rmsprop) or to the update before the "
        "learning rate (adamw, lamb, lion, adafactor, muon)", least=0,
    ),
    Setting(
        "optimizer.weight_decay_factors", (("(^|/)(bias|scale)$", 0.0),), "(regular expression over parameter paths, "
        "factor), the first that matches decides; 1 where none does",
    ),
    Setting("optimizer.learning_rate_factors", (), "the same form; multiplies the learning rate"),
    Setting(
        "optimizer.groups", (), 'parameters with settings optimizer.* and schedule.* of their own: (("bias$", '
        '{"optimizer.name": "sgd", "schedule.total": "3epochs"}), …), regular expressions over paths, the first that matches',
    ),
    Setting("optimizer.muon_steps", 5, "muon: Newton-Schulz iterations", least=1),
    Setting("optimizer.muon_coefficients", (3.4445, -4.775, 2.0315), "muon: of x, x³ and x⁵ in them", items=float),
    Setting("optimizer.muon_dtype", "float32", "muon: what they are computed in", ("float32", "bfloat16")),
    Setting(
        "optimizer.rescale_filters", False, "brings each convolution kernel to the norm √filters before its update "
        "(airbench): a weight decay that knows its aim",
    ),
    Setting(
        "optimizer.freeze", (), "regular expressions; the parameters that match are not trained, and batch norm all of whose "
        "parameters match keeps and uses its running statistics", items=str,
    ),
    Setting("optimizer.clip_norm", 0.0, "gradients are scaled down to this global norm; 0 = not", least=0),
    Setting("optimizer.accumulate", 1, "parts that a batch is computed in, one after the other, to save memory", least=1),
    # schedule
    Setting(
        "schedule.name", "cosine", "course of the learning rate after the warm-up",
        ("constant", "steps", "cosine", "linear", "one_cycle"),
    ),
    Setting("schedule.total", "", 'the rate has reached its end after this, and stays; "" = as training ends', duration=True),
    Setting("schedule.warmup", "0steps", "linear rise to the peak; one_cycle: its rising part, 30 % if 0", duration=True),
    Setting("schedule.warmup_start", 0.0, "share of the peak at which the warm-up starts", least=0, most=1),
    Setting("schedule.boundaries", (), "steps: durations after which the rate is multiplied by schedule.factor", items=str),
    Setting("schedule.factor", 0.1, "steps: that factor", least=0),
    Setting("schedule.final", 0.0, "cosine, linear: share of the peak at the end", least=0, most=1),
    # the rest of a run
    Setting(
        "ema.decay", 0.0, "decay of the weights' moving average, which is evaluated too and used at the end; rises to it "
        "as (1 + step) / (10 + step); 0 = no average", least=0, most=1,
    ),
    Setting("evaluate.every", "1epochs", "interval of evaluations on the validation set", duration=True),
    Setting("evaluate.batch_size", 256, "examples a batch of evaluation", least=1, changes_result=False),
    Setting(
        "evaluate.select", "best", "which parameters are tested at the end: those best in validation accuracy "
        "(the last where there is no validation set), or the last", ("best", "last"),
    ),
    Setting(
        "evaluate.views", (), 'test-time augmentation, averaged over: "flip", ("shift", {"pixels": 1}), …; see '
        "jaxcnn/data/augment/test_time.py",
    ),
    Setting("early_stop.patience", 0, "stop after so many evaluations with no better validation accuracy; 0 = never", least=0),
    Setting("early_stop.min_delta", 0.0, "by how much better it must be to count", least=0),
    Setting("checkpoint.every", "1epochs", "interval of checkpoints", duration=True, changes_result=False),
    Setting("checkpoint.keep", 2, "latest checkpoints kept, beside the best", least=1, changes_result=False),
    Setting("log.every", "50steps", "interval of lines of training metrics", duration=True, changes_result=False),
)  # fmt: skip
_KINDS = {
    int: "a whole number", float: "a number", bool: "True or False", str: "a string", tuple: "a list", dict: "a dict",
}  # fmt: skip
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def names() -> list[str]:
    """The names of all settings."""
    return list(_BY_NAME)


def default_config() -> ConfigDict:
    """All settings at their defaults, to be changed by a file in configs/."""
    config = ConfigDict()
    for setting in SETTINGS:
        room, _, leaf = setting.name.rpartition(".")
        holder = config
        if room:
            if room not in config:
                config[room] = ConfigDict()
            holder = config[room]
        holder[leaf] = ConfigDict(setting.default) if isinstance(setting.default, dict) else setting.default
        if setting.pair:
            holder[leaf] = FieldReference(setting.default, field_type=object)  # takes a number and a pair
    return config


def flatten(config: ConfigDict) -> dict[str, Any]:
    """{"optimizer.learning_rate": 0.1, …}; model.arguments stays one dict."""
    flat: dict[str, Any] = {}

    def walk(node: ConfigDict, prefix: str) -> None:
        for name in node.keys():  # noqa: SIM118 (a ConfigDict, not a dict)
            path, value = prefix + name, node[name]
            if isinstance(_BY_NAME.get(path, Setting("", None, "")).default, dict):
                flat[path] = value.to_dict() if isinstance(value, ConfigDict) else value
            elif isinstance(value, ConfigDict):
                walk(value, path + ".")
            else:
                flat[path] = value

    walk(config, "")
    return flat


def validate(config: ConfigDict) -> ConfigDict:
    """A locked copy of `config`, in which every name, type, choice and range has been checked.

    Raises:
      UserError: names the first setting that is wrong, and what would be right.
    """
    return _resolved(flatten(config))


def changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """`validate` of `config` with other values for some settings: {"optimizer.learning_rate": 0.1, …}."""
    return _resolved(flatten(config) | dict(changes))


def _resolved(values: Mapping[str, Any]) -> ConfigDict:
    checked = default_config()
    for path, value in values.items():
        if path not in _BY_NAME:
            raise UserError(f"config: no setting {path!r}{did_you_mean(path, _BY_NAME)}")
        room, _, leaf = path.rpartition(".")
        value = _checked(_BY_NAME[path], value)
        (checked[room] if room else checked)[leaf] = ConfigDict(value) if isinstance(value, dict) else value
    return checked.lock()


def _checked(setting: Setting, value: Any) -> Any:
    name, default = setting.name, setting.default
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        value = _with_tuples(value)
        if setting.items is float:
            value = tuple(float(v) if type(v) is int else v for v in value)
        if setting.items and not all(type(v) is setting.items or (setting.pair and _is_pair(v)) for v in value):
            raise UserError(f"{name}: {value!r} should hold nothing but {setting.items.__name__}s")
        if setting.items is float and not all(map(math.isfinite, value)):
            raise UserError(f"{name}: {value} holds a number that is not finite")
    elif isinstance(default, dict) and isinstance(value, dict):
        value = _with_tuples(value)
    elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    elif setting.pair and _is_pair(value := _with_tuples(value)):
        height, width = (_checked(setting, side) for side in value)
        return height if height == width else (height, width)
    if type(value) is not type(default):
        pair = ", or two of them, (height, width)" if setting.pair else ""
        raise UserError(f"{name}: {value!r} is not {_KINDS[type(default)]}{pair}")
    if setting.choices and value not in setting.choices:
        raise UserError(f"{name}: no {value!r}{did_you_mean(value, setting.choices)}; there are {', '.join(setting.choices)}")
    if setting.duration and value != default:
        _parse_duration(name, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name}: {value} is not a finite number")
    if setting.least is not None and value < setting.least:
        raise UserError(f"{name}: {value} is below {setting.least:,}, the least it can be")
    if setting.most is not None and value > setting.most:
        raise UserError(f"{name}: {value} is above {setting.most:,}, the most it can be")
    return value


def _is_pair(value: Any) -> bool:
    """Whether it is (height, width)."""
    return isinstance(value, tuple) and len(value) == 2 and all(type(side) is int and side > 0 for side in value)


def _with_tuples(value: Any) -> Any:
    """Lists as tuples, all the way down, so that a config read back from JSON equals the one written."""
    if isinstance(value, dict):
        return {name: _with_tuples(v) for name, v in value.items()}
    return tuple(_with_tuples(v) for v in value) if isinstance(value, list | tuple) else value


# ── Durations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _parse_duration(name: str, text: str) -> tuple[Fraction, str]:
    match = re.fullmatch(r"\s*(\d[\d_]*(?:\.\d+)?)\s*(step|epoch|example)s?\s*", text)
    if not match:
        raise UserError(f"{name}: {text!r} is no duration; write it as 5000steps, 10epochs or 1_000_000examples")
    return Fraction(match[1].replace("_", "")), match[2]


def duration_in_steps(name: str, text: str, *, batch_size: int, examples_per_epoch: int) -> int:
    """How many steps "5000steps", "10epochs" or "1_000_000examples" are, rounded up; `name` is for the error message."""
    count, unit = _parse_duration(name, text)
    per_step = {"step": Fraction(1), "epoch": Fraction(batch_size, examples_per_epoch), "example": Fraction(batch_size)}
    return math.ceil(count / per_step[unit])


def durations_in_steps(name: str, texts: Sequence[str], **sizes: int) -> list[int]:
    """Those of a setting that holds several, which have to grow."""
    steps = [duration_in_steps(name, text, **sizes) for text in texts]
    if any(late <= early for early, late in itertools.pairwise([0, *steps])):
        raise UserError(f"{name}: {texts} should grow, from above 0")
    return steps


# ── As text ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def describe(config: ConfigDict) -> str:
    """Every setting, its value and its meaning, a line each."""
    values = flatten(config)
    lines = [(f"{setting.name} = {values[setting.name]!r}", setting.meaning) for setting in SETTINGS]
    width = max(len(left) for left, _ in lines if len(left) < 60)
    return "\n".join(f"{left:<{width}}  # {meaning}" for left, meaning in lines)


def to_json(config: ConfigDict) -> str:
    """The resolved config as config.json holds it: {"optimizer.learning_rate": 0.1, …}."""
    values = flatten(config)
    return json.dumps({setting.name: values[setting.name] for setting in SETTINGS}, indent=2) + "\n"


def from_json(text: str) -> ConfigDict:
    """The inverse of `to_json`; a setting that is newer than the text gets its default."""
    return _resolved(json.loads(text))


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """What differs between two configs in settings that change a run's result: "seed: 0 -> 1"."""
    before, after = flatten(old), flatten(new)
    same_before, same_after = _as_compared(before), _as_compared(after)
    return [
        f"{s.name}: {before[s.name]!r} -> {after[s.name]!r}"
        for s in SETTINGS
        if s.changes_result and same_before[s.name] != same_after[s.name]
    ]


def _as_compared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of settings, those equal that mean the same."""
    values = dict(values)
    for setting in SETTINGS:
        if setting.duration and values[setting.name]:
            values[setting.name] = _parse_duration(setting.name, values[setting.name])
    if weights := values["model.pretrained"]:
        values["model.pretrained"] = os.path.normpath(os.path.expanduser(weights))
    if not values["data.random_crop"]:
        values["data.cache"] = "off"  # evaluation sees the same pixels
    if values["data.cache"] == "off":
        values["data.cache_side"] = 0
    elif values["data.cache"] == "disk":
        values["data.cache"] = "memory"
    return values
