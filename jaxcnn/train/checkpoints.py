"""Checkpoints: written by orbax in the background, whole or not at all, and checked when they are read.

checkpoints/STEP/ holds three trees and what is needed to use them without the code that trained them:

    variables   {"params", "batch_stats", and what else the task has}
    ema         {"params", "batch_stats"}, averaged; only where the run has it
    training    {"step", "seed", "opt_state"}
    meta        model name and arguments, class names, preprocessing, config, the best step; shapes and checksum of each tree

Three things can be wrong with one. It is *damaged* where a file is missing or a checksum differs: it is passed over, and a
run that goes on moves it to checkpoints.damaged/. It *can't be read now* (no permission, a network drive that does not
answer), or it *does not fit* the model: both are refused, and nothing is changed.
"""

import contextlib
import dataclasses
import gc
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxcnn.errors import UserError
from jaxcnn.files import sync_folder
from jaxcnn.train.state import TrainState, Variables

Meta = dict[str, Any]

_GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # of the OSErrors those that mean damage
_NOT_NOW = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")  # tensorstore's words for the others


class _Damaged(Exception):
    """What is wrong with a checkpoint."""


@dataclasses.dataclass
class _LatestAndBest:
    """Which checkpoints orbax keeps: the latest few, and the one with the best parameters."""

    latest: int
    best_step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        latest = {info.step for info in checkpoints[-self.latest :]}
        return [info.step in latest or info.step == self.best_step for info in checkpoints]


