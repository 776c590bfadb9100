"""What has to be as it was when a run goes on: its settings and its data; and what is said where the machine is another."""

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


class Earlier(NamedTuple):
    """What an earlier run left in the folder."""

    result: dict[str, Any]
    """summary.json, where nothing is left to do; else {}"""
    meta: Meta | None
    """the meta of its latest checkpoint"""
    config: Config | None
    extends: bool
    """whether it is trained for longer than it was to be"""


def earlier_run(workdir: Path, config: Config, checkpoints: Checkpoints, extend: bool, warn: Callable[[str], None]) -> Earlier:
    """What is in the folder. Refuses a run with other settings than `config`."""
    summary, meta = finished_summary(workdir, warn), checkpoints.latest_meta()
    before = earlier_config(workdir, meta, bool(summary), warn)
    if extend and not (before and meta):
        raise UserError(f"--extend: {workdir} holds no run that could go on")
    extends = before is not None and check_config(workdir, before, config, extend=extend)
    return Earlier({} if extends else summary, meta, before, extends)


def check(workdir: Path, earlier: Earlier, experiment: Experiment, now: Meta) -> None:
    """Refuses other data than the earlier run's, and no longer total where it is to be extended."""
    if earlier.meta:
        check_data(workdir, earlier.meta, now)
        now["extended"] = earlier.meta.get("extended", [])
    if earlier.extends:
        steps_before_extension(earlier, experiment)


def extend(workdir: Path, earlier: Earlier, experiment: Experiment, now: Meta, step: int) -> str:
    """Records that the run, resumed at `step`, is trained for longer; returns a line that says so."""
    planned = steps_before_extension(earlier, experiment)
    now["extended"] = [*now["extended"], {"at_step": step, "from_steps": planned}]
    (workdir / "summary.json").unlink(missing_ok=True)
    return (
        f"extended from {planned:,} steps: from here on the schedule is computed for the new total, so the "
        "result differs from a run with this total from the beginning"
    )


def finished_summary(workdir: Path, warn: Callable[[str], None]) -> dict[str, Any]:
    """The content of summary.json; {} where there is none, or what stands there is none (it is written anew)."""
    path = workdir / "summary.json"
    summary = read_values(path, warn)
    if summary and not {"tested_step", "steps", "params_sha256"} <= summary.keys():
        warn(f"{path}: not the summary of a run; it is ignored")
        return {}
    return summary


def earlier_config(workdir: Path, meta: Meta | None, finished: bool, warn: Callable[[str], None]) -> Config | None:
    """The settings of the run in `workdir`: those in its latest checkpoint or, without one, in config.json.

    None where neither has them, and for a run that came to no checkpoint: it holds nothing that could be lost.
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
    except UserError as mistake:
        warn(f"{path}: not the settings of a run ({mistake}); it is ignored")
        return None


def check_config(workdir: Path, earlier: Config, config: Config, *, extend: bool) -> bool:
    """Whether `total` is another. Refuses other settings than the run had, and says which; `total` too without `extend`."""
    different = settings.differences(earlier, config)
    of_total = [line for line in different if line.startswith("total: ")]
    if not different or (extend and different == of_total):
        return bool(different)
    raise UserError(
        f"--workdir: {workdir} holds a run with another config ({'; '.join(different)}). Take the same settings, or "
        + ("--extend to train it for longer, or " if different == of_total else "")
        + f"a new folder, where --config.model.pretrained={workdir} starts from the weights of this run"
    )


def steps_before_extension(earlier: Earlier, experiment: Experiment) -> int:
    """How many steps the run was to have. Refuses a total that is not larger than that one."""
    assert earlier.config is not None, "no run to extend"
    sizes = {"batch_size": earlier.config.batch_size, "examples_per_epoch": len(experiment.dataset.train)}
    before = duration_in_steps("total", earlier.config.total, **sizes)
    if experiment.total_steps <= before:
        raise UserError(
            f"--extend: total is {experiment.config.total}, {experiment.total_steps:,} steps, but this run was to have "
            f"{earlier.config.total}, {before:,} steps; give a larger one"
        )
    return before


def check_data(workdir: Path, earlier: Meta, now: Meta) -> None:
    """Refuses other examples or classes than the run was trained on, and says what differs."""
    if different := data_differences(earlier, now):
        raise UserError(
            f"--workdir: {workdir} holds a run on other data than there are now ({'; '.join(different)}). Bring the data back, "
            f"or take a new folder, where --config.model.pretrained={workdir} starts from the weights of this run"
        )


def record(experiment: Experiment, convolutions: str) -> Meta:
    """What a checkpoint carries so that a run goes on as it began."""
    return {
        **experiment.meta(),
        "config": settings.to_saved(experiment.config),
        "data": fingerprint(experiment.dataset),
        "computed_by": computed_by(experiment.mesh, convolutions)
        | {"steps_per_dispatch": str(experiment.config.steps_per_dispatch)},
        "extended": [],
    }


def computed_by(mesh: Mesh, convolutions: str) -> dict[str, str]:
    """What the last digits of a run's numbers depend on beside its settings and data."""
    device = mesh.devices.flat[0]
    what = {"devices": f"{mesh.size} × {device.device_kind}", "jaxlib": metadata.version("jaxlib")}
    if device.platform == "cpu":
        what |= {"processor": _processor(), "threads": str(data.cores()), "convolutions by": convolutions}
        what |= {"threads of oneDNN": str(_openmp_threads())} if convolutions.startswith("onednn") else {}
    return what


def warn_if_computed_otherwise(before: dict[str, str], now: dict[str, str], warn: Callable[[str], None]) -> None:
    """One line for a run that goes on with other last digits."""
    different = [f"{name}: {before[name]} -> {now.get(name, 'none')}" for name in before if before[name] != now.get(name)]
    if different:
        warn(
            f"until now this run was computed otherwise ({'; '.join(different)}); from here on its numbers differ in the last "
            "digits from the numbers of an uninterrupted run"
        )


def _openmp_threads() -> int:
    """As many as OpenMP starts, by its environment variables or else the cores."""

    def number(name: str) -> int:
        text = os.environ.get(name, "").split(",")[0].strip()
        return int(text) if text.isdecimal() and int(text) else 0

    return min(number("OMP_NUM_THREADS") or data.cores(), number("OMP_THREAD_LIMIT") or data.cores())


def _processor() -> str:
    """Its model: XLA and oneDNN use the instructions that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
