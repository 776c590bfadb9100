"""Damage of every kind is noticed, said, and passed over."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn.errors import UserError
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.experiment import make_mesh, replicated
from jaxcnn.train.state import init_state


def state_at(step, devices=1):
    variables = {"params": {"conv": {"kernel": jnp.full((3, 3, 2, 4), step, jnp.float32)}}, "batch_stats": {}}
    state = init_state(variables, 0, optax.chain(optax.trace(0.9), optax.identity()), ema=True)
    return jax.device_put(state.replace(step=jnp.asarray(step, jnp.int32)), replicated(make_mesh(devices)))


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of the steps 1, 2 and 3; 1 is the best."""
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(state_at(step), {"note": step}, best_step=1)
    checkpoints.close()
    return tmp_path


def restored(folder, **template):
    """(step restored or None, what was said)."""
    said = []
    checkpoints = Checkpoints(folder, warn=said.append)
    try:
        found = checkpoints.restore_latest(state_at(0, **template))
    finally:
        checkpoints.close()
    if found is None:
        return None, said
    state, meta = found
    assert meta["note"] == int(state.step)
    expected = state_at(int(state.step))
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    return int(state.step), said


def test_latest_and_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(1, 7):
        checkpoints.save(state_at(step), {}, best_step=min(step, 3))
    checkpoints.wait()
    assert checkpoints.steps() == [3, 5, 6]
    checkpoints.close()


def test_state_survives_the_donation_of_what_was_saved(tmp_path):
    checkpoints, state = Checkpoints(tmp_path), state_at(5)
    checkpoints.save(state, {"note": 5}, best_step=None)
    jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)(state)
    checkpoints.close()
    assert restored(tmp_path) == (5, [])


def test_state_saved_on_one_device_is_restored_on_eight(folder):
    assert restored(folder, devices=8) == (3, [])


@pytest.mark.slow
@pytest.mark.parametrize(("how", "item"), [("flipped", ""), ("cut", "variables"), ("gone", "training")])
def test_damage_to_any_file_is_harmless_or_said(folder, how, item):
    """Whatever file of the last checkpoint is damaged: its state is restored unchanged, or the one before it, and said."""
    outcomes = set()
    for path in sorted(p for p in (folder / "3" / item).rglob("*") if p.is_file() and p.stat().st_size):
        whole = path.read_bytes()
        if how == "gone":
            path.unlink()
        else:
            middle = len(whole) // 2
            path.write_bytes(
                whole[:middle] if how == "cut" else whole[:middle] + bytes([whole[middle] ^ 64]) + whole[middle + 1 :]
            )
        step, said = restored(folder)
        assert (step, bool(said)) in {(3, False), (2, True)}, (path, said)
        assert all("checkpoint 3 is damaged" in line and "\n" not in line for line in said)
        outcomes.add(step)
        path.write_bytes(whole)
    assert 2 in outcomes


def test_checkpoint_cut_off_while_it_was_written_does_not_count(folder):
    (folder / "3").rename(folder / "3.orbax-checkpoint-tmp")
    assert restored(folder) == (2, [])


@pytest.mark.slow
def test_folder_whose_checkpoints_are_all_damaged_is_refused(folder):
    for path in folder.rglob("manifest.ocdbt"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the checkpoints"):
        restored(folder)


def test_step_is_saved_again_over_a_damaged_one(folder):
    next((folder / "3" / "training").rglob("manifest.ocdbt")).write_bytes(b"")
    checkpoints = Checkpoints(folder, warn=lambda _: None)
    checkpoints.save(state_at(3), {"note": 3}, best_step=1)
    checkpoints.close()
    assert restored(folder) == (3, [])