class Checkpoints:
    """The checkpoints of one run. The folder is made when the first is saved."""

    left_out: tuple[str, ...] = ()
    """collections of the variables that are not written, for they never change"""

    def __init__(self, folder: Path, *, keep: int = 2, warn: Callable[[str], None] = print):
        self._folder, self._policy, self._warn = folder.absolute(), _LatestAndBest(keep), warn
        self._made: ocp.CheckpointManager | None = None
        self._said: set[str] = set()

    @property
    def _manager(self) -> ocp.CheckpointManager:
        if self._made is None:
            options = ocp.CheckpointManagerOptions(preservation_policy=self._policy)
            self._made = ocp.CheckpointManager(self._folder, options=options)
        return self._made

    def save(self, state: TrainState, meta: Meta, *, best_step: int | None) -> None:
        """Starts to write `state`; returns once it is copied to the host, so that it may be donated."""
        trees = jax.device_get(self._trees(state))
        step = int(trees["training"]["step"])
        self._policy.best_step = best_step
        of_trees = {
            "shapes": {name: _shapes(tree) for name, tree in trees.items()},
            "checksums": {name: _checksum(tree) for name, tree in trees.items()},
        }
        meta = _with_checksum(meta | {"best_step": best_step} | of_trees)
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        if step in self._manager.all_steps():  # a damaged one: the run has gone back behind it
            self._set_aside([step])
        self._manager.save(step, args=ocp.args.Composite(meta=ocp.args.JsonSave(meta), **items))

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, ascending."""
        return sorted(self._manager.all_steps()) if self._made or self._folder.is_dir() else []

    def restore_latest(self, template: TrainState) -> tuple[TrainState, Meta] | None:
        """The latest state that is not damaged, laid out as `template` (shapes with shardings); None if there is none.

        Damaged checkpoints are said and, once an earlier one is restored, moved out of the way.

        Raises:
          UserError: all are damaged; one can't be read now, or is of another model.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                meta = self._meta(step)
                trees = {name: self._tree(step, name, tree, meta) for name, tree in self._trees(template).items()}
            except _Damaged as damage:
                self._say_damaged(step, damage)
                damaged.append(step)
                continue
            self._set_aside(damaged)
            training = trees["training"]
            state = TrainState(training["step"], training["seed"], trees["variables"], training["opt_state"], trees.get("ema"))
            return state, meta
        if damaged:
            raise UserError(f"{self._folder}: none of the checkpoints {self.steps()} can be read")
        return None

    def latest_meta(self) -> Meta | None:
        """What goes with the latest checkpoint whose meta is not damaged; None if there is none."""
        for step in reversed(self.steps()):
            try:
                return self._meta(step)
            except _Damaged as damage:
                self._say_damaged(step, damage)
        return None

    def restore_variables(self, step: int, template: Variables, name: str = "variables") -> Variables | None:
        """The tree "variables" or "ema" of one checkpoint; None, and said, if it is damaged; None if it is gone.

        Raises:
          UserError: it can't be read now, or is of another model.
        """
        if step not in self.steps():
            return None
        try:
            return self._tree(step, name, template, self._meta(step))
        except _Damaged as damage:
            self._say_damaged(step, damage)
            return None

    def wait(self) -> None:
        """Returns once all that was saved is on disk."""
        if self._made:
            self._made.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends the threads."""
        if self._made:
            self._made.close()

    def _trees(self, state: TrainState) -> dict[str, Any]:
        variables = {name: tree for name, tree in state.variables.items() if name not in self.left_out}
        trees = {"variables": variables, "training": {"step": state.step, "seed": state.seed, "opt_state": state.opt_state}}
        return trees | ({} if state.ema is None else {"ema": state.ema})

    def _say_damaged(self, step: int, damage: _Damaged) -> None:
        text = f"checkpoint {step} is damaged ({damage})"
        if text not in self._said:
            self._warn(text)
        self._said.add(text)

    def _set_aside(self, steps: Sequence[int]) -> None:
        """Moves checkpoints into the folder *.damaged beside, under names that are free."""
        if not steps:
            return
        self.wait()
        aside = self._folder.with_name(self._folder.name + ".damaged")
        aside.mkdir(exist_ok=True)
        for step in steps:
            names = [str(step), *(f"{step}.{copy}" for copy in range(1, 1000))]
            free = next(name for name in names if not (aside / name).exists())
            os.rename(self._folder / str(step), aside / free)
            self._warn(f"checkpoint {step} was moved to {aside / free}")
        sync_folder(aside)
        sync_folder(self._folder)
        self._manager.reload()

    def _meta(self, step: int) -> Meta:
        meta = self._restore(step, "meta", ocp.args.JsonRestore())
        if not isinstance(meta, dict) or not isinstance(meta.get("checksums"), dict) or "best_step" not in meta:
            raise _Damaged("meta: not what a run writes there")
        # checkpoints of earlier versions have no checksum of it
        if meta["checksums"].get("meta") not in (None, _with_checksum(meta)["checksums"]["meta"]):
            raise _Damaged("meta has changed since it was written")
        return meta

    def _tree(self, step: int, name: str, template: Any, meta: Meta) -> Any:
        if "shapes" in meta:
            self._check_shapes(step, name, template, meta["shapes"].get(name, {}))
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), template)
        tree = self._restore(step, name, ocp.args.StandardRestore(shapes))
        # orbax reads a flipped bit in an array without complaint
        if _checksum(jax.device_get(tree)) != meta["checksums"].get(name):
            raise _Damaged(f"{name} has changed since it was written")
        return tree

    def _check_shapes(self, step: int, name: str, template: Any, stored: dict[str, str]) -> None:
        """That a tree is of this model and optimizer: the checkpoint is sound, and would be called damaged."""
        wanted = _shapes(template)
        different = [path for path in sorted(stored.keys() | wanted) if stored.get(path) != wanted.get(path)]
        if different:
            path, more = different[0], f" and {len(different) - 1} more" if different[1:] else ""
            raise UserError(
                f"{self._folder}: checkpoint {step} does not fit the model and optimizer as they are now: {name}/{path} is "
                f"{stored.get(path, 'missing')} there, {wanted.get(path, 'missing')} here{more}; their code has changed since. "
                "Nothing was changed"
            )

    def _restore(self, step: int, name: str, how: Any) -> Any:
        """One item of a checkpoint."""
        try:
            with _quiet_coroutines():
                return self._manager.restore(step, args=ocp.args.Composite(**{name: how}))[name]
        except MemoryError:
            raise
        except Exception as error:  # tensorstore and orbax raise whatever the damage led to
            first = str(error).split("\n")[0][:100]
            if reason := _why_not_now(error, self._folder / str(step)):
                raise UserError(
                    f"{self._folder}: checkpoint {step} can't be read now ({reason}); nothing was changed. Try again, or move "
                    f"{self._folder / str(step)} away to go on from an earlier one"
                ) from error
            raise _Damaged(f"{name}: {type(error).__name__}: {first}") from error


def _why_not_now(error: Exception, folder: Path) -> str:
    """The reason why files that may be sound could not be read; "" where they can be, or are gone."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, _GONE):
        return os.strerror(error.errno)
    if status := next((status for status in _NOT_NOW if str(error).startswith(status)), ""):
        return status.replace("_", " ").lower()
    for path in folder.rglob("*"):  # tensorstore's text does not always say
        try:
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass
        except _GONE:
            continue
        except OSError as cause:
            return f"{path.name}: {cause.strerror}"
    return ""


def _shapes(tree: Any) -> dict[str, str]:
    """{"params/head/kernel": "float32 (84, 10)", …}."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): f"{x.dtype} {x.shape}" for path, x in leaves}


def _checksum(tree: Any) -> int:
    """CRC-32 of all arrays, in tree order."""
    crc = 0
    for leaf in jax.tree.leaves(tree):
        crc = zlib.crc32(np.ascontiguousarray(leaf).data, crc)
    return crc


def _with_checksum(meta: Meta) -> Meta:
    """`meta` as JSON gives it back, with the CRC-32 of all else that is in it."""
    meta = json.loads(json.dumps(meta))
    meta["checksums"].pop("meta", None)
    meta["checksums"]["meta"] = zlib.crc32(json.dumps(meta, sort_keys=True).encode())
    return meta


@contextlib.contextmanager
def _quiet_coroutines() -> Iterator[None]:
    """Orbax's readers that were not awaited when the first one failed print their tracebacks as they are collected.

    Others end later, and find the loop closed that waited for them: of those nothing is said from then on.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    after = hook

    def but_closed_loops(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    try:
        yield
    except Exception:
        gc.collect()
        after = but_closed_loops
        raise
    finally:
        sys.unraisablehook = after
