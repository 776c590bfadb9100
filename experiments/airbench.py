"""Trains airbench94 over several seeds: python experiments/airbench.py --runs=5 --config.data.root=DIR.

Prints test accuracy and seconds, mean ± standard deviation; --json=FILE keeps them. It is train.py over several seeds:
each run has its folder, --workdir/seedN; run the same command again to resume. --config=FILE takes another
config than configs/airbench94.py, --config.NAME=VALUE changes a setting.

On the clock is what depends on the data: the first layer's filters and all other initial parameters, training, and the test
set through the network with all its views, until the logits are on the host. Not on it: reading the data and bringing them
to the device, compilation, which is told apart, and checkpoints and report. Libraries that a GPU loads when they are first
used are on the clock of the first run, unless --warm_up puts a run before it that does not count.
"""

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console

from jaxcnn import command
from jaxcnn.config import Config, changed
from jaxcnn.errors import UserError

_RUNS = flags.DEFINE_integer("runs", 5, "how many, from the config's seed on", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", "runs/airbench94", "folder for the runs")
_JSON = flags.DEFINE_string("json", None, "file that keeps the figures")
_WARM_UP = flags.DEFINE_bool("warm_up", False, "one more run first, which does not count")
_PARTS = ("initial_seconds", "training_seconds", "test_seconds")


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Trains, and prints the figures of each run and of all."""
    if arguments or config is None:
        raise UserError(f"{arguments[0]!r}: airbench.py takes flags alone" if arguments else "--config: there has to be one")

    from jaxcnn import train  # after the flags are known to be right: it takes seconds to import

    if _WARM_UP.value:
        with tempfile.TemporaryDirectory() as folder:
            train.run(config, folder, console=Console(quiet=True))
    runs: list[dict[str, Any]] = []
    for seed in range(config.seed, config.seed + _RUNS.value):
        summary = train.run(changed(config, {"seed": seed}), Path(_WORKDIR.value) / f"seed{seed}")
        run = {name: summary[name] for name in ("seed", "test_accuracy", *_PARTS, "compile_seconds", "steps")}
        runs.append(run | {"seconds": sum(summary[part] for part in _PARTS)})
        parts = ", ".join(f"{part.removesuffix('_seconds')} {run[part]:.4g}" for part in _PARTS)
        print(
            f"seed {seed}: test accuracy {run['test_accuracy']:.2%}, {runs[-1]['seconds']:.4g} s on the clock ({parts}), "
            f"and {run['compile_seconds']:.4g} s of compilation"
        )
    figures = {"runs": runs, **{name: summary[name] for name in ("device", "versions", "command")}}
    for name in ("test_accuracy", "seconds"):
        values = [run[name] for run in runs]
        figures |= {f"{name}_mean": statistics.mean(values), f"{name}_std": statistics.stdev(values) if values[1:] else None}
    print(
        f"{len(runs)} runs on {figures['device']}: test accuracy {_spread(figures, 'test_accuracy', 100)} %, "
        f"{_spread(figures, 'seconds', 1)} s on the clock"
    )
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(figures, indent=2) + "\n")


def _spread(figures: dict[str, Any], name: str, unit: float) -> str:
    """The mean ± the standard deviation of a sample; of one run the figure alone."""
    mean, std = figures[f"{name}_mean"], figures[f"{name}_std"]
    return f"{unit * mean:.2f}" + ("" if std is None else f" ± {unit * std:.2f}")


if __name__ == "__main__":
    flags.FLAGS.set_default("config", str(Path(__file__).parents[1] / "configs" / "airbench94.py"))
    command.run(main)
