"""Checks before a run is resumed: settings and data must be unchanged; a different machine only causes a warning."""

import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from jaxcnn import config as settings
from jaxcnn import data
from jaxcnn.config import Config
from jaxcnn.durations import duration_in_steps
from jaxcnn.errors import UserError
from jaxcnn.files import read_values
from jaxcnn.train.checkpoints import Checkpoints, Meta
from jaxcnn.train.experiment import Experiment
from jaxcnn.train.fingerprint import data_differences, fingerprint


class EarlierRun(NamedTuple):
    """The state of an earlier run in the folder."""

    result: dict[str, Any]
    """content of summary.json if the run is finished and not extended, else {}"""
    meta: Meta | None
    """meta of the latest checkpoint"""
    config: Config | None
    extends: bool
    """True if the run is extended to a larger `total`"""


def earlier_run(
    workdir: Path, config: Config, checkpoints: Checkpoints, extend: bool, warn: Callable[[str], None]
) -> EarlierRun:
    """Returns the earlier run in the folder. Raises UserError if its settings differ from `config`."""
    summary, meta = finished_summary(workdir, warn), checkpoints.latest_meta()
    before = earlier_config(workdir, meta, bool(summary), warn)
    if extend and not (before and meta):
        raise UserError(f"--extend: {workdir} contains no run with a checkpoint that could be extended")
    extends = before is not None and check_config(workdir, before, config, extend=extend)
    return EarlierRun({} if extends else summary, meta, before, extends)


def check(workdir: Path, earlier: EarlierRun, experiment: Experiment, now: Meta) -> None:
    """Raises UserError if the data differ from those of the earlier run, or if an extended run does not get longer."""
    if earlier.meta:
        check_data(workdir, earlier.meta, now)
        now["extended"] = earlier.meta.get("extended", [])
    if earlier.extends:
        steps_before_extension(earlier, experiment)


def extend(workdir: Path, earlier: EarlierRun, experiment: Experiment, now: Meta, step: int) -> str:
    """Records in `now` that the run is extended from `step`, deletes its old summary, and returns a line to print."""
    planned = steps_before_extension(earlier, experiment)
    now["extended"] = [*now["extended"], {"at_step": step, "from_steps": planned}]
    (workdir / "summary.json").unlink(missing_ok=True)
    return (
        f"extended from {planned:,} to {experiment.total_steps:,} steps; from now on the schedule is that of the new total, so "
        "the result differs from that of a run started with this total"
    )


def finished_summary(workdir: Path, warn: Callable[[str], None]) -> dict[str, Any]:
    """Returns the content of summary.json, or {} if the file does not exist or (with a warning) is invalid."""
    path = workdir / "summary.json"
    summary = read_values(path, warn)
    if summary and not {"tested_step", "steps", "params_sha256"} <= summary.keys():
        warn(f"{path}: ignored, because it is not the summary of a run")
        return {}
    return summary


def earlier_config(workdir: Path, meta: Meta | None, finished: bool, warn: Callable[[str], None]) -> Config | None:
    """Returns the settings of the run in `workdir` from its latest checkpoint or, if that has none, from config.json.

    Returns None if there are no settings, or if the run has neither a checkpoint nor a result that could be lost.
    """
    if meta and "config" in meta:
        return settings.from_saved(meta["config"], f"--workdir: {workdir}")
    path = workdir / "config.json"
    if (not meta and not finished) or not (values := read_values(path, warn)):
        return None
    try:
        return settings.from_saved(values, str(path))
    except settings.NewerSchemaError:
        raise
    except UserError as error:
        warn(f"{path}: ignored, because it does not contain valid settings ({error})")
        return None


def check_config(workdir: Path, earlier: Config, config: Config, *, extend: bool) -> bool:
    """Returns whether `total` differs. Raises UserError if other settings differ, or if `total` differs without `extend`."""
    different = settings.differences(earlier, config)
    only_total = all(line.startswith("total: ") for line in different)
    if not different or (extend and only_total):
        return bool(different)
    raise UserError(
        f"--workdir: {workdir} contains a run with a different config ({'; '.join(different)}). Use the same settings, "
        + ("train it for longer with --extend, " if only_total else "")
        + f"or start from its weights in a new folder with --config.model.pretrained={workdir}"
    )


def steps_before_extension(earlier: EarlierRun, experiment: Experiment) -> int:
    """Returns the total steps of the run before its extension. Raises UserError unless the new total is larger."""
    assert earlier.config is not None, "no run to extend"
    sizes = {"batch_size": earlier.config.batch_size, "examples_per_epoch": len(experiment.dataset.train)}
    before = duration_in_steps("total", earlier.config.total, **sizes)
    if experiment.total_steps <= before:
        raise UserError(
            f"--extend: the new total, {experiment.config.total} ({experiment.total_steps:,} steps), must be larger than the "
            f"total of this run, {earlier.config.total} ({before:,} steps)"
        )
    return before


def check_data(workdir: Path, earlier: Meta, now: Meta) -> None:
    """Raises UserError if examples or classes differ from those on which the run was trained."""
    if different := data_differences(earlier, now):
        raise UserError(
            f"--workdir: {workdir} contains a run on different data ({'; '.join(different)}). Restore the data, or start "
            f"from its weights in a new folder with --config.model.pretrained={workdir}"
        )


def record(experiment: Experiment, convolutions: str) -> Meta:
    """Returns the metadata that checkpoints store to use the network and to resume the run."""
    return {
        **experiment.meta(),
        "config": settings.to_saved(experiment.config),
        "data": fingerprint(experiment.dataset),
        "computed_by": computed_by(experiment.mesh, convolutions)
        | {"steps_per_dispatch": str(experiment.config.steps_per_dispatch)},
        "extended": [],
    }


def computed_by(mesh: Mesh, convolutions: str) -> dict[str, str]:
    """Returns what, besides settings and data, influences the rounding of a run's results: devices, versions, threads."""
    device = mesh.devices.flat[0]
    environment = {"devices": f"{mesh.size} × {device.device_kind}", "jaxlib": metadata.version("jaxlib")}
    if device.platform == "cpu":
        environment |= {"processor": _processor(), "threads": str(data.cores()), "convolutions by": convolutions}
        environment |= {"threads of oneDNN": str(_openmp_threads())} if convolutions.startswith("onednn") else {}
    return environment


def warn_if_environment_changed(before: dict[str, str], now: dict[str, str], warn: Callable[[str], None]) -> None:
    """Warns if a resumed run will be computed with different rounding; see `computed_by`."""
    different = [f"{name}: {before[name]} -> {now.get(name, 'none')}" for name in before if before[name] != now.get(name)]
    if different:
        warn(
            f"the earlier steps of this run were computed in a different environment ({'; '.join(different)}); from now on its "
            "results differ by rounding from those of an uninterrupted run"
        )


def _openmp_threads() -> int:
    """Returns the number of threads that OpenMP starts, from its environment variables or the number of cores."""

    def number(name: str) -> int:
        text = os.environ.get(name, "").split(",")[0].strip()
        return int(text) if text.isdecimal() and int(text) else 0

    return min(number("OMP_NUM_THREADS") or data.cores(), number("OMP_THREAD_LIMIT") or data.cores())


def _processor() -> str:
    """Returns the model of the processor, because XLA and oneDNN use the instructions that it supports."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
