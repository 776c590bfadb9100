"""Class maps in image files: the class file, which states names, values and colors, and the decoding of maps to classes."""

import csv
import dataclasses
import functools
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxcnn.data.class_names import clean
from jaxcnn.data.decode import View, read_bytes, rounded
from jaxcnn.data.fields import VOID
from jaxcnn.data.files import existing
from jaxcnn.data.image_header import read_header
from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.files import shipped

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""
CLASS_FILES = ("classes.csv", "classes.txt")
"""Names of class files that are found without a setting."""
SHIPPED = ("camvid",)
"""Data sets whose class files are in third_party/."""
_COLUMNS = ("name", "value", "color")
_LOSSLESS = ("PNG", "BMP", "TIFF", "PPM")
"""Formats of maps, by Pillow's names. GIF is not among them, as its writers change the palette."""


@dataclasses.dataclass(frozen=True)
class MapClasses:
    """The classes of a data set's maps, and the values and colors that denote them in files."""

    source: str
    """what states the classes, such as the path of the class file; for messages"""
    names: tuple[str, ...]
    values: Mapping[int, int]
    """value of a gray map or index of a palette -> class, an index into `names` or VOID"""
    colors: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """color 0xRRGGBB -> class, likewise; empty if the classes have no colors"""

    @property
    def class_colors(self) -> tuple[Color, ...]:
        """The color of each class, the first if it has several; () if the classes have no colors."""
        first = {index: code for code, index in reversed(list(self.colors.items()))}
        return tuple((first[k] >> 16, first[k] >> 8 & 255, first[k] & 255) for k in range(len(self.names)) if first)

    def renumbered(self, numbers: Sequence[int]) -> "MapClasses":
        """Returns the same values and colors with class i replaced by `numbers[i]`."""
        number = {**dict(enumerate(numbers)), VOID: VOID}
        values, colors = ({code: number[k] for code, k in codes.items()} for codes in (self.values, self.colors))
        return dataclasses.replace(self, values=values, colors=colors)

    def decode(self, encoded: bytes, name: str) -> np.ndarray:
        """Returns the classes of a map, (H, W) uint8, from the content of its file, which messages call `name`.

        Gray maps contain values. Palette maps contain values too, unless the classes have colors: then they are read by the
        colors of the palette, as image editors change its order. RGB maps contain colors, or values if the classes have no
        colors and the three channels are equal.

        Raises:
          UserError: the file is damaged or of a lossy format, or a pixel has an unknown value or color.
        """
        samples = _samples(encoded, name, by_color=bool(self.colors))
        if samples.ndim == 3 and not self.colors:
            if (samples != samples[..., :1]).any():
                raise UserError(f"{name}: the map has colors, but {self.source} has no column color")
            samples = samples[..., 0]
        has_colors = samples.ndim == 3
        if has_colors:
            samples = samples.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        codes, classes = self._tables[has_colors]
        places = np.minimum(np.searchsorted(codes, samples), len(codes) - 1)
        if (unknown := codes[places] != samples).any():
            row, column = np.argwhere(unknown)[0].tolist()
            code = samples[row, column]
            found = f"the color #{code:06x}" if has_colors else f"the value {code}"
            expected = "" if has_colors else f", which has {', '.join(map(str, codes[:12]))}" + ", …" * (len(codes) > 12)
            raise UserError(f"{name}: {found} in row {row}, column {column} (from 0) is not in {self.source}{expected}")
        return classes[places]

    @functools.cached_property
    def _tables(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """For values and for colors: the sorted codes (n,) int32 and the class of each, (n,) uint8."""
        return tuple(
            (np.array(sorted(codes), np.int32), np.array([codes[code] for code in sorted(codes)], np.uint8))
            for codes in (self.values, self.colors)
        )


def numbered_classes(source: str, names: Sequence[str]) -> MapClasses:
    """Returns classes whose values in maps are their indices into `names`; 255 is void."""
    return MapClasses(source, tuple(names), {**{k: k for k in range(len(names))}, VOID: VOID})


def read_class_file(path: Path) -> MapClasses:
    """Reads a class file: a .csv with the column name and optionally value and color, or a text file with one name per line.

    Without the column value, the values are 0, 1, … in the order of the rows. Colors are #804080 or "128 64 128". Rows with the
    same name are one class, and rows named void are void. The value 255 is void unless a row has it.

    Raises:
      UserError: a row is invalid, a value or color denotes two classes, or there are fewer than 2 or more than 255 classes.
    """
    values: dict[int, int] = {}
    colors: dict[int, int] = {}
    names: list[str] = []
    for row in _rows(path):
        if row.name.casefold() == "void":
            index = VOID
        else:
            names += [row.name] if row.name not in names else []
            index = names.index(row.name)
        for what, code, codes in (("value", row.value, values), ("color", row.color, colors)):
            if code is not None and codes.setdefault(code, index) != index:
                shown = f"#{code:06x}" if what == "color" else code
                raise UserError(f"{path}, line {row.line}: the {what} {shown} already denotes another class")
    if not 2 <= len(names) <= VOID:
        raise UserError(f"{path}: expected 2 to {VOID} classes, got {len(names)}")
    if without := [name for k, name in enumerate(names) if colors and k not in colors.values()]:
        raise UserError(f"{path}: the class {without[0]!r} has no color, but others have")
    return MapClasses(str(path), tuple(names), {VOID: VOID} | values, colors)


class _Row(NamedTuple):
    line: int
    name: str
    value: int | None
    color: int | None
    """0xRRGGBB; None without a color"""


def _rows(path: Path) -> Iterable[_Row]:
    """Yields the rows of a class file that are not blank."""
    try:
        text = read_bytes(existing(path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the class file is not encoded in UTF-8 ({error})") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if path.suffix.lower() != ".csv":
        for value, (number, line) in enumerate(lines):
            yield _Row(number, clean(line), value, None)
        return
    header, *rows = [(number, [cell.strip() for cell in next(csv.reader([line]))]) for number, line in lines] or [(1, [])]
    columns = {name.lower(): place for place, name in enumerate(header[1])}
    if "name" not in columns:
        raise UserError(f"{path}: expected a header with the column name, got {', '.join(header[1]) or 'nothing'}")
    for name in columns.keys() - set(_COLUMNS):
        if near := did_you_mean(name, _COLUMNS):
            raise UserError(f"{path}: unknown column {name!r}{near}")
    for order, (number, cells) in enumerate(rows):
        where = f"{path}, line {number}"
        if len(cells) != len(header[1]):
            raise UserError(f"{where}: the row has {len(cells)} fields, but the header has {len(header[1])}")
        cell = {name: cells[place] for name, place in columns.items()}
        if not (name := clean(cell["name"])):
            raise UserError(f"{where}: the name is empty")
        value = _number(where, cell["value"]) if "value" in cell else order
        yield _Row(number, name, value, _color(where, cell["color"]) if cell.get("color") else None)


def _number(where: str, text: str) -> int:
    if not (re.fullmatch(r"\d+", text) and int(text) < 2**16):
        raise UserError(f"{where}: expected a value from 0 to 65535, got {text!r}")
    return int(text)


def _color(where: str, text: str) -> int:
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return int(text[1:], 16)
    channels = [int(channel) for channel in re.split("[ ,;]+", text) if channel.isdecimal()]
    if len(channels) != 3 or max(channels) > 255 or not re.fullmatch(r"\d+[ ,;]+\d+[ ,;]+\d+", text):
        raise UserError(f'{where}: expected a color such as #804080 or "128 64 128", got {text!r}')
    return channels[0] << 16 | channels[1] << 8 | channels[2]


def look_at_map(classes: np.ndarray, view: View | None) -> np.ndarray:
    """Returns the view of a map (H, W) uint8 that `decode.look` shows of its image: nearest neighbor, VOID outside of it."""
    if view is None:
        return classes
    window = rounded(view(*classes.shape))

    def places(start: float, length: float, size: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the places in the view that are inside the image, and the index in the image of each."""
        indices = np.floor(start + (np.arange(size) + 0.5) * (length / size)).astype(int)
        inside = np.flatnonzero((indices >= 0) & (indices < limit))
        return inside, indices[inside]

    height, width = classes.shape
    rows_inside, rows = places(window.top, window.height, window.size[0], height)
    columns_inside, columns = places(window.left, window.width, window.size[1], width)
    seen = np.full(window.size, VOID, np.uint8)
    seen[np.ix_(rows_inside, columns_inside)] = classes[np.ix_(rows, columns)]
    return seen


def _samples(encoded: bytes, name: str, by_color: bool) -> np.ndarray:
    """Returns the values (H, W) of a gray map or of a palette map's indices, or the colors (H, W, 3) uint8."""
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded)) as file:
            kind = file.format
            image = file.convert("RGB") if file.mode == "P" and by_color else file
            mode, samples = image.mode, np.asarray(image)
    except Exception as error:  # the exceptions of Pillow's decoders have no common base class
        raise UserError(f"{name}: the map is damaged, or not an image that can be read") from error
    if kind not in _LOSSLESS:
        raise UserError(f"{name}: a map can't be read from the format {kind}, which may change values; save it as PNG")
    if mode in ("LA", "RGBA") and (samples[..., -1] == 255).all():
        mode, samples = mode[:-1], samples[..., :-1].squeeze()
    if mode not in ("1", "L", "P", "RGB", "I", "I;16", "I;16B"):
        raise UserError(f"{name}: expected a map with gray values, a palette, or opaque colors; its pixels are {mode}")
    if mode == "1":
        return samples.astype(np.uint8)
    return samples if mode == "P" else samples // _scale(encoded, name, kind)


def _scale(encoded: bytes, name: str, kind: str | None) -> int:
    """Returns the factor by which Pillow multiplied the samples of a map. Raises UserError if it changed them otherwise."""
    if kind == "PNG":
        bits, color_type = encoded[24], encoded[25]  # PNG, section 11.2.1
        return 255 // (2**bits - 1) if color_type == 0 and bits < 8 else 1
    header = read_header(encoded, name)
    if header.inverted or header.maximum not in (255, 65535):
        raise UserError(f"{name}: a map needs samples of 8 or 16 bits with 0 as black, unlike this {kind}; save it as PNG")
    return 1


def class_file_of(stated: str, needed_by: str, root: Path | None = None) -> MapClasses:
    """Reads the class file `stated`, relative to `root` or to the current folder, or else one of CLASS_FILES in `root`.

    SHIPPED are names of class files that this package includes.

    Raises:
      UserError: there is no class file, which `needed_by` needs, or it is wrong.
    """
    folders = [*([root] if root else []), *([Path()] if stated else [])]
    candidates = [folder / name for folder in folders for name in ([stated] if stated else CLASS_FILES)]
    if stated in SHIPPED:
        candidates.append(shipped("third_party") / stated / "classes.csv")
    for candidate in candidates:
        if candidate.is_file():
            return read_class_file(candidate)
    missing = f"no file {stated!r}" if stated else f"{root} has no {' or '.join(CLASS_FILES)}" if root else "it is not set"
    raise UserError(f"data.classes: {missing}; {needed_by} needs a class file, a table with the columns name, value and color")
