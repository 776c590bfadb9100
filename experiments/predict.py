"""Predicts what is on pictures: python experiments/predict.py --workdir=runs/digits PHOTO… or FOLDER…

or, by a network that others trained, --model=resnet50 --pretrained=FILE, or --pretrained=hf:timm/resnet50.tv_in1k.

Each picture gets the preprocessing that the network was trained with. Of a folder all pictures in it are taken, also in the
folders in it, in order of their names. A picture that can't be read is named on stderr, the others are predicted all the same,
and the exit code is 1.

--out=DIR writes each picture with the prediction drawn on it, at its own size, below DIR.
--csv=FILE writes a table with one row per picture. A classifier's has file, class, its probability, and one column with the
probability of each class; where an image may have several labels, class lists the labels above 50 %, separated by "|".
"""

import contextlib
import csv
import itertools
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from absl import flags

from jaxcnn import command
from jaxcnn.config import Config
from jaxcnn.errors import UserError

if TYPE_CHECKING:
    from jaxcnn.tasks.task import Task
    from jaxcnn.train.predictions import Prediction

_WORKDIR = flags.DEFINE_string("workdir", None, "the run whose network predicts")
_STEP = flags.DEFINE_integer("step", None, "the checkpoint of the run, if not the one that it selected")
_PRETRAINED = flags.DEFINE_string(
    "pretrained", None, "weights to predict with: a file, a run's folder, or hf:OWNER/NAME of the hub"
)
_MODEL = flags.DEFINE_string("model", None, "the model that they are of, where they do not say it")
_TOP = flags.DEFINE_integer("top", 5, "how many classes (boxes, …) to print per picture", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "print a JSON list; of a classifier [{file, classes: [{name, probability}]}]")
_OUT = flags.DEFINE_string("out", None, "folder for each picture with the prediction drawn on it, as PNG")
_CSV = flags.DEFINE_string("csv", None, "write a table to this file, - for stdout, instead of printing")


def main(arguments: Sequence[str], config: Config | None) -> int:
    """Prints what is predicted for each picture: for a classifier class names and probabilities, the most probable first."""
    if config is not None:
        raise UserError("--config: not taken here; the run in --workdir knows its own")
    if _MODEL.value and not _PRETRAINED.value:
        raise UserError("--model: goes with --pretrained=WEIGHTS")
    if _PRETRAINED.value and _WORKDIR.value:
        raise UserError("--pretrained: not together with --workdir")
    if _STEP.value is not None and not _WORKDIR.value:
        raise UserError("--step: goes with --workdir; weights in a file have no steps")
    if _CSV.value is not None and _JSON.value:
        raise UserError("--csv: not together with --json")
    if _OUT.value is not None and os.path.exists(_OUT.value) and not os.path.isdir(_OUT.value):
        raise UserError(f"--out: {_OUT.value} is a file; name a folder")
    source = _PRETRAINED.value or _WORKDIR.value
    if not source:
        raise UserError("--workdir: name the run whose network predicts, for example --workdir=runs/digits")
    if not arguments:
        raise UserError("name at least one picture or folder: predict.py --workdir=RUN PHOTO…")
    names = {file: name for argument in arguments for file, name in _pictures(argument)}
    drawings = {} if _OUT.value is None else _drawings(_OUT.value, names)

    from jaxcnn import train  # after the flags are known to be right: it takes seconds to import

    if _PRETRAINED.value:
        trained = train.from_pretrained(source, _MODEL.value)
    else:
        trained = train.load_trained(source, step=_STEP.value)
        print(f"{source}, step {trained.step}", file=sys.stderr)
    unreadable = 0

    def readable() -> Iterator["Prediction"]:
        nonlocal unreadable
        for prediction in train.predict_each(trained, names):
            if prediction.error:
                unreadable += 1
                print(f"error: {prediction.error}", file=sys.stderr)
                continue
            if drawings:
                _draw(trained.task, prediction, drawings[prediction.file])
            yield prediction

    if _CSV.value is not None:
        with _opened(_CSV.value) as table:
            _write_table(table, trained.task, readable())
    else:
        (_print_json if _JSON.value else _print_text)(trained.task, readable())
    return 1 if unreadable else 0


