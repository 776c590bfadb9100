"""Image files with properties that Pillow and OpenCV cannot write, assembled from the specifications of the formats."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image, kind, **options):
    """Encodes a Pillow image in this format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_orientation(orientation):
    """Returns EXIF data with this orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def tiff(
    samples, sample_format=1, *, order="<", photometric=None, planar=False, orientation=1, extra=None, bits=None, data=None
):
    """Encodes samples (H, W[, C]) as an uncompressed TIFF 6.0 of one strip, or one per channel; header and tags come first.

    `data` are the packed bytes of samples with `bits` bits, if these are not whole bytes; `order` is NumPy's byte order.
    """
    height, width, channels = np.atleast_3d(samples).shape
    samples = samples.astype(samples.dtype.newbyteorder(order))
    data = data or (np.moveaxis(samples, 2, 0) if planar else samples).tobytes()
    strips = channels if planar else 1
    values = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [bits or 8 * samples.dtype.itemsize] * channels),
        259: ("H", [1]),
        262: ("H", [(2 if channels >= 3 else 1) if photometric is None else photometric]),
        273: ("I", [0] * strips),
        274: ("H", [orientation]),
        277: ("H", [channels]),
        278: ("H", [height]),
        279: ("I", [len(data) // strips] * strips),
        284: ("H", [2 if planar else 1]),
        339: ("H", [sample_format] * channels),
    } | ({} if extra is None else {338: ("H", [extra])})
    directory = 8 + 2 + 12 * len(values) + 4
    start = directory + sum(len(v) * struct.calcsize(kind) for kind, v in values.values() if len(v) * struct.calcsize(kind) > 4)
    values[273] = ("I", [start + strip * (len(data) // strips) for strip in range(strips)])
    entries, behind = b"", b""
    for tag, (kind, numbers) in sorted(values.items()):
        packed = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        if len(packed) > 4:
            packed, behind = struct.pack(f"{order}I", directory + len(behind)), behind + packed
        entries += struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(numbers)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(values))
    return head + entries + bytes(4) + behind + data


def png_chunk(kind, data):
    """Returns a PNG chunk, with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, color_type, rows, *chunks):
    """Encodes packed rows (bytes) as a PNG, with chunks (type, data) before them."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(png_chunk(*c) for c in chunks) + pixels + png_chunk(b"IEND", b"")
