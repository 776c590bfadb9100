"""The option --out of predict.py: which files are written, and which are never replaced."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from common.child_processes import ROOT, experiment, finish
from common.small_runs import quiet, small_config
from common.toy_tasks import write_scenes
from PIL import Image

from jaxcnn import train
from jaxcnn.errors import UserError
from jaxcnn.report.overlays import class_colors, draw_map, draw_outlines

sys.path.insert(0, str(ROOT / "experiments"))
from predict import _drawings

SEGMENTATION = ("", "map", "outlines")


def drawings(names, kinds=SEGMENTATION):
    """The drawings of images that are called by their names below the folder "in", by image."""
    found = _drawings("out", {f"in/{name}": name for name in names}, kinds)
    return {image.removeprefix("in/"): [path.as_posix() for path in paths.values()] for image, paths in found.items()}


def test_drawings_are_named_after_their_image_and_kind():
    assert drawings(["a.jpg", "deep/b.c.png", "d"]) == {
        "a.jpg": ["out/a.png", "out/a_map.png", "out/a_outlines.png"],
        "deep/b.c.png": ["out/deep/b.c.png", "out/deep/b.c_map.png", "out/deep/b.c_outlines.png"],
        "d": ["out/d.png", "out/d_map.png", "out/d_outlines.png"],
    }
    assert drawings(["a.jpg"], [""]) == {"a.jpg": ["out/a.png"]}


@pytest.mark.parametrize("names", [["a.jpg", "a.png"], ["a.jpeg", "a.jpg", "a_map.jpg"], ["a.bmp", "a.bmp.jpg", "a.png"]])
def test_drawings_of_images_that_differ_in_their_suffix_do_not_replace_each_other(names):
    paths = [path for of_image in drawings(names).values() for path in of_image]
    assert len(set(paths)) == 3 * len(names)


@pytest.mark.parametrize(
    ("images", "kinds", "message"),
    [
        (
            {"a/b.png": "b.png", "c/b.png": "b.png"},
            [""],
            "^--out: out/b.png is already the drawing of another image; predict c/",
        ),
        ({"a.png": "a.png", "a_map.png": "a_map.png"}, SEGMENTATION, "^--out: out/a_map.png is already the drawing of another"),
        ({"out/a.png": "a.png"}, [""], "^--out: out/a.png is one of the images to predict; choose another folder$"),
        ({"out/a.jpg": "a.jpg", "out/a_map.png": "b.png"}, SEGMENTATION, "^--out: out/a_map.png is one of the images"),
        ({"a.png": "a.png"}, (), "^--out: predictions of this task cannot be drawn; use --json or --csv$"),
    ],
)
def test_drawings_that_would_replace_a_file_are_refused(images, kinds, message):
    with pytest.raises(UserError, match=message):
        _drawings("out", images, kinds)


@pytest.mark.slow
@pytest.mark.process
def test_segmentation_is_drawn_at_the_size_of_each_image(tmp_path):
    write_scenes(tmp_path / "scenes.npz", examples=20)
    settings = {
        "data.name": "arrays", "data.root": str(tmp_path / "scenes.npz"), "data.image_size": 0, "data.augment": (),
        "task.name": "segmentation", "model.name": "unet", "total": "40steps", "batch_size": 8,
        "model.arguments": {"width": 2, "depth": 1, "padding": "same"},
        "task.arguments": {"window": (8, 8), "class_weights": "median_frequency"},
    }  # fmt: skip
    train.run(small_config(**settings), tmp_path / "run", console=quiet()[0])
    sizes = {"wide.png": (30, 80), "tall.png": (64, 20), "same.png": (12, 16)}
    (tmp_path / "in").mkdir()
    for name, size in sizes.items():
        image = np.random.default_rng(0).integers(0, 90, (*size, 3), dtype=np.uint8)
        image[size[0] // 3 :, size[1] // 2 :] += 150  # a "thing", as in the training images
        cv2.imwrite(str(tmp_path / "in" / name), image[..., ::-1])
    code, _, err = finish(experiment("predict.py", f"--workdir={tmp_path}/run", f"--out={tmp_path}/out", tmp_path / "in"))
    assert code == 0, err
    trained = train.load_trained(tmp_path / "run")
    for prediction in train.predict_each(trained, [tmp_path / "in" / name for name in sizes]):
        photo, name = prediction.photo, Path(prediction.file).stem
        image, classes, colors = photo.original(), photo.map_to_photo(prediction.outputs), class_colors(2)
        assert {0, 1} <= set(classes.ravel())
        assert classes.shape == sizes[f"{name}.png"]
        assert (classes == 255).any() == (name != "same"), "only a part of images of another shape is predicted"
        for suffix, expected, mode in (
            ("", draw_map(image, classes, colors), "RGB"),
            ("_map", classes, "P"),
            ("_outlines", draw_outlines(image, classes, colors), "RGB"),
        ):
            with Image.open(tmp_path / "out" / f"{name}{suffix}.png") as written:
                assert written.mode == mode
                np.testing.assert_array_equal(written, expected)
    assert len(list((tmp_path / "out").iterdir())) == 9
