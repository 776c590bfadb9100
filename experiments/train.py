"""Trains one network: python experiments/train.py --config=configs/lenet5_digits.py --workdir=runs/digits.

The same command goes on where a run was interrupted; with --extend and a larger --config.total it trains for longer.
--config.NAME=VALUE changes a setting; --print_config shows them.
"""

from jaxcnn import command  # first: Ctrl-C during the other imports is its business too
from jaxcnn.config import Config

# isort: split
from collections.abc import Sequence

from absl import flags

from jaxcnn import streams
from jaxcnn.config import describe
from jaxcnn.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "folder for the run's checkpoints, metrics and report")
_EXTEND = flags.DEFINE_bool("extend", False, "train the run in --workdir for longer than it was to: with a larger total")
_PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "print the resolved settings with their meanings, and stop")


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Trains, and prints the result."""
    if arguments:
        raise UserError(f"{arguments[0]!r}: train.py takes flags alone")
    if config is None:
        raise UserError("--config: say which experiment to run, for example --config=configs/lenet5_digits.py")
    if _PRINT_CONFIG.value:
        print(describe(config))
        return
    if not _WORKDIR.value:
        raise UserError("--workdir: name the folder for the run, for example --workdir=runs/digits")

    streams.continue_without_stdout()  # the results are in the folder
    from jaxcnn import train  # after the flags are known to be right: it takes seconds to import
    from jaxcnn.report import results_table
    from jaxcnn.tasks.registry import find_task

    summary = train.run(config, _WORKDIR.value, extend=_EXTEND.value)
    print(results_table(summary, find_task(config.task.name).quantities))
    print(f"report: {_WORKDIR.value.rstrip('/')}/report.html")


if __name__ == "__main__":
    command.run(main)
