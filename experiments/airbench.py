"""Trains airbench94 over several seeds: python experiments/airbench.py --runs=5 --config.data.root=DIR.

Prints the mean ± standard deviation of test accuracy and seconds; --json=FILE saves them. Each seed is a run of train.py with
the folder --workdir/seedN; run the same command again to resume. --config=FILE uses another config than
configs/airbench94.py; --config.NAME=VALUE changes a setting.

The time includes everything that depends on the data: initializing the parameters, among them the filters of the first layer,
training, and evaluating the test set with all views until the logits are on the host. It excludes reading the data and
transferring them to the device, compilation, which is reported separately, checkpoints and the report. Libraries that a GPU
loads on first use are included in the time of the first run, unless --warm_up trains once before without measuring it.
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

_RUNS = flags.DEFINE_integer("runs", 5, "number of runs; the seeds start at the config's seed", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", "runs/airbench94", "folder for the runs")
_JSON = flags.DEFINE_string("json", None, "JSON file for the results")
_WARM_UP = flags.DEFINE_bool("warm_up", False, "train once before the measured runs")
_PARTS = ("initial_seconds", "training_seconds", "test_seconds")


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Trains, and prints the results of each run and of all runs."""
    if arguments or config is None:
        raise UserError(f"{arguments[0]!r}: airbench.py accepts only flags" if arguments else "--config: expected a config")

    from jaxcnn import train  # after the flags are checked: it takes seconds to import

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
    results = {"runs": runs, **{name: summary[name] for name in ("device", "versions", "command")}}
    for name in ("test_accuracy", "seconds"):
        values = [run[name] for run in runs]
        results |= {f"{name}_mean": statistics.mean(values), f"{name}_std": statistics.stdev(values) if values[1:] else None}
    print(
        f"{len(runs)} runs on {results['device']}: test accuracy {_spread(results, 'test_accuracy', 100)} %, "
        f"{_spread(results, 'seconds', 1)} s on the clock"
    )
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=2) + "\n")


def _spread(results: dict[str, Any], name: str, unit: float) -> str:
    """Returns the mean ± the sample standard deviation; the value alone for a single run."""
    mean, std = results[f"{name}_mean"], results[f"{name}_std"]
    return f"{unit * mean:.2f}" + ("" if std is None else f" ± {unit * std:.2f}")


if __name__ == "__main__":
    flags.FLAGS.set_default("config", str(Path(__file__).parents[1] / "configs" / "airbench94.py"))
    command.run(main)
