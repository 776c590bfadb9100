"""Data sets of image files that a .csv table lists, with their labels or class maps."""

import csv
import dataclasses
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcnn.data.class_maps import MapClasses, class_file_of
from jaxcnn.data.class_names import clean, in_order
from jaxcnn.data.decode import read_bytes
from jaxcnn.data.files import existing
from jaxcnn.data.sources import PARTS, Dataset, FileSource
from jaxcnn.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Row:
    """An image of the table; `line` is the line on which its row starts, from 1."""

    line: int
    path: str
    label: str
    names: frozenset[str]
    part: str
    group: str
    map: str = ""
    """path of the class map; "" if the table has labels"""


def table(path: Path, *, channels: int = 3, group: str = "", classes: str = "") -> Dataset:
    """Reads a .csv table with a header and the columns path, label or map, and optionally split (train, val, test).

    Paths are relative to the table's folder. Several labels of one image are in one field, separated by "|"; if any label
    contains "|", an empty field means no labels. `group` is the column with each example's group. Spaces around fields and
    labels are removed. Without the column label, the column map has the paths of class maps, and `classes` is the class file,
    see `class_file_of`.

    Raises:
      UserError: a line is invalid or contradicts another one; the message names it.
    """
    rows = read_rows(path, group)
    several = any("|" in row.label for row in rows)
    parts = {part: [row for row in rows if row.part == part] for part in ("train", "validation", "test")}
    if not parts["train"]:
        raise UserError(f"{path}: no row has the split train")
    check_repeats(path, rows)
    _check_groups(path, rows, group)
    groups = np.array([row.group for row in parts["train"]]) if group else None
    if rows[0].map:
        map_classes = class_file_of(classes, f"the column map of {path}", path.parent)
        maps = {part: map_source(path, chosen, map_classes) for part, chosen in parts.items() if chosen}
        names, colors = map_classes.names, map_classes.class_colors
        return Dataset(maps["train"], maps.get("validation"), maps.get("test"), names, groups, class_colors=colors)
    if classes:
        raise UserError(f"data.classes: {path} has labels, whose values are the classes; leave it empty")
    class_names = in_order(name for row in parts["train"] for name in row.names)
    _check_labels(path, rows, class_names, several)

    def source(part: str) -> FileSource | None:
        return file_source(path, parts[part], class_names, several, channels) if parts[part] else None

    train = source("train")
    assert train is not None
    return Dataset(train, source("validation"), source("test"), class_names, groups)


def file_source(path: Path, rows: Sequence[Row], class_names: Sequence[str], several: bool, channels: int) -> FileSource:
    """Returns the images of some rows. Labels are class indices (N,) or, with `several`, zeros and ones (N, K), int32."""
    index = {name: i for i, name in enumerate(class_names)}
    labels = np.zeros((len(rows), len(class_names)) if several else len(rows), np.int32)
    for i, row in enumerate(rows):
        for name in row.names:
            labels[(i, index[name]) if several else i] = 1 if several else index[name]
    return FileSource(np.array([str(path.parent / row.path) for row in rows]), labels, channels=channels)


def map_source(path: Path, rows: Sequence[Row], classes: MapClasses) -> FileSource:
    """Returns the images and class maps of some rows."""
    images, maps = (np.array([str(path.parent / getattr(row, name)) for row in rows]) for name in ("path", "map"))
    return FileSource(images, None, maps, map_classes=classes)


def read_rows(path: Path, group: str = "") -> list[Row]:
    """Returns the rows of a table. Raises UserError for a row with other fields than the header, or an invalid value."""
    if existing(path).is_dir():
        raise UserError(f'data.root: "{path}" is a folder; data.name=csv expects the path of the .csv file')
    (_, header), *lines = _lines(path) or [(1, [])]
    columns = _columns(path, header, group)
    if not lines:
        raise UserError(f"{path}: no rows below the header")
    if "split" not in columns:
        _check_no_other_split(path, header, [fields for _, fields in lines])
    rows = []
    for line, fields in lines:
        location = f"{path}, line {line}"
        if len(fields) != len(header):
            raise UserError(f"{location}: the row has {len(fields)} fields, but the header has {len(header)}")
        field = {name: fields[column] for name, column in columns.items()}
        for name, value in field.items():
            if not value and name != "label":
                raise UserError(f"{location}: the {name} is empty")
            if "\n" in value or "\r" in value:
                raise UserError(f"{location}: the {name} contains a line break; a closing quote may be missing")
        if (split := field.get("split", "train").lower()) not in PARTS:
            raise UserError(f"{location}: expected the split train, val or test, got {split!r}{did_you_mean(split, PARTS)}")
        label = field.get("label", "")
        names = frozenset(clean(name) for name in label.split("|")) - {""}
        row_group = clean(field.get(group, ""))
        rows.append(Row(line, field["path"], label, names, PARTS[split], row_group, field.get("map", "")))
    return rows


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Returns (first line, fields without surrounding spaces) of the header and of each row that is not blank."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the table is not encoded in UTF-8 ({error}); save it as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}, line {line}: a NUL byte; the table is damaged or not encoded in UTF-8")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    lines: list[tuple[int, list[str]]] = []
    while True:
        line = reader.line_num + 1
        try:
            fields = [field.strip() for field in next(reader)]
        except StopIteration:
            return lines
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: a quote is not closed at the end of its field ({error})") from error
        if _hold_rows(fields, len(lines[0][1]) if lines else 1):
            raise UserError(
                f"{path}, line {line}: a quoted field extends to line {reader.line_num}; a closing quote may be missing"
            )
        if any(fields):
            lines.append((line, fields))


