"""Predicts the content of images: python experiments/predict.py --workdir=runs/digits IMAGE… or FOLDER…

To use pretrained weights instead of a run, pass --model=resnet50 --pretrained=FILE or --pretrained=hf:timm/resnet50.tv_in1k.

Every image is preprocessed as in the network's training. A folder stands for all images in it and its subfolders, sorted by
name. An image that cannot be read is reported on stderr; the others are still predicted, and the exit code is 1.

--out=DIR writes each image with the prediction drawn on it, at its original size, into the folder DIR. For a segmentation of
x.jpg these are x.png with the colors of the classes, x_map.png, a palette image whose pixels are the numbers of the classes, or
255 outside of the network's input, and x_outlines.png with the borders between the classes.
--csv=FILE writes a table with one row per image. For a classifier, its columns are file, class, the probability of this class,
and the probability of each class. If an image may have several labels, class lists those above 50 %, separated by "|".
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

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run whose network is used")
_STEP = flags.DEFINE_integer("step", None, "step of the checkpoint to use, instead of the one that the run selected")
_PRETRAINED = flags.DEFINE_string(
    "pretrained", None, "pretrained weights: a file, the folder of a run, or hf:OWNER/NAME of the Hugging Face hub"
)
_MODEL = flags.DEFINE_string("model", None, "name of the model of --pretrained, if the weights do not state it")
_TOP = flags.DEFINE_integer("top", 5, "number of classes (boxes, …) to print per image", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "print a JSON list; for a classifier [{file, classes: [{name, probability}]}]")
_OUT = flags.DEFINE_string("out", None, "folder for the drawings of the predictions, as PNG")
_CSV = flags.DEFINE_string("csv", None, "file for a table of the predictions, which are not printed then; - = stdout")


def main(arguments: Sequence[str], config: Config | None) -> int:
    """Prints the prediction for each image; for a classifier, the class names and probabilities, the most probable first."""
    if config is not None:
        raise UserError("--config: not accepted by predict.py; the run in --workdir contains its config")
    if _MODEL.value and not _PRETRAINED.value:
        raise UserError("--model: requires --pretrained=WEIGHTS")
    if _PRETRAINED.value and _WORKDIR.value:
        raise UserError("--pretrained: cannot be combined with --workdir")
    if _STEP.value is not None and not _WORKDIR.value:
        raise UserError("--step: requires --workdir; weights in a file have no steps")
    if _CSV.value is not None and _JSON.value:
        raise UserError("--csv: cannot be combined with --json")
    if _OUT.value is not None and os.path.exists(_OUT.value) and not os.path.isdir(_OUT.value):
        raise UserError(f"--out: {_OUT.value} is a file; expected a folder")
    source = _PRETRAINED.value or _WORKDIR.value
    if not source:
        raise UserError("--workdir: expected the folder of a run, for example --workdir=runs/digits")
    if not arguments:
        raise UserError("expected at least one image or folder: predict.py --workdir=RUN IMAGE…")
    names = {file: name for argument in arguments for file, name in _images(argument)}

    from jaxcnn import train  # after the flags are checked: it takes seconds to import

    if _PRETRAINED.value:
        trained = train.from_pretrained(source, _MODEL.value)
    else:
        trained = train.load_trained(source, step=_STEP.value)
        print(f"{source}, step {trained.step}", file=sys.stderr)
    drawings = {} if _OUT.value is None else _drawings(_OUT.value, names, trained.task.drawings)
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


def _images(argument: str) -> list[tuple[str, str]]:
    """Returns (path, path relative to the argument) of the image, or of all images in the folder."""
    if not os.path.isdir(argument):
        return [(argument, os.path.basename(argument))]
    from jaxcnn.data.image_files import search

    found = search(Path(argument))
    images = sorted(itertools.chain(found.images, *found.unreadable.values()))  # unreadable ones are reported as errors later
    if not images:
        raise UserError(f"{argument}: no images in this folder")
    if found.others:
        names = ", ".join(Path(other).name for other in found.others[:3]) + ", …" * (len(found.others) > 3)
        print(f"{argument}: ignored files that are not images: {len(found.others):,} ({names})", file=sys.stderr)
    return [(file, os.path.relpath(file, argument)) for file in images]


def _drawings(folder: str, names: Mapping[str, str], kinds: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Returns {image: {kind of drawing: its path}}, where the kinds are `Task.drawings`.

    Raises:
      UserError: the task draws nothing, or a drawing would replace an image or another drawing.
    """
    if not kinds:
        raise UserError("--out: predictions of this task cannot be drawn; use --json or --csv")
    drawings: dict[str, dict[str, Path]] = {}
    used: set[Path] = set()
    images = {os.path.realpath(file) for file in names}
    for file, name in sorted(names.items(), key=lambda item: not item[1].endswith(".png")):  # a.png before a.jpg
        paths = _paths((Path(folder) / name).with_suffix(""), kinds)
        if used & set(paths.values()) and not name.endswith(".png"):
            paths = _paths(Path(folder) / name, kinds)  # a.jpg.png
        for path in paths.values():
            if path in used:
                raise UserError(f"--out: {path} is already the drawing of another image; predict {file} into another folder")
            if os.path.realpath(path) in images:
                raise UserError(f"--out: {path} is one of the images to predict; choose another folder")
        drawings[file] = paths
        used.update(paths.values())
    return drawings


def _paths(base: Path, kinds: Sequence[str]) -> dict[str, Path]:
    """Returns {kind: path of the drawing}: for the base folder/x, folder/x.png and folder/x_KIND.png."""
    return {kind: base.with_name(f"{base.name}_{kind}.png" if kind else f"{base.name}.png") for kind in kinds}


def _draw(task: "Task", prediction: "Prediction", paths: Mapping[str, Path]) -> None:
    """Writes the drawings of a prediction as PNG."""
    from PIL import Image

    assert prediction.photo is not None, "the image could not be read"
    drawn = task.draw(prediction.outputs, prediction.photo)
    for kind, path in paths.items():
        drawing = drawn[kind]
        image = drawing if isinstance(drawing, Image.Image) else Image.fromarray(drawing)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, compress_level=1)
        except OSError as error:
            raise UserError(f"--out: {path} can't be written ({error.strerror})") from error


def _print_text(task: "Task", results: Iterable["Prediction"]) -> None:
    for prediction in results:
        print(prediction.file)
        for line in task.lines(task.describe(prediction.outputs, _TOP.value)):
            print(f"  {line}", flush=True)


def _print_json(task: "Task", results: Iterable["Prediction"]) -> None:
    """Prints a list indented like json.dumps, each item as soon as it is predicted."""
    before = "[\n"
    for prediction in results:
        item = {"file": prediction.file, **task.describe(prediction.outputs, _TOP.value)}
        print(before + textwrap.indent(json.dumps(item, indent=2, ensure_ascii=False), "  "), end="", flush=True)
        before = ",\n"
    print("[]" if before == "[\n" else "\n]")


@contextlib.contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    """Opens a file for writing; "-" is stdout."""
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
    """Writes one row per image, each as soon as it is predicted."""
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
