"""Measures a trained network: python experiments/evaluate.py --workdir=runs/digits.

The figures are those of the end of training. --split=validation or train takes another part of the data,
--data_root=PATH the data from another place. With --config instead of --workdir it measures weights from a file:

    python experiments/evaluate.py --config=configs/resnet_cifar10.py:20 --config.data.root=DIR \
        --config.model.pretrained=resnet20.npz
"""

import functools
import json
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict

from jaxcnn import command
from jaxcnn.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "the run whose network is measured")
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "the part of the data")
_DATA_ROOT = flags.DEFINE_string("data_root", None, "where the data lies now, if not where it was when training")
_JSON = flags.DEFINE_bool("json", False, "print the figures as JSON")


def main(arguments: Sequence[str], config: ConfigDict | None) -> None:
    """Prints accuracy, loss and number of examples."""
    if arguments:
        raise UserError(f"{arguments[0]!r}: evaluate.py takes flags alone")
    if (config is None) == (_WORKDIR.value is None):
        raise UserError("say either --workdir=RUN or --config=FILE with --config.model.pretrained=WEIGHTS")

    from jaxcnn import train  # after the flags are known to be right: it takes seconds to import
    from jaxcnn.evaluate import finite
    from jaxcnn.report import results_table

    say = functools.partial(print, file=sys.stderr)
    trained = train.load_trained(_WORKDIR.value) if _WORKDIR.value else train.load_weights(config, say=say)
    figures = train.evaluate(trained, _SPLIT.value, data_root=_DATA_ROOT.value, say=say)
    print(json.dumps(finite(figures), indent=2) if _JSON.value else results_table(figures))


if __name__ == "__main__":
    command.run(main)