def _hold_rows(fields: Sequence[str], columns: int) -> bool:
    """Returns whether a line within a field has as many commas as a row, so that a missing quote has swallowed rows."""
    return any(line.count(",") >= columns - 1 for field in fields for line in re.split("[\r\n]+", field)[1:])


def _columns(path: Path, header: Sequence[str], group: str) -> dict[str, int]:
    """Returns the indices of the columns path, label (or else map), split (optional) and `group`, regardless of case."""
    lower = [name.lower() for name in header]
    columns = {}
    target = "map" if "map" in lower and "label" not in lower else "label"
    for name in ("path", target, "split", *([group] if group else [])):
        places = [i for i, found in enumerate(lower) if found == name.lower()]
        if len(places) > 1:
            raise UserError(f"{path}: expected one column {name!r}, found {len(places)}")
        if places:
            columns[name] = places[0]
        elif name != "split":
            near, columns_text = did_you_mean(name, header), ", ".join(header)[:200] or "no header"
            separators = [mark for mark in (";", "\t", "|") if len(header) == 1 and mark in columns_text]
            fix = f"; the fields are separated by {separators[0]!r}, but commas are expected" if separators else ""
            raise UserError(f"{path}: no column {name!r}{near}; it has {columns_text}{fix}")
    return columns


def _check_no_other_split(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Raises UserError if a column with another name than "split" contains only names of splits."""
    for name, values in zip(header, zip(*rows, strict=False), strict=False):
        found = {value.lower() for value in values}
        if len(found) > 1 and found <= set(PARTS):
            raise UserError(
                f"{path}: the column {name!r} looks like the split column ({', '.join(sorted(found))}); "
                'rename it to "split", or remove it if it has another meaning'
            )


def _check_labels(path: Path, rows: Sequence[Row], class_names: Sequence[str], several: bool) -> None:
    for row in rows:
        if unknown := row.names - set(class_names):
            near = did_you_mean(min(unknown), class_names)
            raise UserError(f"{path}, line {row.line}: no training row has the label {min(unknown)!r}{near}")
        if not row.names and not several:
            raise UserError(
                f"{path}, line {row.line}: the label is empty; if images may have several labels or none, at least one "
                'label must contain "|", such as "cat|dog" or "cat|"'
            )
    if len(class_names) < (1 if several else 2):
        found = f"all training rows have the label {class_names[0]!r}" if class_names else "no training row has a label"
        raise UserError(f"{path}: {found}; at least two classes are needed")


def check_repeats(path: Path, rows: Sequence[Row]) -> None:
    """Raises UserError if two rows list the same file, which could be in two splits."""
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(os.path.abspath(path.parent / row.path), row)
        if other is not row:
            differs = f", in the {other.part} set and in the {row.part} set" if other.part != row.part else ""
            differs += f", with the labels {other.label!r} and {row.label!r}" if other.names != row.names else ""
            raise UserError(
                f"{path}, line {row.line}: {row.path!r} is listed on line {other.line} too{differs}; "
                'list each file once, with several labels as "cat|dog"'
            )


def _check_groups(path: Path, rows: Sequence[Row], group: str) -> None:
    """Raises UserError if the column split assigns a group to two splits."""
    first: dict[str, Row] = {}
    for row in rows if group else ():
        other = first.setdefault(row.group, row)
        if other.part != row.part:
            raise UserError(
                f"{path}, line {row.line}: {group} {row.group!r} is in the {row.part} set, but on line {other.line} in the "
                f"{other.part} set; with data.group a group must be in one split"
            )
