"""Numbers of channels: gray as RGB, RGB as gray, and more than three."""

import dataclasses
import io

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcnn.data import DataSettings, Once, Reading, load, make_augmentation, make_preprocessing, make_reader
from jaxcnn.data import channels as channels_module
from jaxcnn.data.augment.policy import OPERATIONS
from jaxcnn.data.decode import decode
from jaxcnn.data.sources import FileSource
from jaxcnn.errors import UserError
from jaxcnn.train.devices import make_mesh

RNG = np.random.default_rng(0)
COLORED = {"saturation", "hue", "grayscale", "color_jitter", "auto_augment", "rand_augment", "trivial_augment", "three_augment"}


def settings(name, root="", channels=0, **changes):
    return DataSettings(name, str(root), channels=channels, **changes)


def arrays(path, channels):
    """Writes an .npz of 20 training and 10 test images with so many channels. Returns the training images."""
    train, test = (RNG.integers(0, 256, (n, 6, 7, channels), np.uint8) for n in (20, 10))
    labels = {"train_labels": np.arange(20) % 2, "test_labels": np.arange(10) % 2}
    np.savez(path, train_images=train, test_images=test, **labels)
    return train


def read(source, resident):
    reader = make_reader(source, make_mesh(1), Reading(resident))
    batches = [np.asarray(batch["image"])[0] for batch in reader(Once(len(source)), 0, 10, [1] * (len(source) // 10))]
    return np.concatenate(batches)


@pytest.mark.parametrize("resident", ["on", "off"])
def test_gray_arrays_are_repeated_and_color_arrays_become_their_luma(tmp_path, resident):
    gray = arrays(tmp_path / "gray.npz", 1)
    as_rgb = load(settings("arrays", tmp_path / "gray.npz", 3, validation=0.0), seed=0)
    np.testing.assert_array_equal(read(as_rgb.train, resident), np.repeat(gray, 3, axis=3))
    assert {source.image_shape for source in as_rgb.parts().values()} == {(6, 7, 3)}
    assert as_rgb.train.read(0).strides[2] == 0, "repeated without memory"

    rgb = arrays(tmp_path / "rgb.npz", 3)
    as_gray = load(settings("arrays", tmp_path / "rgb.npz", 1, validation=0.0), seed=0)
    found = read(as_gray.train, resident)
    assert found.shape == (20, 6, 7, 1)
    assert np.abs(found[..., 0] - rgb @ np.array([0.299, 0.587, 0.114])).max() <= 0.51  # ITU-R 601, rounded
    png = cv2.imencode(".png", rgb[3][..., ::-1])[1].tobytes()
    decoded = decode(png, "", 1)  # an image file with the same pixels, whose decoder truncates
    assert np.abs(found[3].astype(int) - decoded).max() <= 1


def test_parts_that_are_cut_off_and_the_input_have_the_channels_too():
    config = settings("digits", channels=3, image_size=32)
    dataset = load(config, seed=0)
    stored = load(settings("digits"), seed=0)
    for part, source in dataset.parts().items():
        np.testing.assert_array_equal(source.read(5), np.repeat(getattr(stored, part).read(5), 3, axis=2))
    preprocessing = make_preprocessing(config, dataset.train)
    assert preprocessing.input_shape == (32, 32, 3)
    assert len(set(preprocessing.mean)) == len(set(preprocessing.std)) == 1


@pytest.mark.parametrize(("stored", "wanted"), [(5, 3), (5, 1), (1, 2), (3, 5)])
def test_other_changes_of_channels_are_refused(tmp_path, stored, wanted):
    arrays(tmp_path / "a.npz", stored)
    with pytest.raises(
        UserError, match=f"data.channels: cannot convert {stored}-channel images of arrays to {wanted} channels"
    ):
        load(settings("arrays", tmp_path / "a.npz", wanted), seed=0)
    assert load(settings("arrays", tmp_path / "a.npz", stored), seed=0).train.image_shape == (6, 7, stored)


@pytest.mark.parametrize("entry", [*sorted(COLORED), ("aug_mix", {"all_operations": True}), ("color_jitter", {"hue": 0.1})])
def test_what_changes_colors_refuses_images_that_have_none_to_change(entry):
    with pytest.raises(UserError, match=r"data.augment: operations that change colors .* 1 or 3 channels, but these have 5"):
        make_augmentation([entry]).check((8, 8, 5))
    for channels in (1, 3):
        make_augmentation([entry]).check((8, 12, channels))


@pytest.mark.parametrize("entry", [*sorted(OPERATIONS.keys() - COLORED), ("color_jitter", {"saturation": 0})])
def test_other_operations_take_any_number_of_channels(entry):
    images = jax.ShapeDtypeStruct((2, 9, 15, 5), jnp.uint8)
    found = jax.eval_shape(make_augmentation([entry]), images, jax.random.key(0))
    assert (found.shape, found.dtype) == (images.shape, images.dtype)


def encoded(mode, kind, **options):
    """Returns an encoded image of 8×8 random pixels, written by Pillow."""
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).convert(mode).save(file, kind, **options)
    return file.getvalue()


def folder(path, files):
    """Writes the files {"class/name": content}. Returns the settings that read them."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return settings("folder", path)


def gray_images(many):
    return {f"{name}/{index:04d}.png": encoded("L", "PNG") for name in "ab" for index in range(many)}


@pytest.mark.parametrize("colored", ["a/0333.png", "b/0001.png", "a/9999.png"])
def test_one_image_in_color_among_many_gray_ones_makes_a_set_colored(tmp_path, colored):
    files = gray_images(350)
    assert load(folder(tmp_path, files), seed=0).train.image_shape[2] == 1
    for seed in (0, 1):  # whichever split the image is in
        config = folder(tmp_path, {colored: encoded("RGB", "PNG")})
        assert {source.image_shape[2] for source in load(config, seed=seed).parts().values()} == {3}
    assert load(dataclasses.replace(config, channels=1), seed=0).train.image_shape[2] == 1


def test_what_cannot_be_read_says_nothing_about_color(tmp_path):
    files = gray_images(20) | {"a/broken.png": b"no image", "a/empty.png": b"", "b/cut.png": encoded("RGB", "PNG")[:20]}
    config = folder(tmp_path, files)
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "nowhere.png")
    assert load(config, seed=0).train.image_shape[2] == 1


def with_long_header(jpeg):
    """Adds two comments (ITU T.81, B.2.4.5), so that the frame header is behind the part that is read first."""
    comment = b"\xff\xfe" + (60_002).to_bytes(2, "big") + bytes(60_000)
    return jpeg[:2] + 2 * comment + jpeg[2:]


@pytest.mark.parametrize(
    ("content", "colored"),
    [
        *((encoded(mode, "PNG"), mode in ("RGB", "RGBA", "P")) for mode in ("1", "L", "LA", "I;16", "RGB", "RGBA", "P")),
        *((encoded(mode, "JPEG"), mode != "L") for mode in ("L", "RGB", "CMYK")),
        *((encoded(mode, "JPEG", exif=b"Exif\0\0" + bytes(60_000)), mode != "L") for mode in ("L", "RGB")),
        *((with_long_header(encoded(mode, "JPEG")), mode != "L") for mode in ("L", "RGB")),
        *((encoded(mode, kind), mode != "L") for kind in ("TIFF", "BMP") for mode in ("L", "RGB")),
        (encoded("RGB", "WEBP"), True),
    ],
)
def test_color_is_seen_in_the_header_of_each_format(tmp_path, content, colored):
    (tmp_path / "image").write_bytes(content)
    source = FileSource(np.array([str(tmp_path / "image")]), np.zeros(1, np.int32))
    assert channels_module.has_color([source]) == colored


def test_of_a_very_large_set_images_spread_evenly_are_looked_at(tmp_path, monkeypatch):
    gray, color = tmp_path / "gray.png", tmp_path / "color.png"
    gray.write_bytes(encoded("L", "PNG"))
    color.write_bytes(encoded("RGB", "PNG"))
    monkeypatch.setattr(channels_module, "MOST", 50)
    headers_read = []
    monkeypatch.setattr(FileSource, "beginning", lambda self, index: headers_read.append(index) or gray.read_bytes())

    def sources(paths):
        return [FileSource(np.array(paths[start : start + 500]), np.zeros(500, np.int32)) for start in (0, 500)]

    paths = [str(gray)] * 1000
    assert not channels_module.has_color(sources(paths))
    assert len(headers_read) == 50
    assert np.diff(np.sort(headers_read).reshape(25, 2)[:, 0]).max() <= 21
    monkeypatch.undo()
    assert channels_module.has_color(sources([*paths[:700], *[str(color)] * 30, *paths[730:]]))
