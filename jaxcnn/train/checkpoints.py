"""Checkpoints: written by orbax in the background, whole or not at all, and checked when they are read.

checkpoints/STEP/ holds three trees and what is needed to use them without the code that trained them:

    variables   {"params", "batch_stats"}
    ema         the same, averaged; only where the run has it
    training    {"step", "seed", "opt_state"}
    meta        model name and arguments, class names, preprocessing, config, the best step, a checksum of each tree
"""

import contextlib
import dataclasses
import gc
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxcnn.errors import UserError
from jaxcnn.train.state import TrainState, Variables

Meta = dict[str, Any]


@dataclasses.dataclass
class _LatestAndBest:
    """Which checkpoints orbax keeps: the latest few, and the one with the best parameters."""

    latest: int
    best_step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        latest = {info.step for info in checkpoints[-self.latest :]}
        return [info.step in latest or info.step == self.best_step for info in checkpoints]


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, *, keep: int = 2, warn: Callable[[str], None] = print):
        self._policy = _LatestAndBest(keep)
        self._warn = warn
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=ocp.CheckpointManagerOptions(preservation_policy=self._policy)
        )

    def save(self, state: TrainState, meta: Meta, *, best_step: int | None) -> None:
        """Starts to write `state`; returns once it is copied to the host, so that it may be donated."""
        trees = jax.device_get(_trees(state))
        self._policy.best_step = best_step
        meta = meta | {"best_step": best_step, "checksums": {name: _checksum(tree) for name, tree in trees.items()}}
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        # a checkpoint of this step can only be a damaged one, which the run has gone back behind
        if int(trees["training"]["step"]) in self._manager.all_steps():
            self._manager.delete(int(trees["training"]["step"]))
        self._manager.save(int(trees["training"]["step"]), args=ocp.args.Composite(meta=ocp.args.JsonSave(meta), **items))

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def restore_latest(self, template: TrainState) -> tuple[TrainState, Meta] | None:
        """The latest state that can be read, laid out as `template` (shapes with shardings); None if there is none.

        A damaged checkpoint is said and passed over.
        """
        for step in reversed(self.steps()):
            if (meta := self._meta(step)) is None:
                continue
            trees = {name: self._tree(step, name, tree, meta) for name, tree in _trees(template).items()}
            if all(tree is not None for tree in trees.values()):
                state = TrainState(
                    trees["training"]["step"],
                    trees["training"]["seed"],
                    trees["variables"]["params"],
                    trees["variables"]["batch_stats"],
                    trees["training"]["opt_state"],
                    trees.get("ema"),
                )
                return state, meta
        if self.steps():
            raise UserError(f"{self._manager.directory}: none of the checkpoints {self.steps()} can be read")
        return None

    def latest_meta(self) -> Meta | None:
        """What goes with the latest checkpoint that can be read."""
        return next((meta for step in reversed(self.steps()) if (meta := self._meta(step)) is not None), None)

    def restore_variables(self, step: int, template: Variables, name: str = "variables") -> Variables | None:
        """The tree "variables" or "ema" of one checkpoint; None, and said, if it is damaged or gone."""
        if step not in self.steps() or (meta := self._meta(step)) is None:
            return None
        return self._tree(step, name, template, meta)

    def wait(self) -> None:
        """Returns once all that was saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends the threads."""
        self._manager.close()

    def _meta(self, step: int) -> Meta | None:
        return self._restore(step, "meta", ocp.args.JsonRestore())

    def _tree(self, step: int, name: str, template: Any, meta: Meta) -> Any:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), template)
        tree = self._restore(step, name, ocp.args.StandardRestore(shapes))
        # orbax reads a flipped bit in an array without complaint
        if tree is not None and _checksum(jax.device_get(tree)) != meta["checksums"][name]:
            self._warn(f"checkpoint {step} is damaged ({name} has changed since it was written)")
            return None
        return tree

    def _restore(self, step: int, name: str, how: Any) -> Any:
        """One item of a checkpoint, or None, and said, where orbax can't read it."""
        try:
            with _quiet_coroutines():
                return self._manager.restore(step, args=ocp.args.Composite(**{name: how}))[name]
        except Exception as error:  # tensorstore and orbax raise whatever the damage led to
            first = str(error).split("\n")[0][:100]
            self._warn(f"checkpoint {step} is damaged ({name}: {type(error).__name__}: {first})")
            return None


def _trees(state: TrainState) -> dict[str, Any]:
    trees = {"variables": state.variables, "training": {"step": state.step, "seed": state.seed, "opt_state": state.opt_state}}
    return trees | ({} if state.ema is None else {"ema": state.ema})


def _checksum(tree: Any) -> int:
    """CRC-32 of all arrays, in tree order."""
    crc = 0
    for leaf in jax.tree.leaves(tree):
        crc = zlib.crc32(np.ascontiguousarray(leaf).data, crc)
    return crc


@contextlib.contextmanager
def _quiet_coroutines() -> Iterator[None]:
    """Orbax's readers that were not awaited when the first one failed print their tracebacks as they are collected."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    except Exception:
        gc.collect()
        raise
    finally:
        sys.unraisablehook = hook
