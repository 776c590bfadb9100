"""Checkpoints: written by orbax in the background, completely or not at all, and verified when they are read.

checkpoints/STEP/ contains three trees, and a JSON object with all that is needed to use them on their own:

    variables   {"params", "batch_stats", and further collections of the task}
    ema         {"params", "batch_stats"}, averaged; only with ema.decay > 0
    training    {"step", "seed", "opt_state"}
    meta        model name and arguments, class names, preprocessing, config, the best step; shapes and checksum of each tree

There are three kinds of unusable checkpoints. A *damaged* one lacks a file or has a wrong checksum: it is skipped, and a
resumed run moves it to checkpoints.damaged/. One *can't be read now* if, for example, a permission is missing or a network
drive does not respond, and one *does not fit* if the model has changed: both raise a UserError, and no file is changed.
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

_GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # the OSErrors that mean damage
_NOT_NOW = (
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
)  # how tensorstore reports the other OSErrors


class _Damaged(Exception):
    """A checkpoint is damaged. The message names the problem."""


@dataclasses.dataclass
class _LatestAndBest:
    """Orbax's preservation policy: keeps the `latest` checkpoints and the one with the best parameters."""

    latest: int
    best_step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        latest = {info.step for info in checkpoints[-self.latest :]}
        return [info.step in latest or info.step == self.best_step for info in checkpoints]


class Checkpoints:
    """The checkpoints of one run. The folder is created when the first one is saved."""

    excluded: tuple[str, ...] = ()
    """collections of the variables that are not saved because they never change"""

    def __init__(self, folder: Path, *, keep: int = 2, warn: Callable[[str], None] = print):
        self._folder, self._policy, self._warn = folder.absolute(), _LatestAndBest(keep), warn
        self._created: ocp.CheckpointManager | None = None
        self._warned: set[str] = set()

    @property
    def _manager(self) -> ocp.CheckpointManager:
        if self._created is None:
            options = ocp.CheckpointManagerOptions(preservation_policy=self._policy)
            self._created = ocp.CheckpointManager(self._folder, options=options)
        return self._created

    def save(self, state: TrainState, meta: Meta, *, best_step: int | None) -> None:
        """Starts to write `state`. Returns as soon as it is copied to the host, so that its buffers can be donated."""
        trees = jax.device_get(self._trees(state))
        step = int(trees["training"]["step"])
        self._policy.best_step = best_step
        tree_meta = {
            "shapes": {name: _shapes(tree) for name, tree in trees.items()},
            "checksums": {name: _checksum(tree) for name, tree in trees.items()},
        }
        meta = _with_checksum(meta | {"best_step": best_step} | tree_meta)
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        if step in self._manager.all_steps():  # a damaged one: the run was resumed from an earlier step
            self._set_aside([step])
        self._manager.save(step, args=ocp.args.Composite(meta=ocp.args.JsonSave(meta), **items))

    def steps(self) -> list[int]:
        """Returns the steps of all checkpoints in ascending order."""
        return sorted(self._manager.all_steps()) if self._created or self._folder.is_dir() else []

    def restore_latest(self, template: TrainState) -> tuple[TrainState, Meta] | None:
        """Returns the latest undamaged state and its meta, or None. `template` has the shapes and shardings of the state.

        Damaged checkpoints cause a warning. Once an earlier one is restored, they are moved to checkpoints.damaged/.

        Raises:
          UserError: if all checkpoints are damaged, or if one cannot be read now or does not fit the model.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                meta = self._meta(step)
                trees = {name: self._tree(step, name, tree, meta) for name, tree in self._trees(template).items()}
            except _Damaged as damage:
                self._warn_damaged(step, damage)
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
        """Returns the meta of the latest checkpoint whose meta is undamaged, or None if none exists."""
        for step in reversed(self.steps()):
            try:
                return self._meta(step)
            except _Damaged as damage:
                self._warn_damaged(step, damage)
        return None

    def restore_variables(self, step: int, template: Variables, name: str = "variables") -> Variables | None:
        """Returns the tree "variables" or "ema" of one checkpoint; None if it does not exist or, with a warning, is damaged.

        Raises:
          UserError: if the checkpoint cannot be read now or does not fit the model.
        """
        if step not in self.steps():
            return None
        try:
            return self._tree(step, name, template, self._meta(step))
        except _Damaged as damage:
            self._warn_damaged(step, damage)
            return None

    def wait(self) -> None:
        """Waits until all checkpoints are written to disk."""
        if self._created:
            self._created.wait_until_finished()

    def close(self) -> None:
        """Waits until all checkpoints are written, and stops orbax's threads."""
        if self._created:
            self._created.close()

    def _trees(self, state: TrainState) -> dict[str, Any]:
        variables = {name: tree for name, tree in state.variables.items() if name not in self.excluded}
        trees = {"variables": variables, "training": {"step": state.step, "seed": state.seed, "opt_state": state.opt_state}}
        return trees | ({} if state.ema is None else {"ema": state.ema})

    def _warn_damaged(self, step: int, damage: _Damaged) -> None:
        """Warns about a damaged checkpoint, but only once."""
        text = f"checkpoint {step} is damaged ({damage})"
        if text not in self._warned:
            self._warn(text)
        self._warned.add(text)

    def _set_aside(self, steps: Sequence[int]) -> None:
        """Moves checkpoints to the neighboring folder *.damaged, under unused names."""
        if not steps:
            return
        self.wait()
        damaged_folder = self._folder.with_name(self._folder.name + ".damaged")
        damaged_folder.mkdir(exist_ok=True)
        for step in steps:
            names = [str(step), *(f"{step}.{copy}" for copy in range(1, 1000))]
            target = next(path for name in names if not (path := damaged_folder / name).exists())
            os.rename(self._folder / str(step), target)
            self._warn(f"checkpoint {step} was moved to {target}")
        sync_folder(damaged_folder)
        sync_folder(self._folder)
        self._manager.reload()

    def _meta(self, step: int) -> Meta:
        meta = self._restore(step, "meta", ocp.args.JsonRestore())
        if not isinstance(meta, dict) or not isinstance(meta.get("checksums"), dict) or "best_step" not in meta:
            raise _Damaged("meta: unexpected content")
        # earlier versions wrote no checksum of meta
        if meta["checksums"].get("meta") not in (None, _with_checksum(meta)["checksums"]["meta"]):
            raise _Damaged("meta has changed since it was written")
        return meta

    def _tree(self, step: int, name: str, template: Any, meta: Meta) -> Any:
        if "shapes" in meta:
            self._check_shapes(step, name, template, meta["shapes"].get(name, {}))
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), template)
        tree = self._restore(step, name, ocp.args.StandardRestore(shapes))
        # orbax does not detect flipped bits in arrays
        if _checksum(jax.device_get(tree)) != meta["checksums"].get(name):
            raise _Damaged(f"{name} has changed since it was written")
        return tree

    def _check_shapes(self, step: int, name: str, template: Any, stored: dict[str, str]) -> None:
        """Checks that a tree fits the model and optimizer. Otherwise orbax would fail as if the checkpoint were damaged."""
        expected = _shapes(template)
        different = [path for path in sorted(stored.keys() | expected) if stored.get(path) != expected.get(path)]
        if different:
            path, more = different[0], f" and {len(different) - 1} more" if different[1:] else ""
            raise UserError(
                f"{self._folder}: checkpoint {step} does not fit the current code of the model and optimizer: {name}/{path} is "
                f"{stored.get(path, 'missing')} in the checkpoint, but {expected.get(path, 'missing')} in the code{more}. "
                "No file was changed"
            )

    def _restore(self, step: int, name: str, how: Any) -> Any:
        try:
            with _quiet_coroutines():
                return self._manager.restore(step, args=ocp.args.Composite(**{name: how}))[name]
        except MemoryError:
            raise
        except Exception as error:  # damage can cause any exception in tensorstore and orbax
            first = str(error).split("\n")[0][:100]
            if reason := _access_error(error, self._folder / str(step)):
                raise UserError(
                    f"{self._folder}: checkpoint {step} can't be read now ({reason}). Nothing was changed. Try again, or move "
                    f"{self._folder / str(step)} away to resume from an earlier one"
                ) from error
            raise _Damaged(f"{name}: {type(error).__name__}: {first}") from error


