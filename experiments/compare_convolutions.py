"""Checks on a CPU that oneDNN's and XLA's convolutions train the same network:

    python experiments/compare_convolutions.py --config=configs/resnet_cifar10.py:20 --config.data.root=DIR \
        --config.total=200steps --workdir=runs/convolutions

Trains three times: with XLA, with oneDNN, and with XLA on two virtual devices, which adds the same numbers in another order.
Runs that differ only by rounding diverge during training; the third run shows how fast. Prints the loss and the difference of
the other two runs from it. Fails if the difference of oneDNN ever exceeds ten times the largest difference of the third run up
to that step.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxcnn import command
from jaxcnn.config import Config
from jaxcnn.errors import RunFailed, UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "folder for the three runs")
_RUNS = {
    "xla": {"JAXCNN_CPU_CONV": "xla"},
    "onednn": {"JAXCNN_CPU_CONV": "onednn"},
    "xla on 2 devices": {"JAXCNN_CPU_CONV": "xla", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
}


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Prints a table of losses and their differences."""
    if arguments:
        raise UserError(f"{arguments[0]!r}: compare_convolutions.py accepts only flags")
    if config is None or _WORKDIR.value is None:
        raise UserError("expected --config=FILE and --workdir=DIR")

    from jaxcnn.train.log import read_history

    settings = [argument for argument in sys.argv[1:] if argument.lstrip("-").startswith("config")]
    losses = []
    for name, environment in _RUNS.items():
        workdir = Path(_WORKDIR.value) / name.replace(" ", "_")
        program = [sys.executable, str(Path(__file__).with_name("train.py")), *settings, f"--workdir={workdir}"]
        every = ["--config.log.every=1steps", "--config.evaluate.every=1_000_000steps"]
        print(f"training with {name} …", file=sys.stderr)
        done = subprocess.run(
            [*program, *every], env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment, stdout=subprocess.DEVNULL
        )
        if done.returncode:
            raise RunFailed(f"training with {name} ended with exit code {done.returncode}")
        losses.append([row["train_loss"] for row in read_history(workdir) if "train_loss" in row])

    print("| step | loss | onednn | xla on 2 devices |\n|---|---|---|---|")
    largest, failed = 1e-6, 0
    for step, (xla, onednn, two_devices) in enumerate(zip(*losses, strict=True), start=1):
        largest = max(largest, abs(two_devices - xla))
        failed = failed or (step if abs(onednn - xla) > 10 * largest else 0)
        if step in (1, 2, 5) or step % 10 == 0:
            print(f"| {step} | {xla:.6f} | {abs(onednn - xla):.1e} | {abs(two_devices - xla):.1e} |")
    if failed:
        raise RunFailed(f"from step {failed} on, the losses differ by more than rounding")


if __name__ == "__main__":
    command.run(main)
