"""A training run: `run(config, workdir)` trains one network and leaves its results in a folder.

config.json        every setting, resolved
metrics.jsonl      a row for each interval of training and for each evaluation
tensorboard/       the same, as TensorBoard events
checkpoints/       the latest and the best; damaged ones are moved to checkpoints.damaged/
summary.json       the result
report.html        the page that shows it
"""

import signal
from pathlib import Path
from typing import Any, NoReturn

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
from jaxcnn.train.accidents import accidents_in
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.clock import Clock
from jaxcnn.train.experiment import Experiment, frozen_collections, prepare
from jaxcnn.train.interrupts import Interrupts
from jaxcnn.train.interval import Interval, first_not_finite, metrics_of, not_finite
from jaxcnn.train.introduction import introduction
from jaxcnn.train.log import Row, RunLog, is_evaluation, read_history, resumed_history, say
from jaxcnn.train.programs import AheadOfTime
from jaxcnn.train.result import write_result
from jaxcnn.train.state import TrainState
from jaxcnn.train.steps import Call, Steps
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
    """Trains what `config` says, or resumes an earlier run in `workdir`; returns the content of summary.json.

    With `extend` the settings may have a larger `total` than the earlier run's, which may be finished.

    Raises:
      UserError: a mistake in the settings, a folder in use or of another config or other data.
      RunFailed: the loss is not finite, the disk is full, memory is short; the last good checkpoint is kept.
      Interrupted: Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 came, all is saved; the same call resumes.
    """
    return Run(config, workdir, console=console).train(extend=extend)


def _console() -> Console:
    """The terminal; in a notebook plain lines, for which Rich would write an HTML element per line."""
    console = Console()
    return Console(force_jupyter=False, force_terminal=False) if console.is_jupyter else console


