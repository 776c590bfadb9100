"""The training loop: `run(config, workdir)` trains one network and leaves its results in a folder.

config.json        every setting, resolved
metrics.jsonl      a row for each interval of training and for each evaluation
tensorboard/       the same, as TensorBoard events
checkpoints/       the latest and the best; damaged ones are moved to checkpoints.damaged/
summary.json       the result
report.html        the page that shows it
"""

import dataclasses
import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from jaxcnn import config as settings
from jaxcnn.config import Config
from jaxcnn.errors import UserError
from jaxcnn.evaluate import collect, measure
from jaxcnn.files import user_path, write_text
from jaxcnn.layers import cpu_convolution
from jaxcnn.tasks.losses import evaluation_losses
from jaxcnn.train import resume
from jaxcnn.train.accidents import accidents_in
from jaxcnn.train.checkpoints import Checkpoints, Meta
from jaxcnn.train.clock import AheadOfTime, Clock
from jaxcnn.train.dispatch import Dispatch
from jaxcnn.train.experiment import Experiment, prepare
from jaxcnn.train.interrupts import Interrupts
from jaxcnn.train.interval import Interval
from jaxcnn.train.log import Row, RunLog, is_evaluation, read_history, resumed_history, say
from jaxcnn.train.result import write_result
from jaxcnn.train.state import TrainState, count_parameters
from jaxcnn.train.workdir import check_paths, held


class Interrupted(UserError):
    """Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 came, and all is saved. The exit code is the shell's for that signal."""

    label = "stopped"

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.exit_code = 128 + signal


def run(
    config: ConfigDict | Config, workdir: str | Path, *, console: Console | None = None, extend: bool = False
) -> dict[str, Any]:
    """Trains what `config` says, or goes on where an earlier run in `workdir` stopped; returns summary.json's content.

    With `extend` the settings may have a larger `total` than the earlier run's, which may be finished.

    Raises:
      UserError: a mistake in the settings, a folder in use or of another config or other data.
      RunFailed: the loss is not finite, the disk is full, memory is short; the last good checkpoint is kept.
      Interrupted: Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 came, all is saved; the same call goes on.
    """
    config, workdir, console, clock = settings.validate(config), user_path(workdir), console or Console(), Clock()

    def warn(text: str) -> None:
        say(console, f"warning: {text}")

    with held(workdir), accidents_in(workdir), Interrupts() as interrupts:
        check_paths(workdir)
        checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep, warn=warn)
        summary, meta = resume.finished_summary(workdir, warn), checkpoints.latest_meta()
        earlier = resume.earlier_config(workdir, meta, bool(summary), warn)
        if extend and not (earlier and meta):
            raise UserError(f"--extend: {workdir} holds no run that could go on")
        longer = earlier is not None and resume.check_config(workdir, earlier, config, extend=extend)
        if summary and not longer:
            say(console, f"{workdir} holds the result of this run already; nothing is left to do")
            return summary

        # ── what is to be done, and what was done already ───────────────────────────────────────────────────────────
        convolutions = cpu_convolution()
        experiment = prepare(config)
        record = resume.record(experiment, convolutions)
        if meta:
            resume.check_data(workdir, meta, record)
            record["extended"] = meta.get("extended", [])
        planned = resume.steps_before_extension(earlier, experiment) if earlier and longer else 0
        state, meta = checkpoints.restore_latest(template := experiment.state_template()) or (None, {})
        dispatch = Dispatch(experiment, int(state.step) if state else 0, clock)
        if state is None:
            if not config.model.pretrained:  # fresh parameters are another program to compile
                dispatch.begin(template)
            with clock.counting("initial"):
                state = experiment.initial_state(functools.partial(say, console), clock)
        interval = Interval(**meta.get("interval", {}))
        history = resumed_history(read_history(workdir, warn), int(state.step), meta.get("history"), warn)
        if meta:
            clock.go_on(meta["seconds"])
            resume.warn_if_computed_otherwise(meta.get("computed_by", {}), record["computed_by"], warn)
        if longer:
            record["extended"] = [*record["extended"], {"at_step": int(state.step), "from_steps": planned}]
            (workdir / "summary.json").unlink(missing_ok=True)
        write_text(workdir / "config.json", settings.to_json(config))
        _introduce(console, experiment, state, convolutions)
        if longer:
            say(
                console,
                f"extended from {planned:,} steps: from here on the schedule is computed for the new total, so the "
                "result differs from a run with this total from the beginning",
            )
        _say_skipped(console, experiment, " so far")

        # ── training ────────────────────────────────────────────────────────────────────────────────────────────────
        predict = AheadOfTime(experiment.predict(), clock)
        steps = {"total_steps": experiment.total_steps, "step": int(state.step)}
        with RunLog(workdir, **steps, history=history, console=console) as log:
            state = _train(experiment, state, interval, dispatch, predict, checkpoints, log, clock, interrupts, record)
        checkpoints.wait()
        interrupts.unsaved = False

        # ── the result ──────────────────────────────────────────────────────────────────────────────────────────────
        summary = write_result(
            workdir,
            experiment,
            state,
            predict,
            checkpoints,
            log.history,
            best_step(log.history),
            clock,
            record["extended"],
        )
        checkpoints.close()
        _say_skipped(console, experiment)
    return summary


