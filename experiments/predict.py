"""Names what is on pictures: python experiments/predict.py --workdir=runs/digits PHOTO… or FOLDER…

or, by a network that others trained, --model=resnet50 --pretrained=FILE, or --pretrained=hf:timm/resnet50.tv_in1k.

Each picture gets the preprocessing that the network was trained with. Of a folder all pictures in it are taken, also in the
folders in it, in order of their names. A picture that can't be read is named on stderr, the others are predicted all the same,
and the exit code is 1.

--csv=FILE writes a table with one row per picture: file, class, its probability, and one column with the probability of
each class. Where an image may have several labels, class lists the labels above 50 %, separated by "|".
"""

import contextlib
import csv
import itertools
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from absl import flags

from jaxcnn import command
from jaxcnn.config import Config
from jaxcnn.errors import UserError

if TYPE_CHECKING:
    from jaxcnn.tasks.task import Task

_WORKDIR = flags.DEFINE_string("workdir", None, "the run whose network predicts")
_STEP = flags.DEFINE_integer("step", None, "the checkpoint of the run, if not the one that it selected")
_PRETRAINED = flags.DEFINE_string(
    "pretrained", None, "weights to predict with: a file, a run's folder, or hf:OWNER/NAME of the hub"
)
_MODEL = flags.DEFINE_string("model", None, "the model that they are of, where they do not say it")
_TOP = flags.DEFINE_integer("top", 5, "how many classes to print for a picture", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "print a JSON list: [{file, classes: [{name, probability}]}]")
_CSV = flags.DEFINE_string("csv", None, "write a table to this file, - for stdout, instead of printing")


def main(arguments: Sequence[str], config: Config | None) -> int:
    """Prints class names and probabilities, the most probable first."""
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
    source = _PRETRAINED.value or _WORKDIR.value
    if not source:
        raise UserError("--workdir: name the run whose network predicts, for example --workdir=runs/digits")
    if not arguments:
        raise UserError("name at least one picture or folder: predict.py --workdir=RUN PHOTO…")
    files = [file for argument in arguments for file in _files(argument)]

    from jaxcnn import train  # after the flags are known to be right: it takes seconds to import

    if _PRETRAINED.value:
        trained = train.from_pretrained(source, _MODEL.value)
    else:
        trained = train.load_trained(source, step=_STEP.value)
        print(f"{source}, step {trained.step}", file=sys.stderr)
    unreadable = 0

    def readable() -> Iterator[tuple[str, Any]]:
        nonlocal unreadable
        for file, row in train.predict_each(trained, files):
            if isinstance(row, UserError):
                unreadable += 1
                print(f"error: {row}", file=sys.stderr)
            else:
                yield file, row

    if _CSV.value is not None:
        with _opened(_CSV.value) as table:
            _write_table(table, trained.task, readable())
    elif _JSON.value:
        _print_json(trained.task, readable())
    else:
        _print_text(trained.task, readable())
    return 1 if unreadable else 0


Results = Iterable[tuple[str, Any]]
"""Files, and the task's outputs for each."""


def _files(argument: str) -> list[str]:
    """The picture itself, or those in a folder."""
    if not os.path.isdir(argument):
        return [argument]
    from jaxcnn.data.picture_files import search

    found = search(Path(argument))
    pictures = sorted(itertools.chain(found.pictures, *found.unreadable.values()))  # the latter end in an error of their own
    if not pictures:
        raise UserError(f"{argument}: no picture in this folder")
    if found.others:
        names = ", ".join(Path(other).name for other in found.others[:3]) + ", …" * (len(found.others) > 3)
        print(f"{argument}: files that are no pictures are passed over: {len(found.others):,} ({names})", file=sys.stderr)
    return pictures


def _print_text(task: "Task", results: Results) -> None:
    for file, outputs in results:
        print(file)
        for line in task.lines(task.describe(outputs, _TOP.value)):
            print(f"  {line}", flush=True)


def _print_json(task: "Task", results: Results) -> None:
    """A list as json.dumps indents it, each picture as it comes."""
    before = "[\n"
    for file, outputs in results:
        item = json.dumps({"file": file, **task.describe(outputs, _TOP.value)}, indent=2, ensure_ascii=False)
        print(before + textwrap.indent(item, "  "), end="", flush=True)
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


def _write_table(file: TextIO, task: "Task", results: Results) -> None:
    """A row per picture, as it comes."""
    writer = None
    for path, outputs in results:
        cells = {"file": path, **task.cells(outputs)}
        if writer is None:
            writer = csv.DictWriter(file, cells, lineterminator="\n")
            writer.writeheader()
        writer.writerow(cells)
        file.flush()


if __name__ == "__main__":
    command.run(main)
