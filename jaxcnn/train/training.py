"""A training run: `run(config, workdir)` trains one network and writes its results to a folder.

config.json        all settings with their values
metrics.jsonl      one row per interval of training and per evaluation
tensorboard/       the same metrics as TensorBoard events
checkpoints/       the latest checkpoints and the best; damaged ones are moved to checkpoints.damaged/
summary.json       the results
report.html        a page with the results
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from jaxcnn import config as settings
from jaxcnn.config import Config
from jaxcnn.errors import RunFailed, UserError
from jaxcnn.evaluate import make_tally, measure
from jaxcnn.files import user_path, write_text
from jaxcnn.layers import cpu_convolution
from jaxcnn.tasks.task import Metrics
from jaxcnn.train import resume
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.clock import Clock
from jaxcnn.train.experiment import Experiment, frozen_collections, prepare
from jaxcnn.train.failures import explain_failures
from jaxcnn.train.interrupts import Interrupts
from jaxcnn.train.interval import Interval, describe_not_finite, first_not_finite, metrics_of
from jaxcnn.train.introduction import introduction
from jaxcnn.train.log import Row, RunLog, is_evaluation, read_history, resumed_history, say
from jaxcnn.train.programs import AheadOfTime
from jaxcnn.train.result import write_result
from jaxcnn.train.state import TrainState
from jaxcnn.train.steps import Call, Steps
from jaxcnn.train.workdir import check_paths, locked


class Interrupted(UserError):
    """A signal such as SIGINT (Ctrl-C) or SIGTERM stopped the run after it was saved. Commands exit with 128 + signal."""

    label = "stopped"

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.exit_code = 128 + signal


def run(
    config: ConfigDict | Config, workdir: str | Path, *, console: Console | None = None, extend: bool = False
) -> dict[str, Any]:
    """Trains a network with the settings `config`, or resumes the run in `workdir`, and returns the content of summary.json.

    With `extend`, `total` may be larger than in the earlier run, even if that is finished.

    Raises:
      UserError: if the settings are invalid, or if the folder is in use or contains a run with another config or data.
      RunFailed: if the loss is not finite, the disk is full or memory is short; the latest checkpoint is kept.
      Interrupted: if a signal such as SIGINT (Ctrl-C) or SIGTERM stopped the run; the same call resumes it.
    """
    return Run(config, workdir, console=console).train(extend=extend)


def _console() -> Console:
    """The terminal; in a notebook plain lines, for which Rich would write an HTML element per line."""
    console = Console()
    return Console(force_jupyter=False, force_terminal=False) if console.is_jupyter else console


class Run:
    """A training run in a folder, with its experiment, checkpoints, log, clock and signal handling."""

    experiment: Experiment
    log: RunLog
    interval: Interval
    steps: Steps
    tally: AheadOfTime

    def __init__(self, config: ConfigDict | Config, workdir: str | Path, *, console: Console | None = None):
        self.config, self.workdir, self.console = settings.validate(config), user_path(workdir), console or _console()
        self.clock, self.interrupts = Clock(), Interrupts()
        self.checkpoints = Checkpoints(self.workdir / "checkpoints", keep=self.config.checkpoint.keep, warn=self.warn)
        self._pending: list[tuple[Metrics, int]] = []  # metrics and number of steps of each call since the last row

    def train(self, *, extend: bool = False) -> dict[str, Any]:
        """Trains from the beginning or resumes the run in the folder, and returns its summary; see `run`."""
        with locked(self.workdir), explain_failures(self.workdir), self.interrupts:
            check_paths(self.workdir)
            earlier = resume.earlier_run(self.workdir, self.config, self.checkpoints, extend, self.warn)
            if earlier.result:
                self.say(f"{self.workdir} already contains the result of this run; nothing to do")
                return earlier.result
            state = self._begin(earlier)

            with self.log:
                calls = () if self._is_last(int(state.step)) else self.steps(state)
                for call in self.clock.each("training", calls):
                    self._add(call)
                    if not (due := self._due(call.step)):
                        continue
                    self._collect_metrics(call.step)
                    if "log" in due:
                        self._log_interval(call.step)
                    if "evaluate" in due and self.experiment.dataset.validation:
                        self.log.row(self.evaluate(call.state, call.step))
                    state, stop = call.state, self.interrupts.signal  # a later signal takes effect after the next step
                    last = self._is_last(call.step)
                    if "checkpoint" in due or stop or last or self.best_step == call.step:
                        self.save(state, call.step)
                    if last:
                        break
                    if stop:
                        self._stop(call.step, stop)

            self.checkpoints.wait()
            self.interrupts.unsaved = False
            summary = write_result(self, state)
            self.checkpoints.close()
            self.say(self.experiment.reading.skipped_line())
        return summary

    def _begin(self, earlier: resume.EarlierRun) -> TrainState:
        """Prepares the experiment and the log, and restores or creates the state."""
        convolutions, clock = cpu_convolution(), self.clock
        self.experiment = experiment = prepare(self.config)
        self.record = resume.record(experiment, convolutions)
        resume.check(self.workdir, earlier, experiment, self.record)
        self.checkpoints.excluded = experiment.task.frozen
        state, meta = self.checkpoints.restore_latest(template := experiment.state_template()) or (None, {})
        self.steps = Steps(experiment, int(state.step) if state else 0, clock)
        if state is None:
            if not self.config.model.pretrained:  # initialization is a separate program to compile
                self.steps.compile_ahead(template)
            with clock.counting("initial"):
                state = experiment.initial_state(self.say, clock)
        else:
            frozen = frozen_collections(experiment.task, experiment.setup, experiment.mesh)
            state = state.replace(variables=state.variables | frozen)
        step = int(state.step)
        self.interval = Interval.from_json(meta.get("interval", {}))
        history = resumed_history(read_history(self.workdir, self.warn), step, meta.get("history"), self.warn)
        if meta:
            clock.resume(meta["seconds"])
            resume.warn_if_environment_changed(meta.get("computed_by", {}), self.record["computed_by"], self.warn)
        lines = introduction(experiment, state, convolutions)
        if earlier.extends:
            lines.append(resume.extend(self.workdir, earlier, experiment, self.record, step))
        write_text(self.workdir / "config.json", settings.to_json(self.config))
        for line in [*lines, experiment.reading.skipped_line(" so far")]:
            self.say(line)
        self.tally = AheadOfTime(make_tally(experiment.task, experiment.mesh), clock)
        self.log = RunLog(self.workdir, total_steps=experiment.total_steps, step=step, history=history, console=self.console)
        self._timed = clock.training
        return state

    def _add(self, call: Call) -> None:
        """Records a call of the device, which may still be running."""
        self._pending.append((call.metrics, call.steps))
        self.interval.waited += call.waited
        self.interrupts.unsaved = True
        self.log.progress(call.step)

    def _due(self, step: int) -> set[str]:
        """Returns the actions due after this step: "log", "evaluate", "checkpoint", and "stop" after a signal."""
        due = {name for name, n in self.experiment.every.items() if step % n == 0 or step == self.experiment.total_steps}
        return due | ({"stop"} if self.interrupts.signal else set())

    def _collect_metrics(self, step: int) -> None:
        """Waits for the calls up to this step, checks that their metrics are finite, and adds them to the interval."""
        with self.clock.counting("training"):
            metrics = metrics_of(self._pending)
        self._pending.clear()
        self._check_finite(metrics, step)
        self.interval.add(metrics)
        self.interval.seconds += self.clock.training - self._timed
        self._timed = self.clock.training

    def _check_finite(self, metrics: Mapping[str, np.ndarray], step: int) -> None:
        """Fails if the loss or the gradient norm of a step is not finite. `metrics` are those of the steps up to `step`."""
        one_phase = len(self.experiment.task.phases) == 1  # of several phases one may be skipped, and then its loss is NaN
        if (index := first_not_finite(metrics, loss=one_phase)) is not None:
            number = step - len(metrics["gradient_norm"]) + index + 1
            self._fail(
                describe_not_finite(metrics, index, number, self.log.history),
                "Try a lower optimizer.learning_rate, a longer schedule.warmup, optimizer.clip_norm=1 or model.dtype=float32",
            )

    def _log_interval(self, step: int) -> None:
        self.log.row({**self._at(step), **self.interval.row(self.config.batch_size)})
        self.interval = Interval()

    def evaluate(self, state: TrainState, step: int) -> Row:
        """Evaluates the parameters and their moving average on the validation set, and returns the row of metrics."""
        networks = {"validation": state.variables} | ({} if state.ema is None else {"validation_ema": state.averaged})
        measured = measure(self.experiment.task, self.tally, list(networks.values()), self.experiment.validation)
        row = dict(self._at(step))
        for name, (_, metrics) in zip(networks, measured, strict=True):
            row |= {f"{name}_{metric}": value for metric, value in metrics.items() if metric != "examples"}
        if self.experiment.selection.quantity and self.experiment.selection.score(row) is None:
            name = self.experiment.selection.quantity.name
            raise UserError(f"task.name: {self.config.task.name} reports no metric {name!r}, which selects checkpoints")
        return row

    def save(self, state: TrainState, step: int) -> None:
        """Starts to write a checkpoint."""
        evaluations = [row for row in self.log.history if is_evaluation(row)]  # they determine the best step
        extra = {"interval": self.interval.to_json(), "seconds": self.clock.to_json(), "step": step, "history": evaluations}
        self.checkpoints.save(state, self.record | extra, best_step=self.best_step)

    @property
    def best_step(self) -> int | None:
        """The step of the best evaluation so far, or None."""
        return self.experiment.selection.best_step(self.log.history)

    def _is_last(self, step: int) -> bool:
        """Returns whether training ends at this step, because it is complete or stops early."""
        selection, total = self.experiment.selection, self.experiment.total_steps
        if step < total and selection.quantity and selection.stopped_early(self.log.history):
            label, patience = selection.quantity.label, selection.patience
            evaluations = "evaluation" if patience == 1 else f"{patience} evaluations"
            self.say(f"stopped early: no improvement of validation {label} in the last {evaluations}")
            return True
        return step == total

    def _stop(self, step: int, by: signal.Signals) -> NoReturn:
        """Ends the saved run after a signal."""
        self.checkpoints.close()
        raise Interrupted(
            f"received {by.name} after step {step:,} of {self.experiment.total_steps:,}; the run is saved; run the same "
            "command again to resume",
            by,
        )

    def _fail(self, reason: str, advice: str) -> NoReturn:
        """Ends the run with an error that names the latest checkpoint."""
        self.checkpoints.wait()
        steps = self.checkpoints.steps()
        self.checkpoints.close()
        kept = f"the checkpoint of step {steps[-1]:,} is kept" if steps else "no checkpoint was due yet"
        raise RunFailed(f"{reason}; {kept}. {advice}")

    def _at(self, step: int) -> Row:
        return {"step": step, "epoch": step * self.config.batch_size / len(self.experiment.dataset.train)}

    def say(self, text: str) -> None:
        """Prints one line, unless it is empty."""
        if text:
            say(self.console, text)

    def warn(self, text: str) -> None:
        """Prints a warning in one line."""
        self.say(f"warning: {text}")
