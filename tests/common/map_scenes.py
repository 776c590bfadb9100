"""A small data set of images with class maps in folders, of different sizes."""

import cv2
import numpy as np

NAMES = ("sky", "road", "car")
CLASSES = "name,color\nsky,#0000ff\nroad,#808080\nvoid,#000000\ncar,#ff0000\n"
COUNTS = {"train": 12, "val": 4, "test": 5}
LAYOUTS = ("{split}/{name}|{split}_labels/{name}", "images/{split}/{name}|masks/{split}/{name}",
           "{split}/images/{name}|{split}/SegmentationClass/{name}", "{split}/{name}|{split}annot/{name}")  # fmt: skip


def example(split, index, size=None):
    """Returns an image and its map; the image's blue channel is 50 times the map's value, and its size depends on `index`."""
    generator = np.random.default_rng((list(COUNTS).index(split), index))
    height, width = size or (30 + index, 44 - index)
    values = np.repeat(np.repeat(generator.integers(0, 4, (-(-height // 5), -(-width // 5))), 5, 0), 5, 1)[:height, :width]
    image = generator.integers(0, 256, (height, width, 3), np.uint8)
    image[..., 2] = 50 * values
    return image, values.astype(np.uint8)


def write(root, layout=LAYOUTS[0], ending="", suffix=".png", size=None, counts=COUNTS):
    """Writes the data set; the values of its maps are the rows of the class file."""
    for split, count in counts.items():
        for index in range(count):
            image, values = example(split, index, size)
            paths = [root / path.format(split=split, name=f"sub/{index:02}") for path in layout.split("|")]
            for path, pixels, end in zip(paths, (image[..., ::-1], values), (suffix, f"{ending}.png"), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(f"{path}{end}", pixels)
    (root / "classes.csv").write_text(CLASSES)
    return root


def class_of(value):
    """Returns the class that a value denotes in the files written here."""
    return np.array([0, 1, 255, 2], np.uint8)[value]
