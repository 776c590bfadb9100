"""Damaged checkpoints are detected and skipped with a warning. Other errors are refused, and no file is changed."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn.errors import UserError
from jaxcnn.tasks.task import Phase
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.devices import make_mesh, replicated
from jaxcnn.train.step import Update, init_state


def state_at(step, devices=1, filters=4):
    variables = {"params": {"conv": {"kernel": jnp.full((3, 3, 2, filters), step, jnp.float32)}}, "batch_stats": {}}
    state = init_state(variables, 0, Update({Phase(): optax.chain(optax.trace(0.9), optax.identity())}, None, ema_decay=0.9))
    return jax.device_put(state.replace(step=jnp.asarray(step, jnp.int32)), replicated(make_mesh(devices)))


@pytest.fixture
def folder(tmp_path):
    """A folder with checkpoints of the steps 1, 2 and 3, of which 1 is the best."""
    tmp_path = tmp_path / "checkpoints"
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(state_at(step), {"note": step}, best_step=1)
    checkpoints.close()
    return tmp_path


def restored(folder, **template):
    """Returns (restored step or None, warnings)."""
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


def test_saved_state_is_intact_after_its_buffers_are_donated(tmp_path):
    checkpoints, state = Checkpoints(tmp_path), state_at(5)
    checkpoints.save(state, {"note": 5}, best_step=None)
    jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)(state)
    checkpoints.close()
    assert restored(tmp_path) == (5, [])


def test_state_saved_on_one_device_is_restored_on_eight(folder):
    assert restored(folder, devices=8) == (3, [])


@pytest.mark.slow
@pytest.mark.parametrize(("how", "item"), [("flipped", ""), ("cut", "variables"), ("gone", "training")])
def test_damage_to_any_file_is_harmless_or_reported(folder, how, item):
    """After damage to any file, the last state is restored unchanged, or the previous one with a warning."""
    outcomes, original_folder = set(), folder
    for number, name in enumerate(p for p in sorted((folder / "3" / item).rglob("*")) if p.is_file() and p.stat().st_size):
        folder = shutil.copytree(original_folder, original_folder.parent / str(number) / "checkpoints")
        path = folder / name.relative_to(original_folder)
        content = path.read_bytes()
        if how == "gone":
            path.unlink()
        else:
            middle = len(content) // 2
            path.write_bytes(
                content[:middle] if how == "cut" else content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :]
            )
        step, said = restored(folder)
        assert (step, bool(said)) in {(3, False), (2, True)}, (path, said)
        if said:
            damage, moved = said
            assert "checkpoint 3 is damaged" in damage
            assert "checkpoint 3 was moved to " in moved
            assert "\n" not in damage + moved
        outcomes.add(step)
    assert 2 in outcomes


def test_incompletely_written_checkpoint_is_ignored(folder):
    (folder / "3").rename(folder / "3.orbax-checkpoint-tmp")
    assert restored(folder) == (2, [])


@pytest.mark.slow
def test_folder_whose_checkpoints_are_all_damaged_is_refused(folder):
    for path in folder.rglob("manifest.ocdbt"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the checkpoints"):
        restored(folder)


def test_damaged_checkpoints_are_moved_completely_and_their_steps_are_saved_again(folder):
    aside = folder.with_name("checkpoints.damaged")
    for names in (["3"], ["3", "3.1"]):
        damaged = folder / "3" / "meta" / "metadata"
        damaged.write_text("{}")
        files = sorted(path.relative_to(folder / "3") for path in (folder / "3").rglob("*"))
        checkpoints = Checkpoints(folder, warn=lambda _: None)
        state, _ = checkpoints.restore_latest(state_at(0))
        assert int(state.step) == 2
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(state_at(3), {"note": 3}, best_step=1)
        checkpoints.close()
        assert sorted(path.name for path in aside.iterdir()) == names
        assert sorted(path.relative_to(aside / names[-1]) for path in (aside / names[-1]).rglob("*")) == files
        assert restored(folder) == (3, [])


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"note": 3}', "\0\0", '{"checksums": [], "best_step": 1}'])
def test_checkpoint_with_invalid_meta_is_skipped(folder, content):
    (folder / "3" / "meta" / "metadata").write_text(content)
    step, said = restored(folder)
    assert step == 2
    assert "checkpoint 3 is damaged (meta" in said[0]
    reader = Checkpoints(folder, warn=said.append)
    assert reader.latest_meta()["note"] == 2
    reader.close()


@pytest.mark.parametrize("name", ["note", "best_step", "checksums", "shapes"])
def test_meta_with_another_value_than_was_written_is_damaged(folder, name):
    path = folder / "3" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    meta[name] = meta[name] | {"ema": 1} if isinstance(meta[name], dict) else 17
    path.write_text(json.dumps(meta))
    step, said = restored(folder)
    assert step == 2
    assert "meta has changed since it was written" in said[0]


def test_checkpoint_of_an_earlier_version_without_shapes_is_restored(folder):
    path = folder / "3" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    del meta["shapes"], meta["checksums"]["meta"]
    path.write_text(json.dumps(meta))
    assert restored(folder) == (3, [])


def contents(folder):
    return {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}


def test_checkpoint_of_another_model_is_refused_and_not_changed(folder):
    before = contents(folder)
    with pytest.raises(UserError) as refusal:
        restored(folder, filters=5)
    message = str(refusal.value)
    assert "checkpoint 3 does not fit" in message
    assert (
        "variables/params/conv/kernel is float32 (3, 3, 2, 4) in the checkpoint, but float32 (3, 3, 2, 5) in the code"
        in message
    )
    assert contents(folder) == before


@pytest.mark.parametrize("how", ["error of the system", "words of tensorstore", "a file that can't be read"])
def test_checkpoint_that_can_not_be_read_now_is_refused_and_not_changed(folder, how, monkeypatch):
    before = contents(folder)
    checkpoints = Checkpoints(folder)

    def fail(*_, **__):
        if how == "error of the system":
            raise OSError(5, "Input/output error")
        if how == "words of tensorstore":
            raise ValueError('RESOURCE_EXHAUSTED: Error opening "zarr" driver: Too many open files')
        raise ValueError("UNKNOWN: something")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, "restore", fail)
        if how == "a file that can't be read":
            patch.setattr("pathlib.Path.open", lambda path, mode: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(UserError, match=r"checkpoint 3 can't be read now \(.*\. Nothing was changed"):
            checkpoints.restore_latest(state_at(0))
    checkpoints.close()
    assert contents(folder) == before
    assert restored(folder) == (3, [])


def test_reader_does_not_move_a_damaged_checkpoint(folder):
    next((folder / "3" / "variables").rglob("manifest.ocdbt")).write_bytes(b"")
    said = []
    checkpoints = Checkpoints(folder, warn=said.append)
    assert checkpoints.restore_variables(3, state_at(0).variables) is None
    assert checkpoints.restore_variables(3, state_at(0).variables) is None
    assert checkpoints.restore_variables(2, state_at(0).variables) is not None
    checkpoints.close()
    assert len(said) == 1, "the warning is repeated"
    assert checkpoints.steps() == [1, 2, 3]


def test_folder_is_created_with_the_first_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert (checkpoints.steps(), checkpoints.latest_meta(), checkpoints.restore_latest(state_at(0))) == ([], None, None)
    checkpoints.wait()
    checkpoints.close()
    assert not any(tmp_path.iterdir())
