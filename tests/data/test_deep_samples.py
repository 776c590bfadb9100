"""Images with more than 8 bits, signed or float samples are converted to 8 bits by a formula, or refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxcnn.config import changed, default_config
from jaxcnn.data import DataSettings, load, make_preprocessing
from jaxcnn.data.decode import decode, image_format
from jaxcnn.data.inspect import inspect
from jaxcnn.errors import UserError
from tests.common.image_files import encoded, png, tiff

RNG = np.random.default_rng(0)
KINDS = {"<i1": 2, "<i2": 2, "<i4": 2, "<i8": 2, "<u2": 1, "<u4": 1, "<u8": 1, "<f4": 3, "<f8": 3}
SIGNS = {"i": "signed", "u": "unsigned", "f": "float"}
HOUNSFIELD = np.array([[-1024, -1000, -161, -160, -159, 0], [40, 239, 240, 241, 3071, 32767]], np.int16)


def windowed(samples, low, high):
    """The window by its definition."""
    return np.rint(np.clip((samples.astype(float) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_intensity_window_scales_samples_of_every_format(kind, order):
    low, high = (20, 90) if "u" in kind else (-50, 90)
    samples = RNG.uniform(low - 30, high + 30, (7, 9)).astype(kind)
    data = tiff(samples, KINDS[kind], order=order)
    assert image_format(data, "") == (7, 9, True)
    np.testing.assert_array_equal(decode(data, "", 1, window=(low, high))[..., 0], windowed(samples, low, high))
    np.testing.assert_array_equal(decode(data, "", 3, window=(low, high))[..., 2], windowed(samples, low, high))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "<u2"])
def test_samples_without_a_faithful_8_bit_image_are_refused_with_the_remedy(kind):
    samples = RNG.uniform(0, 100, (7, 9)).astype(kind)
    what = f"{8 * samples.dtype.itemsize}-bit {SIGNS[kind[1]]}"
    with pytest.raises(
        UserError,
        match=rf"^scan\.tif: {what} samples cannot be converted to 8 bits without a range; set data\.window=\(low, high\)",
    ):
        decode(tiff(samples, KINDS[kind]), "scan.tif", 1)


def test_window_shows_nan_as_its_low_end_and_applies_to_each_channel():
    image = decode(tiff(np.array([[np.nan, 0.5, np.inf, -np.inf]], np.float32), 3), "", 1, window=(0.0, 1.0))
    assert image.ravel().tolist() == [0, 128, 255, 0]
    color = RNG.integers(0, 4096, (5, 6, 3)).astype(np.uint16)
    for data in (tiff(color), cv2.imencode(".png", color[..., ::-1])[1].tobytes()):
        np.testing.assert_array_equal(decode(data, "", 3, window=(100, 4095)), windowed(color, 100, 4095))
        np.testing.assert_array_equal(
            decode(data, "", 1, window=(100, 4095))[..., 0],
            cv2.cvtColor(windowed(color, 100, 4095), cv2.COLOR_RGB2GRAY),
        )


def test_window_is_not_for_8_bit_images():
    image = Image.fromarray(RNG.integers(0, 256, (5, 6), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "TIFF", "PPM"):
        with pytest.raises(
            UserError, match=r"^a: data\.window=\(0, 200\) needs more than 8 bits per sample, but this image has 8"
        ):
            decode(encoded(image, kind), "a", 1, window=(0, 200))


@pytest.mark.parametrize(
    "make", [tiff, lambda a: cv2.imencode(".png", a)[1].tobytes(), lambda a: encoded(Image.fromarray(a), "JPEG2000")]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_become_their_upper_8_unless_they_reach_only_a_small_part(make, channels):
    shape = (6, 7) if channels == 1 or make is not tiff else (6, 7, 3)
    samples = RNG.integers(0, 65536, shape).astype(np.uint16)
    found = decode(make(samples), "", channels)
    np.testing.assert_array_equal(found, np.broadcast_to(np.atleast_3d(samples >> 8), found.shape))
    for reach in (4095, 1000, 300):
        with pytest.raises(
            UserError, match=rf"^a: 16-bit samples up to only {reach:,} would keep .* \(0, {2 ** reach.bit_length() - 1}\)"
        ):
            decode(
                make(
                    np.maximum(
                        samples % reach,
                        np.full(shape, reach) * (np.arange(shape[1]) == 3).reshape(1, -1, *(1 for _ in shape[2:])),
                    ).astype(np.uint16)
                ),
                "a",
                channels,
            )
    assert not decode(make(samples * 0), "", channels).any(), "black is black"


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("photometric", [0, 1])
def test_packed_samples_are_scaled_to_8_bits(bits, photometric):
    values = np.array([[0, 1, 2**bits // 3, 2**bits - 1]])
    packed = int("".join(f"{v:0{bits}b}" for v in values[0]), 2).to_bytes(bits // 2, "big")
    data = tiff(values.astype(np.uint16), bits=bits, data=packed, photometric=photometric)
    upper, window = windowed(values, 0, 2**bits - 1), windowed(values, 0, 2 ** (bits - 1))
    np.testing.assert_array_equal(decode(data, "", 1)[..., 0], upper if photometric else 255 - upper)
    np.testing.assert_array_equal(
        decode(data, "", 1, window=(0, 2 ** (bits - 1)))[..., 0], window if photometric else 255 - window
    )


@pytest.mark.parametrize("orientation", range(10))
def test_deep_tiff_is_turned_upright(orientation):
    samples = RNG.integers(0, 65536, (5, 8)).astype(np.uint16)
    turn = {2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: np.transpose, 6: lambda a: np.rot90(a, -1)}
    turn |= {7: lambda a: a[::-1, ::-1].T, 8: np.rot90}
    upright = turn.get(orientation, np.asarray)(samples)
    data = tiff(samples, orientation=orientation)
    assert image_format(data, "") == (*upright.shape, True)
    np.testing.assert_array_equal(decode(data, "", 1)[..., 0], upright >> 8)


@pytest.mark.parametrize("maximum", [1, 31, 254, 255, 1023, 4095, 65534, 65535])
@pytest.mark.parametrize("kind", [b"P2", b"P3", b"P5", b"P6"])
def test_netpbm_is_scaled_by_its_maximum(kind, maximum):
    shape = (4, 5, 3) if kind in (b"P3", b"P6") else (4, 5)
    samples = RNG.integers(0, maximum + 1, shape)
    if kind in (b"P2", b"P3"):
        body = b"\n".join(b" ".join(b"%d" % value for value in row) + b" # row" for row in samples.reshape(4, -1))
    else:
        body = samples.astype(">u2" if maximum > 255 else "u1").tobytes()
    data = kind + b"\n# a comment\n5 4\n%d\n" % maximum + body
    assert image_format(data, "") == (4, 5, len(shape) == 2)
    found = decode(data, "", 3 if len(shape) == 3 else 1)
    expected = samples >> 8 if maximum == 65535 else np.rint(samples * 255 / maximum)
    np.testing.assert_array_equal(found.reshape(shape), expected)
    if maximum > 255:
        seen = decode(data, "", found.shape[2], window=(10, maximum / 2))
        np.testing.assert_array_equal(seen.reshape(shape), windowed(samples, 10, maximum / 2))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (tiff(RNG.integers(0, 9999, (4, 5, 3)).astype(np.uint16), planar=True), "16-bit unsigned samples, 3 per pixel"),
        (tiff(RNG.integers(0, 9999, (4, 5, 2)).astype(np.uint16), extra=2), "16-bit unsigned samples, 2 per pixel"),
        (tiff(RNG.integers(0, 9999, (4, 5, 4)).astype(np.uint16), photometric=5), "16-bit unsigned samples, 4 per pixel"),
        (tiff(np.zeros((4, 5), np.complex64), 6), "64-bit complex samples, 1 per pixel"),
        (tiff(np.zeros((4, 5), np.float16), 3), "16-bit float samples, 1 per pixel"),
    ],
)
def test_samples_that_no_decoder_reads_are_named_and_not_called_damaged(data, what):
    with pytest.raises(UserError, match=f"^a.tif: a TIFF with {what}, cannot be decoded; supported are gray and RGB"):
        decode(data, "a.tif", 3, window=(0, 1))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
@pytest.mark.parametrize(
    "data",
    [
        tiff(RNG.integers(1, 255, (40, 50, 3), dtype=np.uint8), planar=True),
        tiff(RNG.integers(1, 255, (40, 50, 3), dtype=np.uint8)),
        tiff(RNG.integers(0, 9999, (40, 50)).astype(np.int16), 2),
        tiff(RNG.integers(0, 9999, (40, 50)).astype(np.float32), 3),
        b"P5 40 50 4095 " + bytes(4000),
        b"P2 10 10 4095 " + b"1000 " * 100,
    ],
)
def test_truncated_deep_or_planar_image_is_refused(data, share):
    decode(data, "", 1, window=() if data[:2] == b"II" and b"\x08\0\x08\0\x08" in data else (0, 1))
    with pytest.raises(UserError, match=r"^a: (the image is damaged or truncated|not an image)"):
        decode(data[: int(share * len(data))], "a", 1, window=(0, 1))


def hounsfield_folder(root):
    for index in range(20):
        path = root / "ab"[index % 2] / f"{index}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tiff(RNG.permuted(HOUNSFIELD.ravel()).reshape(HOUNSFIELD.shape).repeat(16, 0).repeat(8, 1), 2))
    return root


@pytest.mark.parametrize("cache", ["off", "disk"])
def test_training_evaluation_cache_and_prediction_see_the_same_window(tmp_path, cache):
    settings = {"data.name": "folder", "data.root": str(hounsfield_folder(tmp_path)), "data.image_size": 32}
    settings |= {"data.cache": cache, "data.crop_ratio": 1.0, "data.fit": "stretch", "data.interpolation": "bilinear"}
    for window in ((-160, 240), (0, 1000)):
        config = changed(default_config(), settings | {"data.window": window}).data
        train = load(config, 0).train
        preprocessing = make_preprocessing(config, train)
        assert preprocessing.from_json(preprocessing.to_json()).window == window
        read = preprocessing.read(train.name(3))
        np.testing.assert_array_equal(read, train.read(3))
        np.testing.assert_array_equal(read, train.read(3))  # from the cache
        raw = np.frombuffer(Path(train.name(3)).read_bytes()[-2 * 32 * 48 :], "<i2").reshape(32, 48)
        stretched = Image.fromarray(windowed(raw, *window)).resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(read[..., 0], stretched)


def test_inspection_reads_what_opencv_alone_decodes(tmp_path):
    for index in range(12):
        path = tmp_path / "ab"[index % 2] / f"{index}.tif"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tiff(RNG.uniform(0, 1, (8, 8)), 3, order=">"))
    settings = {"data.name": "folder", "data.root": str(tmp_path), "data.window": (0, 1), "data.validation": 0.0}
    found = inspect(load(changed(default_config(), settings).data, 0))
    assert {(image.stored, image.shape) for image in found.readable} == {("TIFF", (8, 8, 1))}
    assert len(found.readable) == 12


@pytest.mark.parametrize("window", [(1.0,), (1.0, 1.0), (240.0, -160.0), (0.0, 1.0, 2.0)])
def test_window_that_is_not_a_range_is_refused(tmp_path, window):
    with pytest.raises(UserError, match=r"data\.window: expected .*\(low, high\)"):
        load(DataSettings("folder", str(hounsfield_folder(tmp_path)), window=window), 0)


def test_window_of_arrays_is_refused():
    with pytest.raises(UserError, match=r"data\.window: \(0.0, 10.0\) has no effect with data.name=digits"):
        load(DataSettings(window=(0, 10)), 0)


def test_16_bit_png_of_one_transparent_gray_value_lies_on_white():
    samples = RNG.integers(0, 65536, (4, 5)).astype(np.uint16)
    data = png(5, 4, 16, 0, [row.astype(">u2").tobytes() for row in samples], (b"tRNS", int(samples[1, 2]).to_bytes(2, "big")))
    expected = np.where(samples == samples[1, 2], 255, samples >> 8)
    np.testing.assert_array_equal(decode(data, "", 1)[..., 0], expected)