def _access_error(error: Exception, folder: Path) -> str:
    """Returns why possibly undamaged files could not be read; "" if they are readable or do not exist."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, _GONE):
        return os.strerror(error.errno)
    if status := next((status for status in _NOT_NOW if str(error).startswith(status)), ""):
        return status.replace("_", " ").lower()
    for path in folder.rglob("*"):  # tensorstore's messages do not always contain the reason
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
    """Returns the type and shape of every leaf: {"params/head/kernel": "float32 (84, 10)", …}."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): f"{x.dtype} {x.shape}" for path, x in leaves}


def _checksum(tree: Any) -> int:
    """Returns the CRC-32 of all arrays, in tree order."""
    crc = 0
    for leaf in jax.tree.leaves(tree):
        crc = zlib.crc32(np.ascontiguousarray(leaf).data, crc)
    return crc


def _with_checksum(meta: Meta) -> Meta:
    """Returns `meta` after a round trip through JSON, with the CRC-32 of its other content added."""
    meta = json.loads(json.dumps(meta))
    meta["checksums"].pop("meta", None)
    meta["checksums"]["meta"] = zlib.crc32(json.dumps(meta, sort_keys=True).encode())
    return meta


@contextlib.contextmanager
def _quiet_coroutines() -> Iterator[None]:
    """Suppresses messages of orbax's readers after one of them has failed.

    Coroutines that were not awaited would print a traceback when they are garbage collected. Readers that end later report
    that their event loop is closed; such reports remain suppressed.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    hook_afterwards = hook

    def ignore_closed_loops(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    try:
        yield
    except Exception:
        gc.collect()
        hook_afterwards = ignore_closed_loops
        raise
    finally:
        sys.unraisablehook = hook_afterwards
