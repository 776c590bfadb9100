"""Determines the layout of a folder of images: which of its folders are splits (train, test), and which are classes.

A folder is a split if its name says so (`train`, `test_set`, `seg_train` together with `seg_test`) and it contains class
folders. Ambiguous layouts are rejected: data.train_split, validation_split and test_split then state which folder is which.
"""

import dataclasses
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxcnn.data.class_names import clean, in_order
from jaxcnn.data.image_files import holds_images, loose_images, refuse_broken_links, visible_folders
from jaxcnn.data.sources import PARTS
from jaxcnn.errors import UserError, printable

_WORDS = PARTS | {
    "trainval": "train", "validate": "validation", "testval": "test", "tst": "test",
    "eval": "eval", "evaluation": "eval", "holdout": "eval", "heldout": "eval",
    **dict.fromkeys(("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "submission"), "unlabeled"),
}  # fmt: skip
"""Words in folder names -> the split; "eval" is the test set, or the validation set if a test set exists as well."""
_AFFIXES = "sets?|data|dataset|images?|imgs?|pictures?|pics?|photos?|samples?|splits?|folder|files"
_MAPS = re.compile(
    "(labels?|maps?|masks?|annot(ation)?s?|gt|ground|truth|groundtruth|seg|segmentations?|semantic|targets?)", re.IGNORECASE
)
"""Words in the names of folders and features that contain class maps."""
_ROLES = ("train", "validation", "test", "eval")
_SETTINGS = {"train": "train_split", "validation": "validation_split", "test": "test_split"}


@dataclasses.dataclass
class Layout:
    """The class folders of each split, {"train": {class name: folder}, …}, the folder of each split, and notes for the user."""

    classes: dict[str, dict[str, Path]]
    folders: dict[str, Path]
    notes: list[str]


def find_layout(root: Path, stated: Mapping[str, str] | None = None) -> Layout:
    """Returns the layout of `root`.

    `stated` maps train, validation and test to a folder relative to `root`, or to "" to find it by its name. "." for train
    is `root` itself, all of whose folders are classes. "*/train" is the folder `train` in each class folder. "off" for
    validation or test means that the split is not used. If train is stated, folders of unknown names are ignored.

    Raises:
      UserError: folders that could be splits or classes, several folders for one split, or no training split.
    """
    stated = {part: "." if root / value == root else value for part, value in (stated or {}).items() if value}
    off = {(part, ()) for part, value in stated.items() if value == "off" and part != "train"}
    parts = {part: root / value for part, value in stated.items() if (part, ()) not in off}
    for part, folder in parts.items():
        _check_stated(root, part, folder, stated[part])
    notes: list[str] = []
    folders_in_root = visible_folders(root)
    refuse_broken_links(root)
    dropped = [entry for entry in folders_in_root if _word(entry.name) in off and entry not in parts.values()]
    if dropped:
        notes.append(f"ignored because of a setting: {quoted(dropped)}")
    entries = [entry for entry in folders_in_root if entry not in [*parts.values(), *dropped]]
    if stated.get("train") != "." and not stated.get("train", "").startswith("*"):
        parts |= _by_name(root, entries, stated, notes)
    parts = {part: _unwrapped(folder) for part, folder in parts.items()}
    parts.setdefault("train", root)
    if parts["train"] == root and "train" not in stated:
        _check_alike(root, entries)
    folders = {part: parts[part] for part in _SETTINGS if part in parts}
    if twice := [part for part in list(folders)[1:] if list(folders.values()).count(folders[part]) > 1]:
        raise UserError(f'data.{_SETTINGS[twice[0]]}: "{folders[twice[0]].name}" is the folder of another split')
    if inside := {value.split("/")[1] for value in stated.values() if value.startswith("*/")}:
        found = {folder.name for entry in entries for folder in visible_folders(entry)}
        notes += [f"ignored in class folders: {quoted(sorted(found - inside))}"] if found - inside else []
    return Layout({part: _classes(folders, part, dropped) for part in folders}, folders, notes)


def names_of_parts(names: Iterable[str]) -> dict[str, str]:
    """Returns {folder name: split} for the names that denote splits; empty unless these are at least two different splits."""
    words = {name: _word(name) for name in names}
    called = {name: "test" if part == "eval" else part for name, (part, rest) in words.items() if part in _ROLES and not rest}
    return called if len(set(called.values())) > 1 else {}


def part_of(name: str) -> str:
    """Returns the split that a folder's name denotes, "train", "validation" or "test", or "" if it denotes none."""
    part, _ = _word(name)
    return {"eval": "test", "unlabeled": ""}.get(part, part)


def words_of(name: str) -> list[str]:
    """Returns the words of a name of a folder, such as ["Segmentation", "Class"]; trainannot is two words."""
    return re.findall("[A-Z]?[a-z]+|[A-Z]+", re.sub(r"(train|val|test)(annot|labels?|masks?)", r"\1 \2", name))


def denotes_maps(name: str) -> bool:
    """Returns whether a folder or feature contains class maps according to its name: masks, train_labels, SegmentationClass."""
    return any(map(_MAPS.fullmatch, words_of(name)))


def remedy(root: Path) -> str:
    """Returns the end of an error message about a layout: how to state the layout explicitly."""
    return (
        f'; state the folder of each split: --config.data.train_split=FOLDER ("." if all folders of "{root}" are classes), '
        'and likewise validation_split and test_split ("off" for none)'
    )


def _by_name(root: Path, entries: Sequence[Path], stated: Mapping[str, str], notes: list[str]) -> dict[str, Path]:
    """Returns {split: folder} for the splits that are not stated, by folder names; empty if the folders are classes."""
    called = _called([*entries, *(root / value for value in stated.values())])
    called = {entry: part for entry, part in called.items() if entry in entries}
    if not called and not stated:
        return {}
    unknown = [entry for entry in entries if entry not in called and holds_images(entry)]
    parts, ignored = _folder_per_split(root, called, stated)
    if "train" in stated:
        ignored += unknown
    elif called:
        if _are_classes(parts, unknown):
            return {}
        _check_train(root, parts, called, unknown, entries)
        if unknown:
            raise UserError(
                f"{root}: contains {quoted(unknown)} next to {quoted(parts.values())}, which could be splits or classes. "
                f"Found: {_listing(entries)}{remedy(root)}"
            )
    if ignored:
        notes.append(f"ignored next to the training set: {quoted(ignored)}")
    if any(entry.name.lower() not in PARTS for entry in parts.values()):
        notes.append(
            "splits by folder names: " + ", ".join(f'{part} = "{parts[part].name}"' for part in _SETTINGS if part in parts)
        )
    if unlabeled := [entry for entry, part in called.items() if part == "unlabeled"]:
        notes.append(f"ignored {quoted(unlabeled)}, unlabeled by its name; experiments/predict.py classifies its images")
    return parts


def _folder_per_split(root: Path, called: Mapping[Path, str], stated: Mapping[str, str]) -> tuple[dict[str, Path], list[Path]]:
    """Returns {split: folder}, and the folders of splits that are stated otherwise. Raises UserError for two of one split."""
    parts: dict[str, Path] = {}
    ignored = []
    has_test = "test" in called.values() or stated.get("test", "off") != "off"
    for entry, part in called.items():
        if part == "eval":
            part = "validation" if has_test else "test"
        if part in stated and stated[part] != "off":
            ignored.append(entry)
        if part in parts:
            both = quoted((parts[part], entry), " and ")
            raise UserError(f"{root}: by their names, {both} are both the {part} split; expected one folder{remedy(root)}")
        if part not in stated and part != "unlabeled":
            parts[part] = entry
    return parts, ignored


def _are_classes(parts: Mapping[str, Path], unknown: Sequence[Path]) -> bool:
    """Returns whether the folder `train` or `valid` is a class: it and its siblings of other names contain images directly."""
    return (
        set(parts) in ({"train"}, {"validation"})
        and len(unknown) > 0
        and all(loose_images(entry) and not _class_folders(entry) for entry in [*parts.values(), *unknown])
    )


def _check_train(
    root: Path, parts: Mapping[str, Path], called: Iterable[Path], unknown: Sequence[Path], entries: Sequence[Path]
) -> None:
    """Raises UserError if there is no training folder, or it contains no class folders."""
    if "train" not in parts:
        named = quoted(called, " and ")
        raise UserError(f"{root}: no training set next to {named}. Found: {_listing(entries)}{remedy(root)}")
    if not _class_folders(parts["train"]) and (loose_images(parts["train"]) or unknown):
        raise UserError(
            f'{root}: "{parts["train"].name}" is the training set by its name, but contains no class folders. '
            f"Found: {_listing(entries)}{remedy(root)}"
        )


def _check_alike(root: Path, entries: Sequence[Path]) -> None:
    """Raises UserError if all folders contain the same folders, so that either the outer or the inner ones may be classes."""
    inner = [folder.name for folder in visible_folders(entries[0])] if len(entries) > 1 else []
    if (
        len(inner) > 1
        and not names_of_parts(inner)
        and all([folder.name for folder in visible_folders(entry)] == inner for entry in entries)
        and not any(map(loose_images, entries))
    ):
        raise UserError(
            f"{root}: {quoted(entries)} could be classes, or splits that contain the classes {quoted(inner)}. Found: "
            f"{_listing(entries)}{remedy(root)}"
        )


def _called(entries: Iterable[Path]) -> dict[Path, str]:
    """Returns {folder: split} by names: `train`, and names that share their other words, `seg_train` and `seg_test`."""
    words = {entry: _word(entry.name) for entry in entries}
    named = {entry: word for entry, word in words.items() if word[0]}
    families: dict[tuple[str, ...], set[str]] = {}
    for part, rest in named.values():
        families.setdefault(rest, set()).add(part)
    trained = {rest for rest, parts in families.items() if "train" in parts}
    return {
        entry: part
        for entry, (part, rest) in named.items()
        if (not rest or len(families[rest]) > 1) and (part != "unlabeled" or rest in trained)
    }


def _word(name: str) -> tuple[str, tuple[str, ...]]:
    """Returns the split that a folder's name denotes ("" if none or several), and the other words of the name."""
    text = re.sub(
        r"(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])", " ", unicodedata.normalize("NFC", name)
    ).casefold()
    text = re.sub(r"\b(hold|held)[\W_]*out\b", "holdout", text.replace("_", " "))
    text = re.sub(r"\btrain[\W_]*(and )?val(id|idation)?\b", "trainval", text)
    words = [re.sub(rf"^({'|'.join(_WORDS)})({_AFFIXES})$", r"\1", word) for word in re.split(r"[\W_]+", text) if word]
    words = [word for word in words if not re.fullmatch(_AFFIXES, word)]
    found = [word for word in words if word in _WORDS]
    if len(found) != 1:
        return "", ()
    return _WORDS[found[0]], tuple(word for word in words if word != found[0])


def _unwrapped(folder: Path) -> Path:
    """Returns the inner folder if it is the only one and has the same name, `seg_train/seg_train`, as in some archives."""
    if not folder.is_dir():
        return folder
    inner = visible_folders(folder)
    return inner[0] if len(inner) == 1 and inner[0].name == folder.name and not loose_images(folder) else folder


def _classes(folders: Mapping[str, Path], part: str, dropped: Sequence[Path]) -> dict[str, Path]:
    """Returns {class name: folder} for a split, in the order of the classes."""
    above, star, below = str(folders[part]).partition(f"{os.sep}*{os.sep}")
    others = [*dropped, *(folder for other, folder in folders.items() if other != part)]
    classes: dict[str, Path] = {}
    entries = visible_folders(Path(above))
    refuse_broken_links(Path(above))
    for entry in entries:
        name = clean(printable(entry.name))
        folder = entry / below if star else entry
        if entry in others or not folder.is_dir():
            continue
        if name in classes:
            raise UserError(f'{above}: two folders have the class name "{name}": {classes[name].name!a} and {entry.name!a}')
        classes[name] = folder
    return {name: classes[name] for name in in_order(classes)}


def _class_folders(folder: Path) -> list[Path]:
    return [inner for inner in visible_folders(folder) if holds_images(inner)]


def _check_stated(root: Path, part: str, folder: Path, value: str) -> None:
    setting = f"data.{_SETTINGS[part]}"
    if re.fullmatch(r"\*/.+", value) or (value == "." and part == "train"):
        return
    if value == ".":
        raise UserError(f'{setting}: "." is valid only for data.train_split')
    if not folder.is_dir():
        raise UserError(
            f'{setting}: no folder "{value}" in {root}; it contains {quoted(visible_folders(root)) or "no folders"}'
        )


def _listing(entries: Sequence[Path]) -> str:
    """Returns the contents of folders for a message: "bus" (8 images), "train" (folders "diesel", "steam")."""

    def content(entry: Path) -> str:
        inner = visible_folders(entry)
        loose = len(loose_images(entry))
        return " and ".join(
            ([counted(loose, "image")] if loose or not inner else []) + ([f"folders {quoted(inner)}"] if inner else [])
        )

    shown = [f'"{entry.name}" ({content(entry)})' for entry in entries[:6]]
    return ", ".join(shown) + (f" and {len(entries) - 6} more" if len(entries) > 6 else "")


def quoted(paths: Iterable[Path | str], separator: str = ", ", most: int = 4) -> str:
    """Returns the quoted names of at most `most` files or folders, for a message."""
    listed = [f'"{path.name}"' if isinstance(path, Path) else f'"{path}"' for path in paths]
    return separator.join(listed[:most]) + (f" and {len(listed) - most:,} more" if len(listed) > most else "")


def counted(number: int, noun: str) -> str:
    """Returns a number and its noun: 1 image, 1,200 images."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
