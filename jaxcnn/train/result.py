"""What a finished run leaves: summary.json and report.html."""

import dataclasses
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxcnn import config as settings
from jaxcnn.evaluate import collect, finite, measure
from jaxcnn.files import write_text
from jaxcnn.layers import cpu_convolution
from jaxcnn.report import summarize, write_report
from jaxcnn.tasks.losses import evaluation_losses
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.clock import AheadOfTime, Clock
from jaxcnn.train.experiment import Experiment, batches_once
from jaxcnn.train.log import Row
from jaxcnn.train.state import TrainState, count_parameters, variables_sha256
from jaxcnn.train.trained import selected_variables

_PACKAGES = ("jaxcnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def write_result(
    workdir: Path,
    experiment: Experiment,
    state: TrainState,
    predict: AheadOfTime,
    checkpoints: Checkpoints,
    history: Sequence[Row],
    best_step: int | None,
    clock: Clock,
    extended: Sequence[dict[str, int]],
) -> dict[str, Any]:
    """Tests the selected parameters, this once, and writes summary.json and report.html; returns the summary."""
    config, dataset, test = experiment.config, experiment.dataset, experiment.dataset.test
    assert test is not None, "data.load cuts one off"
    tested_step, variables = selected_variables(checkpoints, config, state.variables, best_step)
    reading = dataclasses.replace(experiment.reading, skipped=set())
    batches = batches_once(config, test, experiment.mesh, reading)()
    with clock.counting("test"):
        (logits,), labels = collect(predict, [variables], batches)
    figures = finite(measure(logits, labels, experiment.task, evaluation_losses(config.loss)))
    tested_images = [index for index in range(len(test)) if test.name(index) not in reading.skipped]
    experiment.reading.skipped.update(reading.skipped)
    tested = next((row for row in history if row["step"] == tested_step and "validation_accuracy" in row), {})
    counted = "validation_ema_" if config.ema.decay else "validation_"  # those of the parameters that are tested
    steps, skipped = int(state.step), sorted(experiment.reading.skipped)
    device = experiment.mesh.devices.flat[0]

    summary = {
        **{f"test_{name}": value for name, value in figures.items()},
        "tested_step": tested_step,
        **{name.replace("_ema", ""): value for name, value in finite(tested).items() if name.startswith(counted)},
        "steps": steps,
        "epochs": steps * config.batch_size / len(dataset.train),
        "wall_seconds": clock.wall,
        "compile_seconds": clock.compile,
        "initial_seconds": clock.initial,
        "training_seconds": clock.training,
        "test_seconds": clock.test,
        "images_per_second": steps * config.batch_size / max(clock.training, 1e-9),
        "params": count_parameters(state.params),
        "params_sha256": variables_sha256(state.variables),
        **({"unreadable": len(skipped), "unreadable_files": skipped} if experiment.reading.skip else {}),
        "model": config.model.name,
        "data": config.data.name,
        "seed": config.seed,
        **({"extended": list(extended)} if extended else {}),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        "device": f"{experiment.mesh.size} × {device.device_kind} ({device.platform})",
        **({"cpu_convolution": convolutions} if (convolutions := cpu_convolution()) else {}),
        "command": shlex.join(sys.argv),
    }
    write_report(
        workdir / "report.html",
        summary=summary,
        config_text=settings.describe(config),
        history=history,
        task=experiment.task,
        class_names=dataset.class_names,
        labels=labels,
        logits=logits,
        image_at=lambda number: test[tested_images[number]],
        layers=summarize(experiment.model, experiment.preprocessing.input_shape),
    )
    # last, for it says that the run is complete
    write_text(workdir / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return summary
