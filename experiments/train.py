"""Trains one network: python experiments/train.py --config=configs/lenet5_digits.py --workdir=runs/digits.

If a run was interrupted, run the same command again to resume it. With --extend and a larger --config.total it trains longer.
--config.NAME=VALUE changes a setting; --print_config prints all settings.
"""

from jaxcnn import command  # first, so that it handles Ctrl-C during the other imports too
from jaxcnn.config import Config

# isort: split
from collections.abc import Sequence

from absl import flags

from jaxcnn import streams
from jaxcnn.config import describe
from jaxcnn.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "folder for the run's checkpoints, metrics and report")
_EXTEND = flags.DEFINE_bool("extend", False, "train the run in --workdir longer, up to a larger total")
_PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "print the resolved settings with their meanings and exit")


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Trains the network and prints the metrics."""
    if arguments:
        raise UserError(f"{arguments[0]!r}: train.py accepts only flags")
    if config is None:
        raise UserError("--config: expected the config of an experiment, for example --config=configs/lenet5_digits.py")
    if _PRINT_CONFIG.value:
        print(describe(config))
        return
    if not _WORKDIR.value:
        raise UserError("--workdir: expected a folder for the run, for example --workdir=runs/digits")

    streams.continue_without_stdout()  # the results are written to the folder
    from jaxcnn import train  # after the flags are checked: it takes seconds to import
    from jaxcnn.report import results_table
    from jaxcnn.tasks.registry import find_task

    summary = train.run(config, _WORKDIR.value, extend=_EXTEND.value)
    print(results_table(summary, find_task(config.task.name).quantities))
    print(f"report: {_WORKDIR.value.rstrip('/')}/report.html")


if __name__ == "__main__":
    command.run(main)
