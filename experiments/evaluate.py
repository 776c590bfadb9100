"""Measures a trained network: python experiments/evaluate.py --workdir=runs/digits.

It measures the checkpoint that training selected, and names its step; --step=N measures another checkpoint.
--split=validation or train takes another part of the data. --data_root=PATH takes the data from another place: the same
part if they are the same data, moved; of other data (folder, csv, arrays) their part of that name, or all of them if they
have no parts. Their classes may be some of the network's. With --config instead of --workdir it measures weights from a file:

    python experiments/evaluate.py --config=configs/resnet_cifar10.py:20 --config.data.root=DIR \
        --config.model.pretrained=resnet20.npz
"""

import functools
import json
import sys
from collections.abc import Sequence

from absl import flags

from jaxcnn import command
from jaxcnn.config import Config
from jaxcnn.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "the run whose network is measured")
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "the part of the data")
_DATA_ROOT = flags.DEFINE_string("data_root", None, "where the data are, if not where they were in training")
_STEP = flags.DEFINE_integer("step", None, "the checkpoint, if not the one that the run selected")
_JSON = flags.DEFINE_bool("json", False, "print the figures as JSON")


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Prints accuracy, loss and number of examples."""
    if arguments:
        raise UserError(f"{arguments[0]!r}: evaluate.py takes flags alone")
    if (config is None) == (_WORKDIR.value is None):
        raise UserError("say either --workdir=RUN or --config=FILE with --config.model.pretrained=WEIGHTS")
    if _STEP.value is not None and not _WORKDIR.value:
        raise UserError("--step: goes with --workdir; weights in a file have no steps")

    from jaxcnn import train  # after the flags are known to be right: it takes seconds to import
    from jaxcnn.evaluate import finite
    from jaxcnn.report import results_table

    say = functools.partial(print, file=sys.stderr)
    if config is None:
        trained = train.load_trained(str(_WORKDIR.value), step=_STEP.value)
        say(f"{_WORKDIR.value}, step {trained.step}")
    else:
        trained = train.load_weights(config, say=say)
    figures = train.evaluate(trained, _SPLIT.value, data_root=_DATA_ROOT.value, say=say)
    if _WORKDIR.value:
        figures = {"step": trained.step, **figures}
    print(json.dumps(finite(figures), indent=2) if _JSON.value else results_table(figures, trained.task.quantities))


if __name__ == "__main__":
    command.run(main)