def _introduce(console: Console, experiment: Experiment, state: TrainState, convolutions: str) -> None:
    dataset, device, step = experiment.dataset, experiment.mesh.devices.flat[0], int(state.step)
    sizes = [f"{len(source):,} {name}" for name in ("train", "validation", "test") if (source := getattr(dataset, name))]
    say(
        console,
        f"{experiment.config.model.name}, {count_parameters(state.params):,} parameters, on {experiment.config.data.name} "
        f"({', '.join(sizes)}), {experiment.total_steps:,} steps of {experiment.config.batch_size} on "
        f"{experiment.mesh.size} × {device.device_kind}"
        + (f", convolutions by {convolutions}" if convolutions else "")
        + (f"; resumed at step {step:,}" if step else ""),
    )
    names, seen = dataset.class_names, experiment.preprocessing
    height, width, channels = seen.image_shape
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (seen.mean, seen.std))
    say(
        console,
        f"{len(names)} classes: {', '.join(names[:10])}{', …' if names[10:] else ''}; images of {height}×{width} pixels"
        + (f", resized to {seen.size[0]}×{seen.size[1]}," if seen.size != (height, width) else "")
        + f" with {channels} channel{'s' if channels > 1 else ''}, mean {mean}, standard deviation {std}",
    )
    for note in dataset.notes:
        say(console, note)


def _say_skipped(console: Console, experiment: Experiment, when: str = "") -> None:
    """At the start what is known by then, all of resident training data; at the end all."""
    if line := experiment.reading.skipped_line(when):
        say(console, line)


def _train(
    experiment: Experiment,
    state: TrainState,
    interval: Interval,
    dispatch: Dispatch,
    predict: AheadOfTime,
    checkpoints: Checkpoints,
    log: RunLog,
    clock: Clock,
    interrupts: Interrupts,
    record: Meta,
) -> TrainState:
    """Steps from `state` to the end, with rows, evaluations and checkpoints at their intervals."""
    config, dataset, total = experiment.config, experiment.dataset, experiment.total_steps
    step, size = int(state.step), len(dataset.train)
    if _stopped_early(config, log.history):
        return state

    validation = experiment.batches_once(dataset.validation) if dataset.validation else None
    losses = evaluation_losses(config.loss)
    pending: list[tuple[dict[str, jax.Array], int]] = []  # metrics of steps that may still be under way, and how many

    def evaluate() -> Row:
        assert validation is not None
        row: dict[str, float] = {"step": step, "epoch": step * config.batch_size / size}
        networks = {"validation": state.variables} | ({} if state.ema is None else {"validation_ema": state.ema})
        logits, labels = collect(predict, list(networks.values()), validation())
        for name, of_network in zip(networks, logits, strict=True):
            figures = measure(of_network, labels, experiment.task, losses)
            row |= {f"{name}_{figure}": value for figure, value in figures.items() if figure != "examples"}
        return row

    def save() -> None:
        extra = {"interval": dataclasses.asdict(interval), "seconds": clock.to_json(), "step": step}
        evaluations = [row for row in log.history if is_evaluation(row)]  # they decide which step is best
        checkpoints.save(state, record | extra | {"history": evaluations}, best_step=best_step(log.history))

    mark = time.perf_counter()
    for count in dispatch.counts:
        waiting = time.perf_counter()
        with jax.transfer_guard("disallow"):  # what goes to the device is put there by the reader, and nothing comes back
            batch = next(dispatch.batches)
            interval.waited += time.perf_counter() - waiting
            compiled = clock.compile
            state, metrics = dispatch(state, batch, step, count)
            mark += clock.compile - compiled  # that was no training
        if experiment.on_cpu and experiment.mesh.size > 1:
            jax.block_until_ready(metrics)  # virtual devices whose collectives are not waited for deadlock
        pending.append((metrics, count))
        step += count
        interrupts.unsaved = True
        log.progress(step)

        due = {name: step % n == 0 or step == total for name, n in dispatch.every.items()} | {"stop": bool(interrupts.signal)}
        if not any(due.values()):
            continue
        interval.add(pending, step, log.history, checkpoints)
        pending.clear()
        clock.training += (elapsed := time.perf_counter() - mark)
        interval.seconds += elapsed
        if due["log"]:
            log.row({"step": step, "epoch": step * config.batch_size / size, **interval.row(config.batch_size)})
            interval = Interval()
        if due["evaluate"] and validation:
            log.row(evaluate())
        finished = step == total or _stopped_early(config, log.history)
        stop = interrupts.signal  # asked once: one that comes after this is seen after the next step
        if due["checkpoint"] or stop or finished or best_step(log.history) == step:
            save()
        if finished:
            break
        if stop:
            checkpoints.close()
            raise Interrupted(
                f"by {stop.name} after step {step:,} of {total:,}; all is saved; run the same command again to resume", stop
            )
        mark = time.perf_counter()
    if step < total:
        log.say(f"no better validation accuracy in {config.early_stop.patience} evaluations: stopped early")
    return state


def validation_accuracy(row: Row) -> float | None:
    """The accuracy that decides which parameters are best: the average's where there is one."""
    return row.get("validation_ema_accuracy", row.get("validation_accuracy"))


def best_step(history: Sequence[Row]) -> int | None:
    """The step of the best evaluation, the first of equals; None where there was none."""
    accuracies = [(accuracy, -int(row["step"])) for row in history if (accuracy := validation_accuracy(row)) is not None]
    return -max(accuracies)[1] if accuracies else None


def _stopped_early(config: Config, history: Sequence[Row]) -> bool:
    """Whether the last early_stop.patience evaluations brought nothing better by more than early_stop.min_delta."""
    best, since = -math.inf, 0
    for row in history:
        if (accuracy := validation_accuracy(row)) is not None:
            better = accuracy > best + config.early_stop.min_delta
            best, since = (accuracy, 0) if better else (best, since + 1)
    return bool(config.early_stop.patience) and since >= config.early_stop.patience
