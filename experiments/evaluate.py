"""Evaluates a trained network: python experiments/evaluate.py --workdir=runs/digits.

It evaluates the checkpoint that the run selected and prints its step to stderr; --step=N evaluates another checkpoint.
--split=validation or train evaluates another split. --data_root=PATH reads the data from another path. If they are the data
of the training, which were moved, the split is the same. Of other data (folder, csv, arrays), it is the split of that name, or
all data if they have no splits; their classes may be a subset of the network's. With --config instead of --workdir, weights
from a file are evaluated:

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

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run whose network is evaluated")
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "split of the data set to evaluate on")
_DATA_ROOT = flags.DEFINE_string("data_root", None, "path of the data, if not the one used in training")
_STEP = flags.DEFINE_integer("step", None, "step of the checkpoint to evaluate, instead of the one that the run selected")
_JSON = flags.DEFINE_bool("json", False, "print the metrics as JSON")


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Prints the metrics and the number of examples."""
    if arguments:
        raise UserError(f"{arguments[0]!r}: evaluate.py accepts only flags")
    if (config is None) == (_WORKDIR.value is None):
        raise UserError("expected either --workdir=RUN, or --config=FILE with --config.model.pretrained=WEIGHTS")
    if _STEP.value is not None and not _WORKDIR.value:
        raise UserError("--step: requires --workdir; weights in a file have no steps")

    from jaxcnn import train  # after the flags are checked: it takes seconds to import
    from jaxcnn.evaluate import finite
    from jaxcnn.report import results_table

    say = functools.partial(print, file=sys.stderr)
    if config is None:
        trained = train.load_trained(str(_WORKDIR.value), step=_STEP.value)
        say(f"{_WORKDIR.value}, step {trained.step}")
    else:
        trained = train.load_weights(config, say=say)
    metrics = train.evaluate(trained, _SPLIT.value, data_root=_DATA_ROOT.value, say=say)
    if _WORKDIR.value:
        metrics = {"step": trained.step, **metrics}
    print(json.dumps(finite(metrics), indent=2) if _JSON.value else results_table(metrics, trained.task.quantities))


if __name__ == "__main__":
    command.run(main)
