"""Reads image headers: the size of the upright image, its samples, and how it has to be decoded."""

import contextlib
import io
import itertools
import re
import warnings
from typing import Any, NamedTuple

from jaxcnn.errors import UserError

MOST_PIXELS = 178_956_970  # twice Pillow's MAX_IMAGE_PIXELS, above which it raises DecompressionBombError
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "SUN")
"""Formats that are decoded, by Pillow's names. Its other formats start programs (EPS) or cannot be read by OpenCV."""
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers SOF0 to SOF15
_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TEXT = (b"Raw profile type ", b"XML:com.adobe.xmp")  # keywords of PNG text chunks with EXIF and XMP
_OTHER_FORMATS = {b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF", b"jxl ": "JPEG XL"}
"""ISO media brands of formats that neither Pillow nor OpenCV reads."""
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _CHANNELS, _PLANES, _EXTRA, _FORMAT = (
    256, 257, 258, 262, 274, 277, 284, 338, 339
)  # fmt: skip
"""Tags of TIFF 6.0."""
_DEEP_SAMPLES = {*itertools.product((1, 2, 4), (8, 16, 32, 64)), (3, 32), (3, 64)}
"""SampleFormat and BitsPerSample that OpenCV reads: unsigned, signed, undefined; float."""


class Header(NamedTuple):
    """The header of an image. The defaults describe a JPEG, which OpenCV decodes directly to 8-bit gray or color."""

    height: int
    width: int
    gray: bool
    orientation: int = 1
    """EXIF orientation that has to be applied after decoding"""
    samples: str = ""
    """type of the samples, such as "16-bit unsigned"; "" for 8 bits, or if the decoder always returns 8 bits"""
    maximum: int = 255
    """sample value that becomes 255; 0 if the samples have no stated range, so that there is no faithful 8-bit image"""
    shift: int = 0
    """number of bits by which OpenCV shifts samples of 10, 12 and 14 bits to the left"""
    alpha: str = ""
    """"straight" or "premultiplied"; "unused" for a fourth channel without a meaning; "" if opaque"""
    transparent: int | None = None
    """the gray value that is transparent, if any"""
    inverted: bool = False
    """True if 0 is white"""
    by_pillow: bool = False
    """True if Pillow has to decode it, because OpenCV would decode it incorrectly"""

    @property
    def plain(self) -> bool:
        """True if OpenCV's 8-bit image, gray or color, is complete and correct."""
        return not (self.samples or self.alpha or self.by_pillow) and self.maximum == 255 and self.transparent is None


def read_header(encoded: bytes, name: str) -> Header:
    """Returns the header of an encoded image, from its first bytes alone if the format allows.

    Raises:
      UserError: the file is not an image that can be decoded, or it is too large.
    """
    if not encoded:
        raise UserError(f"{name}: the file is empty")
    try:
        header = _jpeg(encoded) or _png(encoded) or _netpbm(encoded) or _tiff(encoded, name) or _by_pillow(encoded)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow's parsers raised seven types on damaged files
        kind = _OTHER_FORMATS.get(encoded[8:12]) if encoded[4:8] == b"ftyp" else "DICOM" if encoded[128:132] == b"DICM" else ""
        raise UserError(
            f"{name}: not an image that can be decoded" + (f" ({kind}); save it as JPEG, PNG or TIFF" if kind else "")
        ) from error
    if header.width * header.height > MOST_PIXELS:
        raise UserError(f"{name}: the image has more than {MOST_PIXELS:,} pixels, which is too large to decode")
    if not header.width * header.height:
        raise UserError(f"{name}: not an image that can be decoded: it has no pixels")
    return header


def _jpeg(encoded: bytes) -> Header | None:
    """Reads the frame header of a JPEG (ITU T.81, B.2.2), many times as fast as Pillow. Returns None for other formats.

    It also returns None for a JPEG with an APP1 segment, which is left to Pillow, because EXIF may state an orientation
    there. That segment may follow the frame header, but not the start of scan.
    """
    header, position = None, 2 if encoded[:2] == b"\xff\xd8" else len(encoded)
    while position + 10 <= len(encoded) and encoded[position] == 0xFF and (marker := encoded[position + 1]) != 0xE1:
        if marker == 0xDA:
            return header
        if marker in _FRAME_HEADERS:
            if encoded[position + 4] != 8:
                raise ValueError("12 bits, which neither OpenCV nor Pillow decodes")
            height, width = (int.from_bytes(encoded[position + at : position + at + 2], "big") for at in (5, 7))
            header = Header(height, width, encoded[position + 9] == 1)
        position += (
            1 if marker == 0xFF else 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")
        )  # 0xFF is a fill byte
    return None


def _png_chunks(encoded: bytes) -> list[tuple[bytes, int, int]]:
    """Returns (type, start, end) of each chunk up to IEND."""
    chunks, position, kind = [], len(_PNG), b""
    while position + 8 <= len(encoded) and kind != b"IEND":
        kind, after = (
            encoded[position + 4 : position + 8],
            position + 12 + int.from_bytes(encoded[position : position + 4], "big"),
        )
        chunks.append((kind, position, after))
        position = after
    return chunks


def without_png_metadata(encoded: bytes) -> bytes:
    """Returns a PNG with only its critical chunks and transparency; other files unchanged.

    libpng prints warnings without a file name for damaged metadata. With sRGB or gAMA, it would compute luma differently
    than for all other formats. With acTL, OpenCV would decode the animation.
    """
    if not encoded.startswith(_PNG):
        return encoded
    chunks = _png_chunks(encoded)
    kept = [chunk for chunk in chunks if chunk[0] == b"tRNS" or chunk[0][:1].isupper()]
    return encoded if len(kept) == len(chunks) else _PNG + b"".join(encoded[start:stop] for _, start, stop in kept)


def _png(encoded: bytes) -> Header | None:
    """Reads the header of a PNG, and its orientation with Pillow if EXIF or XMP may state one. None for other formats."""
    if not encoded.startswith(_PNG) or encoded[12:16] != b"IHDR":
        return None
    chunks = _png_chunks(encoded)
    starts = {kind: start for kind, start, _ in chunks}
    header = _png_samples(encoded, starts.get(b"tRNS"))
    if b"eXIf" in starts or any(encoded.startswith(_ORIENTATION_TEXT, start + 8) for _, start, _ in chunks):
        with contextlib.suppress(Exception):  # the pixels may be intact even if the metadata is damaged
            return _by_pillow(encoded, header)
    return header


def _png_samples(encoded: bytes, transparency: int | None) -> Header:
    width, height = (int.from_bytes(encoded[position : position + 4], "big") for position in (16, 20))
    bits, kind = encoded[24], encoded[25]
    header = Header(height, width, kind in (0, 4))
    if bits == 16:
        header = header._replace(samples="16-bit unsigned", maximum=65535)
    if transparency is not None and kind == 0:
        value = int.from_bytes(encoded[transparency + 8 : transparency + 10], "big")
        return header._replace(transparent=value * header.maximum // (2**bits - 1))
    return header._replace(alpha="straight" if transparency is not None or kind in (4, 6) else "")


def _netpbm(encoded: bytes) -> Header | None:
    """Reads the header of a PGM or PPM, binary or plain, which states the maximum of the samples. None for other formats."""
    if not re.match(rb"P[2356]\s", encoded):
        return None
    kind, width, height, maximum = re.sub(rb"#[^\n\r]*", b" ", encoded[:4096]).split(None, 4)[:4]
    if not 0 < int(maximum) < 65536:
        raise ValueError("maxval")
    samples = f"{int(maximum).bit_length()}-bit unsigned" if int(maximum) > 255 else ""
    plain = kind in (b"P2", b"P3")
    return Header(int(height), int(width), kind in (b"P2", b"P5"), 1, samples, int(maximum), by_pillow=plain)


def _tiff(encoded: bytes, name: str) -> Header | None:
    """Reads the header of the first image of a TIFF. OpenCV and Pillow both decode it upright, OpenCV more types of samples."""
    from PIL import TiffImagePlugin

    if encoded[:4] not in TiffImagePlugin.PREFIXES:
        return None
    tags = TiffImagePlugin.ImageFileDirectory_v2(encoded[: 16 if 43 in encoded[2:4] else 8])
    file = io.BytesIO(encoded)
    file.seek(tags.next)
    with warnings.catch_warnings(action="ignore"):
        tags.load(file)

    def largest(tag: int, default: int) -> int:
        value = tags.get(tag, default)
        return max(value) if isinstance(value, tuple) else value

    bits, kind = largest(_BITS, 1), largest(_FORMAT, 1)
    channels, photometric = tags.get(_CHANNELS, 1), tags.get(_PHOTOMETRIC, 1)
    if bits <= 8 and kind in (1, 4):
        return _by_pillow(encoded)
    unsigned = kind in (1, 4)
    shift = 16 - bits if unsigned and bits in (10, 12, 14) and channels == 1 else 0
    gray, color = channels == 1 and photometric in (0, 1), channels in (3, 4) and photometric == 2 and tags.get(_PLANES) != 2
    samples = f"{bits}-bit {({2: 'signed', 3: 'float'}).get(kind, 'unsigned' if unsigned else 'complex')}"
    if not (gray or color) or not (shift or (kind, bits) in _DEEP_SAMPLES):
        raise UserError(
            f"{name}: a TIFF with {samples} samples, {channels} per pixel, cannot be decoded; "
            "supported are gray and RGB with 8, 16, 32 or 64 bits in one plane"
        )
    height, width = tags[_HEIGHT], tags[_WIDTH]
    if 5 <= tags.get(_ORIENTATION, 1) <= 8:
        height, width = width, height
    alpha = {1: "premultiplied", 2: "straight"}.get(largest(_EXTRA, 0), "unused") if channels == 4 else ""
    maximum = 2**bits - 1 if unsigned and bits <= 16 else 0
    return Header(height, width, channels == 1, 1, samples, maximum, shift, alpha, inverted=photometric == 0)


def _by_pillow(encoded: bytes, header: Header | None = None) -> Header:
    """Reads size and orientation with Pillow, and the rest too unless `header` is given."""
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            (width, height), mode, kind, transparent = image.size, image.mode, image.format, image.has_transparency_data
            orientation = 1 if kind == "TIFF" else _orientation(image)  # Pillow turns a TIFF itself
    except Image.DecompressionBombError:
        return Header(2, MOST_PIXELS, False)  # too large: the caller raises the error
    if header is None:
        gray = mode in ("1", "L", "LA", "F") or mode.startswith("I")
        by_pillow = kind == "TIFF" or (kind == "JPEG2000" and mode in ("LA", "CMYK"))
        header = Header(0, 0, gray, alpha="straight" if transparent else "", by_pillow=by_pillow)
        if mode == "F":  # PFM
            header = header._replace(samples="32-bit float", maximum=0)
        if kind == "JPEG2000" and mode == "I;16" and encoded[encoded.index(b"\xff\x4f\xff\x51") + 42] == 15:  # SIZ: bits - 1
            header = header._replace(samples="16-bit unsigned", maximum=65535)
    if orientation >= 5:
        height, width = width, height
    return header._replace(height=height, width=width, orientation=orientation)


def _orientation(image: Any) -> int:
    """Returns the EXIF orientation; 1 if there is none or it is invalid."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # the pixels may be intact even if EXIF is damaged
        return 1
    return orientation if orientation in range(1, 9) else 1
