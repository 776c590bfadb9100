"""The results of a finished run: summary.json and report.html."""

import dataclasses
import json
import platform
import shlex
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

from jaxcnn import config as settings
from jaxcnn.evaluate import finite, measure
from jaxcnn.files import write_text
from jaxcnn.layers import cpu_convolution
from jaxcnn.report import network_section, write_report
from jaxcnn.train.state import TrainState, count_parameters, variables_sha256
from jaxcnn.train.trained import selected_variables

if TYPE_CHECKING:
    from jaxcnn.train.training import Run

_PACKAGES = ("jaxcnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def write_result(run: "Run", state: TrainState) -> dict[str, Any]:
    """Evaluates the selected parameters on the test set, writes summary.json and report.html, and returns the summary."""
    experiment, config, history, clock = run.experiment, run.config, run.log.history, run.clock
    dataset, test, task = experiment.dataset, experiment.dataset.test, experiment.task
    assert test is not None, "data.load guarantees a test set"
    tested_step, variables = selected_variables(run.checkpoints, config, state.variables, run.best_step)
    reading = dataclasses.replace(experiment.reading, skipped=set())
    with clock.counting("test"):
        ((tally, metrics),) = measure(task, run.tally, [variables], experiment.parts_of(test, reading))
    tested_images = [index for index in range(len(test)) if test.name(index) not in reading.skipped]
    experiment.reading.skipped.update(reading.skipped)
    prefix = "validation_ema_" if config.ema.decay else "validation_"  # of the parameters that are tested
    rows = (row for row in history if row["step"] == tested_step and any(name.startswith(prefix) for name in row))
    validated = next(rows, {})
    steps, skipped = int(state.step), sorted(experiment.reading.skipped)
    device = experiment.mesh.devices.flat[0]
    platform_name = "" if device.platform == device.device_kind else f" ({device.platform})"

    summary = {
        **{f"test_{name}": value for name, value in finite(metrics).items()},
        "tested_step": tested_step,
        **{name.replace("_ema", ""): value for name, value in finite(validated).items() if name.startswith(prefix)},
        "steps": steps,
        "epochs": steps * config.batch_size / len(dataset.train),
        "wall_seconds": clock.wall,
        "compile_seconds": clock.compile,
        "initial_seconds": clock.initial,
        "training_seconds": clock.training,
        "test_seconds": clock.test,
        "images_per_second": steps * config.batch_size / max(clock.training, 1e-9),
        "params": count_parameters(state.variables["params"]),
        "params_sha256": variables_sha256(state.variables),
        **({"unreadable": len(skipped), "unreadable_files": skipped} if experiment.reading.skip else {}),
        **({} if config.task.name == "classification" else {"task": config.task.name}),
        **({"model": config.model.name} if task.takes_model else {}),
        "data": config.data.name,
        "seed": config.seed,
        **({"extended": extended} if (extended := run.record["extended"]) else {}),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        "device": f"{experiment.mesh.size} × {device.device_kind}{platform_name}",
        **({"cpu_convolution": convolutions} if (convolutions := cpu_convolution()) else {}),
        "command": shlex.join(sys.argv),
    }
    sections = [
        *task.sections(tally, lambda number: test.read(tested_images[number])),
        *(network_section(name, model, shape) for name, (model, shape) in task.networks().items()),
    ]
    write_report(
        run.workdir / "report.html",
        summary=summary,
        config_text=settings.describe(config),
        history=history,
        quantities=task.quantities,
        sections=sections,
    )
    # written last, because its existence marks the run as complete
    write_text(run.workdir / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return summary
