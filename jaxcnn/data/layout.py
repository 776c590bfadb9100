"""How a folder of pictures is laid out: which of its folders are parts (train, test), and which are classes.

A folder is a part by its name (`train`, `test_set`, `seg_train` beside `seg_test`) and by holding class folders. What could be
meant in two ways is refused: data.train_split, validation_split and test_split then say which folders are the parts.
"""

import dataclasses
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxcnn.data.class_names import clean, in_order
from jaxcnn.data.picture_files import holds_pictures, loose_pictures, refuse_broken_links, visible_folders
from jaxcnn.data.sources import PARTS
from jaxcnn.errors import UserError, printable

_WORDS = PARTS | {
    "trainval": "train", "validate": "validation", "testval": "test", "tst": "test",
    "eval": "eval", "evaluation": "eval", "holdout": "eval", "heldout": "eval",
    **dict.fromkeys(("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "submission"), "unlabeled"),
}  # fmt: skip
"""Words in names of folders -> the part; "eval" is the test set, or the validation set where there is a test set too."""
_AFFIXES = "sets?|data|dataset|images?|imgs?|pictures?|pics?|photos?|samples?|splits?|folder|files"
_ROLES = ("train", "validation", "test", "eval")
_SETTINGS = {"train": "train_split", "validation": "validation_split", "test": "test_split"}


@dataclasses.dataclass
class Layout:
    """The class folders of each part: {"train": {class name: folder}, …}, the folder of each, and lines for the user."""

    classes: dict[str, dict[str, Path]]
    folders: dict[str, Path]
    notes: list[str]


def find_layout(root: Path, stated: Mapping[str, str] | None = None) -> Layout:
    """The layout of `root`. `stated` has for train, validation and test the folder below `root`; "" for the one found by name.

    "." as train is `root` itself, all of whose folders are classes; "*/train" are the folders `train` in each class folder;
    "off" as validation or test: there is none. Where train is stated, folders of unknown name are passed over.

    Raises:
      UserError: folders that could be parts or classes, several for one part, or none.
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
        notes.append(f"passed over, as the settings say: {quoted(dropped)}")
    entries = [entry for entry in folders_in_root if entry not in [*parts.values(), *dropped]]
    if stated.get("train") != "." and not stated.get("train", "").startswith("*"):
        parts |= _by_name(root, entries, stated, notes)
    parts = {part: _unwrapped(folder) for part, folder in parts.items()}
    parts.setdefault("train", root)
    if parts["train"] == root and "train" not in stated:
        _check_alike(root, entries)
    folders = {part: parts[part] for part in _SETTINGS if part in parts}
    if twice := [part for part in list(folders)[1:] if list(folders.values()).count(folders[part]) > 1]:
        raise UserError(f'data.{_SETTINGS[twice[0]]}: "{folders[twice[0]].name}" is the folder of another part')
    if inside := {value.split("/")[1] for value in stated.values() if value.startswith("*/")}:
        found = {folder.name for entry in entries for folder in visible_folders(entry)}
        notes += [f"passed over in class folders: {quoted(sorted(found - inside))}"] if found - inside else []
    return Layout({part: _classes(folders, part, dropped) for part in folders}, folders, notes)


def names_of_parts(names: Iterable[str]) -> dict[str, str]:
    """{name of a folder: part} of those that are called as parts; empty unless they are two parts or more."""
    words = {name: _word(name) for name in names}
    called = {name: "test" if part == "eval" else part for name, (part, rest) in words.items() if part in _ROLES and not rest}
    return called if len(set(called.values())) > 1 else {}


def part_of(name: str) -> str:
    """The part that a folder's name says: "train", "validation", "test", or "" where it says none."""
    part, _ = _word(name)
    return {"eval": "test", "unlabeled": ""}.get(part, part)


def remedy(root: Path) -> str:
    """The end of an error about a layout: how to state one."""
    return (
        f'; say which folder is which: --config.data.train_split=FOLDER ("." where all folders of "{root}" are classes), '
        'and validation_split and test_split likewise ("off" where there is none)'
    )


def _by_name(root: Path, entries: Sequence[Path], stated: Mapping[str, str], notes: list[str]) -> dict[str, Path]:
    """{part: folder} of the parts that are not stated, as their names say; none if the folders are classes."""
    called = _called([*entries, *(root / value for value in stated.values())])
    called = {entry: part for entry, part in called.items() if entry in entries}
    if not called and not stated:
        return {}
    unknown = [entry for entry in entries if entry not in called and holds_pictures(entry)]
    parts, passed_over = _one_each(root, called, stated)
    if "train" in stated:
        passed_over += unknown
    elif called:
        if _are_classes(parts, unknown):
            return {}
        _check_train(root, parts, called, unknown, entries)
        if unknown:
            raise UserError(
                f"{root}: {quoted(unknown)} beside {quoted(parts.values())}: parts of other names, or classes? "
                f"Found: {_listing(entries)}{remedy(root)}"
            )
    if passed_over:
        notes.append(f"passed over, beside the training set: {quoted(passed_over)}")
    if any(entry.name.lower() not in PARTS for entry in parts.values()):
        notes.append(
            "parts by their names: " + ", ".join(f'"{parts[part].name}" for {part}' for part in _SETTINGS if part in parts)
        )
    if unlabeled := [entry for entry, part in called.items() if part == "unlabeled"]:
        notes.append(
            f"passed over {quoted(unlabeled)}, whose name says no labels; experiments/predict.py classifies its pictures"
        )
    return parts


def _one_each(root: Path, called: Mapping[Path, str], stated: Mapping[str, str]) -> tuple[dict[str, Path], list[Path]]:
    """{part: folder}, and the folders of parts for which others are stated. Raises UserError for two folders of one part."""
    parts: dict[str, Path] = {}
    passed_over = []
    second = "test" in called.values() or stated.get("test", "off") != "off"
    for entry, part in called.items():
        if part == "eval":
            part = "validation" if second else "test"
        if part in stated and stated[part] != "off":
            passed_over.append(entry)
        if part in parts:
            raise UserError(f"{root}: {quoted((parts[part], entry), ' and ')} both are for {part}; one is meant{remedy(root)}")
        if part not in stated and part != "unlabeled":
            parts[part] = entry
    return parts, passed_over


def _are_classes(parts: Mapping[str, Path], unknown: Sequence[Path]) -> bool:
    """Whether a folder called `train` or `valid` is a class: it and its neighbors, of other names, hold pictures directly."""
    return (
        set(parts) in ({"train"}, {"validation"})
        and len(unknown) > 0
        and all(loose_pictures(entry) and not _class_folders(entry) for entry in [*parts.values(), *unknown])
    )


def _check_train(
    root: Path, parts: Mapping[str, Path], called: Iterable[Path], unknown: Sequence[Path], entries: Sequence[Path]
) -> None:
    """Raises UserError where no folder is for training, or one that holds no class folders."""
    if "train" not in parts:
        named = quoted(called, " and ")
        raise UserError(f"{root}: no training set beside {named}. Found: {_listing(entries)}{remedy(root)}")
    if not _class_folders(parts["train"]) and (loose_pictures(parts["train"]) or unknown):
        raise UserError(
            f'{root}: "{parts["train"].name}" is a training set by its name, but holds no class folders. '
            f"Found: {_listing(entries)}{remedy(root)}"
        )


def _check_alike(root: Path, entries: Sequence[Path]) -> None:
    """Raises UserError where all folders hold the same folders: are those the classes, or these?"""
    inner = [folder.name for folder in visible_folders(entries[0])] if len(entries) > 1 else []
    if (
        len(inner) > 1
        and not names_of_parts(inner)
        and all([folder.name for folder in visible_folders(entry)] == inner for entry in entries)
        and not any(map(loose_pictures, entries))
    ):
        raise UserError(
            f"{root}: are {quoted(entries)} classes, or parts that hold the classes {quoted(inner)}? Found: "
            f"{_listing(entries)}{remedy(root)}"
        )


def _called(entries: Iterable[Path]) -> dict[Path, str]:
    """{folder: part} by names: `train`; and those that share another word, `seg_train` and `seg_test`."""
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
    """The part that a folder's name says ("" if none or several), and the name's other words."""
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
    """The only folder in one of the same name, `seg_train/seg_train`, as some archives unpack."""
    if not folder.is_dir():
        return folder
    inner = visible_folders(folder)
    return inner[0] if len(inner) == 1 and inner[0].name == folder.name and not loose_pictures(folder) else folder


def _classes(folders: Mapping[str, Path], part: str, dropped: Sequence[Path]) -> dict[str, Path]:
    """{name: folder} of a part's classes, in order."""
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
            raise UserError(f'{above}: two folders are the class "{name}": {classes[name].name!a} and {entry.name!a}')
        classes[name] = folder
    return {name: classes[name] for name in in_order(classes)}


def _class_folders(folder: Path) -> list[Path]:
    return [inner for inner in visible_folders(folder) if holds_pictures(inner)]


def _check_stated(root: Path, part: str, folder: Path, value: str) -> None:
    setting = f"data.{_SETTINGS[part]}"
    if re.fullmatch(r"\*/.+", value) or (value == "." and part == "train"):
        return
    if value == ".":
        raise UserError(f'{setting}: "." is for data.train_split')
    if not folder.is_dir():
        there = quoted(visible_folders(root)) or "no folders"
        raise UserError(f'{setting}: no folder "{value}" in {root}; there are {there}')


def _listing(entries: Sequence[Path]) -> str:
    """What folders hold, for a message: "bus" (8 pictures), "train" (folders "diesel" and "steam")."""

    def content(entry: Path) -> str:
        inner = visible_folders(entry)
        loose = len(loose_pictures(entry))
        return " and ".join(
            ([counted(loose, "picture")] if loose or not inner else []) + ([f"folders {quoted(inner)}"] if inner else [])
        )

    shown = [f'"{entry.name}" ({content(entry)})' for entry in entries[:6]]
    return ", ".join(shown) + (f" and {len(entries) - 6} more" if len(entries) > 6 else "")


def quoted(paths: Iterable[Path | str], separator: str = ", ", most: int = 4) -> str:
    """The names of some files or folders, for a message."""
    listed = [f'"{path.name}"' if isinstance(path, Path) else f'"{path}"' for path in paths]
    return separator.join(listed[:most]) + (f" and {len(listed) - most:,} more" if len(listed) > most else "")


def counted(number: int, noun: str) -> str:
    """A number and its noun: 1 picture, 1,200 pictures."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
