"""Picture files that a .csv table lists, with their labels."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcnn.data.decode import read_bytes
from jaxcnn.data.files import existing
from jaxcnn.data.sources import PARTS, Dataset, FileSource
from jaxcnn.errors import UserError, did_you_mean


def table(path: Path, *, channels: int = 3, group: str = "") -> Dataset:
    """A .csv with a header: columns path, label, and perhaps split (train, val, test).

    Paths are relative to the table's folder. Several labels of one image stand in one field, separated by "|".
    `group` names the column that says what belongs together.
    """
    if existing(path).is_dir():
        raise UserError(f'data.root: "{path}" is a folder; the source "csv" takes the table itself')
    try:
        rows = list(csv.DictReader(read_bytes(path).decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a table in UTF-8 ({error})") from error
    columns = list(rows[0]) if rows else []
    for column in ("path", "label", *([group] if group else [])):
        if column not in columns:
            raise UserError(
                f"{path}: no column {column!r}{did_you_mean(column, columns)}; it has {', '.join(columns) or 'no row'}"
            )
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values() or not row["path"] or not row["label"]:
            raise UserError(f"{path}, line {number}: a path and a label are wanted, and as many fields as the header has")
        if (split := row.get("split", "train").lower()) not in PARTS:
            raise UserError(f"{path}, line {number}: no split {split!r}{did_you_mean(split, PARTS)}; train, val or test")
    several = any("|" in row["label"] for row in rows)
    chosen = {part: [r for r in rows if PARTS[r.get("split", "train").lower()] == part] for part in set(PARTS.values())}
    if not chosen["train"]:
        raise UserError(f"{path}: no row is for training")
    names = sorted({name for row in chosen["train"] for name in row["label"].split("|")})
    for number, row in enumerate(rows, start=2):
        if unknown := set(row["label"].split("|")) - set(names):
            label = min(unknown)
            raise UserError(f"{path}, line {number}: no training row has the label {label!r}{did_you_mean(label, names)}")

    def part(rows: Sequence[dict[str, str]]) -> FileSource | None:
        if not rows:
            return None
        paths = np.array([str(path.parent / row["path"]) for row in rows])
        if several:
            labels = np.array([[name in row["label"].split("|") for name in names] for row in rows], np.int32)
        else:
            labels = np.array([names.index(row["label"]) for row in rows], np.int32)
        return FileSource(paths, labels, channels=channels)

    train = part(chosen["train"])
    assert train is not None
    groups = np.array([row[group] for row in chosen["train"]]) if group else None
    return Dataset(train, part(chosen["validation"]), part(chosen["test"]), tuple(names), groups)
