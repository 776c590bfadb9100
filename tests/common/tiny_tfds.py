"""A tiny TFDS data set in several configs. Its images are passed as file objects, so preparing it needs no TensorFlow."""

import io
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxcnn.data.tfds import prepared
from jaxcnn.errors import UserError

NAMES = ["cat", "dog", "eel"]
SIZES = {"train": 40, "test": 12, "validation": 9}
IMAGE, CLASSES = tfds.features.Image, tfds.features.ClassLabel
FEATURES = {
    "plain": lambda: {"image": IMAGE(shape=(8, 10, 3)), "label": CLASSES(names=NAMES), "id": tfds.features.Text()},
    "sizes": lambda: {"photo": IMAGE(), "kind": CLASSES(names=NAMES)},
    "several": lambda: {"image": IMAGE(shape=(8, 10, 1)), "labels": tfds.features.Sequence(CLASSES(names=NAMES))},
    "arrays": lambda: {"pixels": tfds.features.Tensor(shape=(8, 10), dtype=np.uint8), "label": CLASSES(num_classes=3)},
    "coarse": lambda: {"image": IMAGE(shape=(8, 10, 3)), "label": CLASSES(names=NAMES), "coarse": CLASSES(num_classes=2)},
    "unlabelled": lambda: {"image": IMAGE(shape=(8, 10, 3)), "label": CLASSES(names=NAMES)},
    "maps": lambda: {"image": IMAGE(shape=(8, 10, 3)), "mask": tfds.features.LabeledImage(labels=NAMES), "kind": IMAGE()},
    "text": lambda: {"id": tfds.features.Text(), "label": CLASSES(names=NAMES)},
}


def original(config, split, index):
    """Returns the (image, label) that is stored; the first two pixels of an image encode its index and split."""
    height, width = (20 + index, 33) if config == "sizes" else (8, 10)
    image = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    image[0, :2] = index, list(SIZES).index(split), 0
    image = image[..., 0] if config in ("several", "arrays") else image
    if config == "several":
        return image, [k for k in range(3) if index & 1 << k]
    return image, -1 if config == "unlabelled" and split == "test" else index % 3


def original_map(split, index):
    """Returns the map of classes that is stored."""
    return np.random.default_rng((index, list(SIZES).index(split))).choice([0, 1, 2, 255], (8, 10)).astype(np.uint8)


def png(image):
    """Returns a file object."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    file.seek(0)
    return file


class JaxcnnTiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in FEATURES]  # noqa: RUF012

    def _info(self):
        features = tfds.features.FeaturesDict(FEATURES[self.builder_config.name]())
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, _):
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
        config = self.builder_config.name
        for index in range(SIZES[split]):
            image, label = original(config, split, index)
            values = {"pixels": image, "labels": label, "label": label, "kind": label, "coarse": 1, "id": f"{split}{index}"}
            if config == "maps":
                values = {"mask": png(original_map(split, index)), "kind": png(image)}
            yield index, {key: values[key] if key in values else png(image) for key in self.info.features}


def prepare_all(root):
    """Prepares every config in the data_dir `root`."""
    tfds.disable_progress_bar()
    for name in FEATURES:
        JaxcnnTiny(config=name, data_dir=root, file_format="array_record").download_and_prepare()


def read(root, config, features=(), classes="", **splits):
    return prepared(f"jaxcnn_tiny/{config}", str(root), splits, features, classes)


def message(function, *arguments, **keywords):
    with pytest.raises(UserError) as caught:
        function(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def damaged(root, tmp_path, config="plain"):
    """Copies a config, to be damaged. Returns the copy's data_dir and its folder of files."""
    shutil.copytree(root / "jaxcnn_tiny" / config, tmp_path / "jaxcnn_tiny" / config)
    return tmp_path, tmp_path / "jaxcnn_tiny" / config / "1.0.0"