class Run:
    """One training in one folder, with its experiment, checkpoints, log, clock and interrupts."""

    experiment: Experiment
    log: RunLog
    interval: Interval
    steps: Steps
    tally: AheadOfTime

    def __init__(self, config: ConfigDict | Config, workdir: str | Path, *, console: Console | None = None):
        self.config, self.workdir, self.console = settings.validate(config), user_path(workdir), console or _console()
        self.clock, self.interrupts = Clock(), Interrupts()
        self.checkpoints = Checkpoints(self.workdir / "checkpoints", keep=self.config.checkpoint.keep, warn=self.warn)
        self._pending: list[tuple[Metrics, int]] = []  # of each call since the last row: metrics, and how many steps

    def train(self, *, extend: bool = False) -> dict[str, Any]:
        """From the beginning, or from where an earlier run in the folder stopped, to the result; see `run`."""
        with held(self.workdir), accidents_in(self.workdir), self.interrupts:
            check_paths(self.workdir)
            earlier = resume.earlier_run(self.workdir, self.config, self.checkpoints, extend, self.warn)
            if earlier.result:
                self.say(f"{self.workdir} holds the result of this run already; nothing is left to do")
                return earlier.result
            state = self._begin(earlier)

            with self.log:
                calls = () if self._is_last(int(state.step)) else self.steps(state)
                for call in self.clock.each("training", calls):
                    self._add(call)
                    if not (due := self._due(call.step)):
                        continue
                    self._wait(call.step)
                    if "log" in due:
                        self._log_interval(call.step)
                    if "evaluate" in due and self.experiment.dataset.validation:
                        self.log.row(self.evaluate(call.state, call.step))
                    state, stop = call.state, self.interrupts.signal  # one that comes after this is seen after the next step
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

    def _begin(self, earlier: resume.Earlier) -> TrainState:
        """Resolves the settings, and restores the state or makes it."""
        convolutions, clock = cpu_convolution(), self.clock
        self.experiment = experiment = prepare(self.config)
        self.record = resume.record(experiment, convolutions)
        resume.check(self.workdir, earlier, experiment, self.record)
        self.checkpoints.left_out = experiment.task.frozen
        state, meta = self.checkpoints.restore_latest(template := experiment.state_template()) or (None, {})
        self.steps = Steps(experiment, int(state.step) if state else 0, clock)
        if state is None:
            if not self.config.model.pretrained:  # fresh parameters are another program to compile
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
            clock.go_on(meta["seconds"])
            resume.warn_if_computed_otherwise(meta.get("computed_by", {}), self.record["computed_by"], self.warn)
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
        """Notes a call of the device, whose steps may still be under way."""
        self._pending.append((call.metrics, call.steps))
        self.interval.waited += call.waited
        self.interrupts.unsaved = True
        self.log.progress(call.step)

    def _due(self, step: int) -> set[str]:
        """What is to be done after this step: "log", "evaluate", "checkpoint", or "stop" for a signal."""
        due = {name for name, n in self.experiment.every.items() if step % n == 0 or step == self.experiment.total_steps}
        return due | ({"stop"} if self.interrupts.signal else set())

    def _wait(self, step: int) -> None:
        """Waits for the steps up to this one, and adds them to the interval.

        Raises:
          RunFailed: the loss or the gradient of one is not finite.
        """
        with self.clock.counting("training"):
            metrics = metrics_of(self._pending)
        self._pending.clear()
        one_phase = len(self.experiment.task.phases) == 1  # of several, one may be skipped: its loss is NaN
        if (bad := first_not_finite(metrics, loss=one_phase)) is not None:
            number = step - len(metrics["gradient_norm"]) + bad + 1
            self.checkpoints.wait()
            steps = self.checkpoints.steps()
            kept = f"the checkpoint of step {steps[-1]} is kept" if steps else "no checkpoint was due yet"
            self.checkpoints.close()
            raise RunFailed(
                f"{not_finite(metrics, bad, number, self.log.history)}; {kept}. Try a lower optimizer.learning_rate, a longer "
                "schedule.warmup, optimizer.clip_norm=1, or model.dtype=float32"
            )
        self.interval.add(metrics)
        self.interval.seconds += self.clock.training - self._timed
        self._timed = self.clock.training

    def _log_interval(self, step: int) -> None:
        self.log.row({**self._at(step), **self.interval.row(self.config.batch_size)})
        self.interval = Interval()

    def evaluate(self, state: TrainState, step: int) -> Row:
        """The row of an evaluation on the validation set: of the parameters and of their moving average."""
        networks = {"validation": state.variables} | ({} if state.ema is None else {"validation_ema": state.averaged})
        measured = measure(self.experiment.task, self.tally, list(networks.values()), self.experiment.validation)
        row = dict(self._at(step))
        for name, (_, figures) in zip(networks, measured, strict=True):
            row |= {f"{name}_{figure}": value for figure, value in figures.items() if figure != "examples"}
        if self.experiment.selection.quantity and self.experiment.selection.score(row) is None:
            name = self.experiment.selection.quantity.name
            raise UserError(f"task.name: the figures of {self.config.task.name} have no {name!r}, which selects checkpoints")
        return row

    def save(self, state: TrainState, step: int) -> None:
        """Starts to write a checkpoint."""
        evaluations = [row for row in self.log.history if is_evaluation(row)]  # they decide which step is best
        extra = {"interval": self.interval.to_json(), "seconds": self.clock.to_json(), "step": step, "history": evaluations}
        self.checkpoints.save(state, self.record | extra, best_step=self.best_step)

    @property
    def best_step(self) -> int | None:
        """The step of the best evaluation so far."""
        return self.experiment.selection.best_step(self.log.history)

    def _is_last(self, step: int) -> bool:
        """Whether training ends here: it is complete, or stops early."""
        selection, total = self.experiment.selection, self.experiment.total_steps
        if step < total and selection.quantity and selection.stopped_early(self.log.history):
            what = selection.quantity.label
            self.say(f"no better validation {what} in {selection.patience} evaluations: stopped early")
            return True
        return step == total

    def _stop(self, step: int, by: signal.Signals) -> NoReturn:
        """Ends the run, which is saved."""
        self.checkpoints.close()
        raise Interrupted(
            f"by {by.name} after step {step:,} of {self.experiment.total_steps:,}; all is saved; run the same command again "
            "to resume",
            by,
        )

    def _at(self, step: int) -> Row:
        return {"step": step, "epoch": step * self.config.batch_size / len(self.experiment.dataset.train)}

    def say(self, text: str) -> None:
        """One line, unless it is empty."""
        if text:
            say(self.console, text)

    def warn(self, text: str) -> None:
        """One line."""
        self.say(f"warning: {text}")
