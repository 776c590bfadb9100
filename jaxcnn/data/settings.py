"""The settings `data.*`."""

import dataclasses
from typing import Annotated, Any, Literal

from msgspec import Meta

from jaxcnn.durations import Duration
from jaxcnn.settings import Count, Positive, Section, Setting, Whole, unless, when

_ENCODED = when("data.name", "folder", "csv", "maps", "tfds:*", "huggingface:*")
_LIBRARIES = when("data.name", "tfds:*", "huggingface:*")
_WITHOUT_TEST_SET = unless("data.name", "digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
_NAMED_SPLITS = when("data.name", "folder", "tfds:*", "huggingface:*")

_SIZE = "such as 224, or (height, width) such as (192, 256)"
_Size = Annotated[Count | tuple[Count, Count], Meta(description=f"a size in pixels {_SIZE}")]
_SizeOrZero = Annotated[Whole | tuple[Count, Count], Meta(description=f"a size in pixels {_SIZE}, or 0")]
_CachedSide = Annotated[int, Meta(ge=1, le=10_000)]
_CachedSize = Annotated[
    Annotated[int, Meta(ge=0, le=10_000)] | tuple[_CachedSide, _CachedSide],
    Meta(description=f"a size of at most 10,000 pixels, {_SIZE}, or 0"),
]
_SplitShare = Annotated[float, Meta(ge=0, le=0.9)]


@dataclasses.dataclass(frozen=True)
class DataSettings(Section, section="data"):
    """The data set, its splits, and how its images are read, resized and augmented."""

    name: Annotated[
        str,
        Setting(
            "name of the data set, or the format of your own: folder, csv, maps, arrays, tfds:NAME, huggingface:OWNER/NAME"
        ),
    ] = "digits"
    root: Annotated[
        str,
        Setting(  # a run is resumed only with the same examples, see jaxcnn/train/fingerprint.py
            "folder or file of the data set (not used by digits)",
            unless("data.name", "digits"),
            changes_result=False,
        ),
    ] = ""
    validation: Annotated[
        _SplitShare,
        Setting(
            "share of the training set used for validation if the data set has no validation split; stratified by class, "
            "drawn from seed",
            unless("data.fold"),
        ),
    ] = 0.1
    resident: Annotated[
        Literal["auto", "on", "off"],
        Setting(
            "whether the data set is kept in device memory; auto = if it needs at most 2 GiB",
            changes_result=False,
        ),
    ] = "auto"
    threads: Annotated[
        Whole,
        Setting(
            "number of threads (per process of data.workers) that read a streamed data set, and of batches read ahead; 0 = one "
            "per core, or one per process",
            changes_result=False,
        ),
    ] = 0
    mean: Annotated[
        tuple[float, ...],
        Setting(
            "per-channel mean of pixels in 0…1; () = that of model.pretrained, or measured on the training set",
        ),
    ] = ()
    std: Annotated[tuple[Positive, ...], Setting("per-channel standard deviation of pixels in 0…1; () = as for data.mean")] = ()
    test: Annotated[
        _SplitShare,
        Setting(
            "share of the data used for testing if the data set has no test split; stratified by class, independent of seed",
            _WITHOUT_TEST_SET,
        ),
    ] = 0.2
    fold: Annotated[str, Setting('"2/5" = the second of five folds is the validation set; "" = data.validation decides')] = ""
    train_split: Annotated[
        str,
        Setting(
            'training split; tfds, huggingface: in the library\'s syntax, such as "train[:90%]"; folder: the folder with its '
            'class folders, "." = data.root itself, "*/train" = the folder train in each class folder; "" = found by name',
            _NAMED_SPLITS,
        ),
    ] = ""
    validation_split: Annotated[
        str,
        Setting(
            'validation split, in the form of data.train_split; folder: "off" = none; "" = found by name (tfds, huggingface: '
            "only if a test split exists too)",
            _NAMED_SPLITS,
        ),
    ] = ""
    test_split: Annotated[
        str,
        Setting(
            'test split, in the form of data.train_split; folder: "off" = none; "" = found by name (tfds, huggingface: or else '
            "the validation split)",
            _NAMED_SPLITS,
        ),
    ] = ""
    features: Annotated[
        tuple[str, ...],
        Setting(
            "tfds, huggingface: names of the image feature and of the label or map feature; () = found by type",
            _LIBRARIES,
        ),
    ] = ()
    classes: Annotated[
        str,
        Setting(
            "class maps: file with the classes, a .csv with the columns name, value and color, or a text file with one name "
            'per line; its path is relative to data.root; "" = classes.csv or classes.txt in data.root; "camvid" = of CamVid',
            when("data.name", "maps", "csv", "tfds:*", "huggingface:*"),
            changes_result=False,
        ),
    ] = ""
    group: Annotated[
        str,
        Setting(
            "groups of examples that stay in one split; folder, maps: regular expression over paths, whose match is the group; "
            "csv: name of a column; empty = no groups",
            when("data.name", "folder", "csv", "maps"),
        ),
    ] = ""
    channels: Annotated[
        Whole,
        Setting(
            "channels of the images; 3 = RGB (gray is repeated), 1 = gray (luma of RGB), 0 = as stored (encoded images: 3 if "
            "any of them has color)",
        ),
    ] = 0
    fit: Annotated[
        Literal["crop", "pad", "stretch"],
        Setting(
            "how encoded images are brought to data.image_size: crop = cut out the center, pad = fill with black, stretch = "
            "change the aspect ratio",
            _ENCODED,
        ),
    ] = "crop"
    crop_ratio: Annotated[
        float,
        Meta(ge=0.1, le=1),
        Setting(
            "encoded images: share of the shorter side that the center crop shows",
            _ENCODED,
            when("data.fit", "crop", "stretch"),
            (when("data.fit", "crop"), unless("data.interpolation", "area")),
        ),
    ] = 0.875
    interpolation: Annotated[
        Literal["area", "bilinear", "bicubic", "lanczos"],
        Setting(
            "how encoded images are resized, except random crops: area = by OpenCV, fast; bilinear, bicubic, lanczos = by "
            "Pillow, to the same pixels as torchvision's and timm's transforms",
            _ENCODED,
        ),
    ] = "area"
    window: Annotated[
        tuple[float, float] | tuple[()],
        Meta(description="(low, high), the samples that become 0 and 255, such as (-160, 240)"),
        Setting(
            "encoded images of more than 8 bits: (low, high), the sample values that become 0 and 255, such as (-160, 240) for "
            "Hounsfield units; linear between, clipped beyond; () = the upper 8 bits, if possible",
            _ENCODED,
        ),
    ] = ()
    random_crop: Annotated[
        tuple[Any, ...],
        Setting(
            "random crops of encoded images in training: ranges of the crop's share of the area and of its width / height "
            "relative to the input's, such as ((0.08, 1.0), (0.75, 1.33)); () = the center, as in evaluation",
            _ENCODED,
        ),
    ] = ()
    on_error: Annotated[
        Literal["stop", "skip"],
        Setting(
            "what happens if an image cannot be read: stop = the run ends; skip = it is printed and listed in summary.json, "
            "and training uses another image of its class",
            _ENCODED,
            changes_result=False,
        ),
    ] = "stop"
    repeats: Annotated[
        Count,
        Setting(
            "repeated augmentation (Hoffer et al. 2020): number of augmented copies of each example in a batch; an epoch then "
            "covers as many times fewer examples",
            unless("data.balanced"),
        ),
    ] = 1
    cache: Annotated[
        Literal["off", "memory", "disk"],
        Setting(
            "where encoded images are cached after decoding and resizing: in memory, or in a memory-mapped file; evaluation "
            "uses the same pixels as without a cache, random crops are cut from images of data.cache_side",
            _ENCODED,
        ),
    ] = "off"
    cache_folder: Annotated[
        str,
        Setting(
            'folder of the cache file; "" = .jaxcnn-cache next to the data',
            when("data.cache", "disk"),
            changes_result=False,
        ),
    ] = ""
    cache_side: Annotated[
        _CachedSize,
        Setting(
            "size of cached images for random crops in pixels: side of a square, or (height, width); 0 = twice "
            "data.image_size, so that crops of a quarter of the area are not enlarged",
            when("data.cache"),
            when("data.random_crop"),
        ),
    ] = 0
    balanced: Annotated[
        bool,
        Setting(
            "whether training draws every class equally often; examples of small classes are repeated",
        ),
    ] = False
    workers: Annotated[
        Whole,
        Setting(
            "number of processes that read a streamed data set; 0 = threads of the main process (data.threads)",
            unless("data.resident", "on"),
            changes_result=False,
        ),
    ] = 0
    image_size: Annotated[
        _SizeOrZero,
        Setting(
            "size of the network's input in pixels: 224 = side of a square, 192,256 = height and width; 0 = the size of stored "
            "arrays; for encoded images a square of about the median of their shorter sides; with class maps, about their size",
        ),
    ] = 0
    sizes: Annotated[
        tuple[_Size, ...],
        Setting(
            "input sizes in training, used one after the other (progressive resizing) or drawn every 10 steps: sides of "
            "squares, 128,160,192, or heights and widths, (96,128),(192,256); () = data.image_size",
            when("data.resize", "bilinear"),
        ),
    ] = ()
    size_boundaries: Annotated[
        tuple[Duration, ...],
        Setting(
            'times at which training changes to the next of data.sizes, such as ("30epochs", "34epochs"); () = sizes are drawn',
            when("data.sizes"),
        ),
    ] = ()
    resize: Annotated[
        Literal["bilinear", "pad"],
        Setting(
            "how arrays are brought to data.image_size: bilinear = antialiased interpolation, pad = zero padding",
            when("data.image_size"),
            unless("data.name", "folder", "csv", "maps"),
        ),
    ] = "bilinear"
    augment: Annotated[
        tuple[Any, ...],
        Setting(
            'augmentation operations in order, each a name or (name, arguments), such as "horizontal_flip" or ("random_crop", '
            '{"pad": 4}); see jaxcnn/data/augment',
        ),
    ] = ()

    def __post_init__(self) -> None:
        """Checks every value. A square size (224, 224) becomes 224."""
        super().__post_init__()
        for name in ("image_size", "cache_side"):
            match getattr(self, name):
                case (height, width) if height == width:
                    object.__setattr__(self, name, height)