def _pictures(argument: str) -> list[tuple[str, str]]:
    """The picture itself, or those in a folder; and the path of each within the argument."""
    if not os.path.isdir(argument):
        return [(argument, os.path.basename(argument))]
    from jaxcnn.data.image_files import search

    found = search(Path(argument))
    pictures = sorted(itertools.chain(found.images, *found.unreadable.values()))  # the latter end in an error of their own
    if not pictures:
        raise UserError(f"{argument}: no picture in this folder")
    if found.others:
        names = ", ".join(Path(other).name for other in found.others[:3]) + ", …" * (len(found.others) > 3)
        print(f"{argument}: files that are not images are passed over: {len(found.others):,} ({names})", file=sys.stderr)
    return [(file, os.path.relpath(file, argument)) for file in pictures]


def _drawings(folder: str, names: Mapping[str, str]) -> dict[str, Path]:
    """Where the drawing of each picture is written. Raises UserError where it would replace a picture or another drawing."""
    places: dict[str, Path] = {}
    pictures = {os.path.realpath(file) for file in names}
    for file, name in names.items():
        place = (Path(folder) / name).with_suffix(".png")
        if place in (taken := set(places.values())) and not name.endswith(".png"):
            place = Path(folder) / f"{name}.png"  # a.jpg beside a.png
        if place in taken:
            raise UserError(f"--out: another picture is drawn to {place} already; predict {file} into another folder")
        if os.path.realpath(place) in pictures:
            raise UserError(f"--out: {place} is one of the pictures to predict; name another folder")
        places[file] = place
    return places


def _draw(task: "Task", prediction: "Prediction", place: Path) -> None:
    """Writes the photo with what was predicted."""
    import cv2
    import numpy as np

    assert prediction.photo is not None, "it could not be read"
    drawn = task.draw(prediction.outputs, prediction.photo)
    if drawn is None:
        raise UserError("--out: this task draws nothing; --json and --csv write what it predicts")
    encoded = cv2.imencode(".png", np.ascontiguousarray(drawn[..., ::-1]))[1]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded.tobytes())
    except OSError as error:
        raise UserError(f"--out: {place} can't be written ({error.strerror})") from error


def _print_text(task: "Task", results: Iterable["Prediction"]) -> None:
    for prediction in results:
        print(prediction.file)
        for line in task.lines(task.describe(prediction.outputs, _TOP.value)):
            print(f"  {line}", flush=True)


def _print_json(task: "Task", results: Iterable["Prediction"]) -> None:
    """A list as json.dumps indents it, each picture as it comes."""
    before = "[\n"
    for prediction in results:
        item = {"file": prediction.file, **task.describe(prediction.outputs, _TOP.value)}
        print(before + textwrap.indent(json.dumps(item, indent=2, ensure_ascii=False), "  "), end="", flush=True)
        before = ",\n"
    print("[]" if before == "[\n" else "\n]")


@contextlib.contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    """The file to write, stdout for -."""
    if name == "-":
        yield sys.stdout
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(name, "w", encoding="utf-8", errors="surrogateescape", newline=""))
        except OSError as error:
            raise UserError(f"--csv: {name} can't be written ({error.strerror})") from error
        yield file


def _write_table(file: TextIO, task: "Task", results: Iterable["Prediction"]) -> None:
    """A row per picture, as it comes."""
    writer = None
    for prediction in results:
        cells = {"file": prediction.file, **task.cells(prediction.outputs)}
        if writer is None:
            writer = csv.DictWriter(file, cells, lineterminator="\n")
            writer.writeheader()
        writer.writerow(cells)
        file.flush()


if __name__ == "__main__":
    command.run(main)
