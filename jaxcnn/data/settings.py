"""The settings data.*."""

import dataclasses
from typing import Annotated, Any, Literal

from msgspec import Meta

from jaxcnn.durations import Duration
from jaxcnn.settings import Count, Positive, Section, Setting, Whole, unless, when

_PICTURES = when("data.name", "folder", "csv", "tfds:*", "huggingface:*")
_DESCRIBED = when("data.name", "tfds:*", "huggingface:*")
_SPLITS = when("data.name", "folder", "tfds:*", "huggingface:*")

_SIZE = "such as 224, or (192, 256), height and width"
_Size = Annotated[Count | tuple[Count, Count], Meta(description=f"pixels {_SIZE}")]
_SizeOrZero = Annotated[Whole | tuple[Count, Count], Meta(description=f"pixels {_SIZE}, or 0")]
_Kept = Annotated[int, Meta(ge=1, le=10_000)]
_KeptSize = Annotated[
    Annotated[int, Meta(ge=0, le=10_000)] | tuple[_Kept, _Kept],
    Meta(description=f"pixels of at most 10,000, {_SIZE}, or 0"),
]
_CutOff = Annotated[float, Meta(ge=0, le=0.9)]


@dataclasses.dataclass(frozen=True)
class DataSettings(Section, section="data"):
    """The data set, its parts, and how its images are read and changed."""

    name: Annotated[str, Setting("the data set")] = "digits"
    root: Annotated[
        str,
        Setting(  # a run goes on only with the same examples, see jaxcnn/train/fingerprint.py
            "folder (or file) that holds it; digits needs none",
            unless("data.name", "digits"),
            changes_result=False,
        ),
    ] = ""
    validation: Annotated[
        _CutOff,
        Setting(
            "share of the training set cut off for validation if the data have none: stratified, decided by seed",
            unless("data.fold"),
        ),
    ] = 0.1
    resident: Annotated[
        Literal["auto", "on", "off"],
        Setting(
            "keep the data set on the device; auto = if it takes at most 2 GiB",
            changes_result=False,
        ),
    ] = "auto"
    threads: Annotated[
        Whole,
        Setting(
            "threads that read batches when the data set is streamed (each process has as many), and batches that are read "
            "ahead; 0 = one per core, or one per process",
            changes_result=False,
        ),
    ] = 0
    mean: Annotated[
        tuple[float, ...],
        Setting(
            "per-channel mean of pixels in 0…1; () = from model.pretrained, or measured on the training set",
        ),
    ] = ()
    std: Annotated[tuple[Positive, ...], Setting("per-channel standard deviation of pixels in 0…1; () = the same way")] = ()
    test: Annotated[
        _CutOff,
        Setting(
            "share of the data set aside for testing where it has no test part: stratified, the same whatever the seed",
        ),
    ] = 0.2
    fold: Annotated[str, Setting('"2/5": the second of five folds is the validation set; "" = data.validation decides')] = ""
    train_split: Annotated[
        str,
        Setting(
            'tfds, huggingface: what to train on, in their syntax, "train[:90%]"; folder: the folder that holds the training '
            'set\'s class folders, "." for data.root itself, "*/train" for a folder in each class; "" = by name',
            _SPLITS,
        ),
    ] = ""
    validation_split: Annotated[
        str,
        Setting(
            'the validation set, likewise; "" = by name (tfds, huggingface: if there is a test set too); folder: "off" = none',
            _SPLITS,
        ),
    ] = ""
    test_split: Annotated[
        str,
        Setting(
            'the test set, likewise; "" = by name (tfds, huggingface: or else validation); folder: "off" = none',
            _SPLITS,
        ),
    ] = ""
    features: Annotated[
        tuple[str, ...],
        Setting(
            "tfds, huggingface: the image and the label to use, image,label; () = found",
            _DESCRIBED,
        ),
    ] = ()
    group: Annotated[
        str,
        Setting(
            "what no split tears apart: a regular expression over paths (folder), a column (csv)",
            when("data.name", "folder", "csv"),
        ),
    ] = ""
    channels: Annotated[
        Whole,
        Setting(
            "3: RGB, grey repeated; 1: grey, luma of RGB; 0: as stored, pictures 3 if any is RGB",
        ),
    ] = 0
    fit: Annotated[Literal["crop", "pad", "stretch"], Setting("pictures: center cut out, padded, or stretched", _PICTURES)] = (
        "crop"
    )
    crop_ratio: Annotated[
        float,
        Meta(ge=0.1, le=1),
        Setting(
            "pictures: share of the shorter side that the center shows",
            _PICTURES,
            when("data.fit", "crop", "stretch"),
            (when("data.fit", "crop"), unless("data.interpolation", "area")),
        ),
    ] = 0.875
    interpolation: Annotated[
        Literal["area", "bilinear", "bicubic", "lanczos"],
        Setting(
            "pictures: how the center is resized: area (by OpenCV, fast), or as Pillow does, to the pixels of torchvision's "
            "and timm's transforms",
            _PICTURES,
        ),
    ] = "area"
    window: Annotated[
        tuple[float, float] | tuple[()],
        Meta(description="(low, high), the samples that become 0 and 255, such as (-160, 240)"),
        Setting(
            "pictures of more than 8 bits: (low, high), the samples that become 0 and 255, (-160, 240) for Hounsfield units; "
            "linear between, cut off beyond; () = the upper 8 bits, where that is possible",
            _PICTURES,
        ),
    ] = ()
    random_crop: Annotated[
        tuple[Any, ...],
        Setting(
            "pictures, in training: ranges of a random crop's share of the area and of width / height (over the input's own: 1 "
            "distorts nothing), ((0.08, 1.0), (0.75, 1.33)); () = the center",
            _PICTURES,
        ),
    ] = ()
    on_error: Annotated[
        Literal["stop", "skip"],
        Setting(
            "a picture that can't be read stops the run, or is skipped (training takes another one of its class), printed, and "
            "listed in summary.json",
            _PICTURES,
            changes_result=False,
        ),
    ] = "stop"
    repeats: Annotated[
        Count,
        Setting(
            "repeated augmentation (Hoffer et al. 2020): how many augmentations of each example a batch has; an epoch goes "
            "through as many times fewer examples",
            unless("data.balanced"),
        ),
    ] = 1
    cache: Annotated[
        Literal["off", "memory", "disk"],
        Setting(
            "pictures: kept, once decoded and resized, in memory or in a file (by a map of it); evaluation sees the same "
            "pixels, random crops are cut from a picture of data.cache_side",
            _PICTURES,
        ),
    ] = "off"
    cache_folder: Annotated[
        str,
        Setting(
            'where that file is; "" = .jaxcnn-cache beside the data',
            when("data.cache", "disk"),
            changes_result=False,
        ),
    ] = ""
    cache_side: Annotated[
        _KeptSize,
        Setting(
            "size that a picture is kept in for random crops, one side of a square or height,width; 0 = twice "
            "data.image_size, so that a quarter of it is not enlarged",
            when("data.cache"),
            when("data.random_crop"),
        ),
    ] = 0
    balanced: Annotated[
        bool,
        Setting(
            "training draws every class equally often, those with few examples more than once",
        ),
    ] = False
    workers: Annotated[
        Whole,
        Setting(
            "processes that read streamed examples; 0 = data.threads do",
            unless("data.resident", "on"),
            changes_result=False,
        ),
    ] = 0
    image_size: Annotated[
        _SizeOrZero,
        Setting(
            "pixels that images are brought to: 224, the side of a square, or 192,256, height and width; 0 = as they are "
            "stored, and for pictures a square, about the median of their shorter sides",
        ),
    ] = 0
    sizes: Annotated[
        tuple[_Size, ...],
        Setting(
            "sizes that training's images are brought to instead, one after the other (progressive resizing) or drawn every 10 "
            "steps: sides of squares, 128,160,192, or pairs, (96,128),(192,256)",
            when("data.resize", "bilinear"),
        ),
    ] = ()
    size_boundaries: Annotated[
        tuple[Duration, ...],
        Setting(
            'durations after which the next of data.sizes follows, ("30epochs", "34epochs"); () = drawn',
            when("data.sizes"),
        ),
    ] = ()
    resize: Annotated[
        Literal["bilinear", "pad"],
        Setting(
            "how arrays are brought to it: interpolated (antialiased), or zero-padded",
            when("data.image_size"),
            unless("data.name", "folder", "csv"),
        ),
    ] = "bilinear"
    augment: Annotated[
        tuple[Any, ...],
        Setting(
            'operations in order: "horizontal_flip" or ("random_crop", {"pad": 4}); see jaxcnn/data/augment',
        ),
    ] = ()

    def __post_init__(self) -> None:
        """Checks every value; a square given as (224, 224) becomes 224."""
        super().__post_init__()
        for name in ("image_size", "cache_side"):
            match getattr(self, name):
                case (height, width) if height == width:
                    object.__setattr__(self, name, height)
