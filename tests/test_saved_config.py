"""Settings stored in runs and checkpoints by this version, by earlier and by later ones."""

import json
from pathlib import Path

import pytest
from common.begun_runs import begin
from common.small_runs import small_config

from jaxcnn import config as settings
from jaxcnn.config import Config, changed, differences, flatten, from_saved, to_saved, validate
from jaxcnn.data import make_augmentation, make_views
from jaxcnn.errors import UserError
from jaxcnn.train import load_trained, resume

OLD = Path(__file__).parent / "golden" / "config" / "without_schema.json"
"""config.json of the version before schemas: resnet_cifar10.py with schedule.name=cosine, other settings without effect, and
a group, (("bias$", {"optimizer.momentum": 0.8, "optimizer.eps": 1e-6}),)."""


def test_config_of_an_earlier_version_loads_and_its_settings_without_effect_get_their_defaults():
    values = json.loads(OLD.read_text())
    ignored = {"schedule.boundaries": [], "optimizer.b1": 0.9, "data.crop_ratio": 0.875, "early_stop.min_delta": 0.0}
    assert all(values[name] != default for name, default in ignored.items())
    groups = {"optimizer.groups": (("bias$", {"optimizer.momentum": 0.8}),)}
    augment = {"data.augment": (("random_crop", {"pad": 4}), "horizontal_flip")}  # under its current name
    expected = changed(Config(), {**{n: v for n, v in values.items() if n not in ignored}, **groups, **augment})
    config = from_saved(values, "")
    assert config == expected
    assert validate(config) == config
    assert differences(config, expected) == []
    # a setting that is newer than the file has its default
    assert "task.name" not in values
    assert config.task.name == "classification"


def test_setting_without_effect_is_not_a_difference():
    old = changed(Config(), {"schedule.name": "steps", "schedule.boundaries": ("5steps",), "schedule.factor": 0.5})
    new = changed(Config(), {"schedule.name": "cosine"})
    assert differences(old, new) == [
        "schedule.name: 'steps' -> 'cosine'", "schedule.boundaries: ('5steps',) -> ()", "schedule.factor: 0.5 -> 0.1",
    ]  # fmt: skip
    without_boundaries = settings.with_changes(old, {"schedule.boundaries": ()})
    assert differences(without_boundaries, changed(Config(), {"schedule.name": "steps"})) == []


def test_renamed_setting_is_found_under_its_former_name_in_groups_too(monkeypatch):
    monkeypatch.setitem(settings.RENAMED, "optimizer.beta1", "optimizer.b1")
    values = to_saved(changed(Config(), {"optimizer.name": "adam"}))
    del values["optimizer.b1"]
    values |= {"optimizer.beta1": 0.5, "optimizer.groups": [["bias$", {"optimizer.beta1": 0.3}]]}
    config = from_saved(json.loads(json.dumps(values)), "")
    assert (config.optimizer.b1, config.optimizer.groups) == (0.5, (("bias$", {"optimizer.b1": 0.3}),))
    assert "optimizer.beta1" not in flatten(config)
    with pytest.raises(UserError, match=r"no setting 'optimizer\.beta1'"):
        changed(Config(), {"optimizer.beta1": 0.5})  # config files must use the current name


FORMER_NAMES = {
    "data.augment": [
        "flip",
        ["flip", {"axis": "horizontal", "p": 0.3}],
        ["flip", {"p": 0.3}],
        ["flip", {"axis": "vertical"}],
        ["colour_jitter", {"hue": 0.1}],
        ["grey"],
        "solarise",
        "posterise",
        "equalise",
        ["random_erasing", {"p": 0.1, "fill": "grey"}],
        ["cutout", {"fill": 0}],
        "mixup",
    ],
    "evaluate.views": ["flip", ["flip", {"axis": "vertical"}], ["centre_crop", {"share": 0.5}], "shift"],
}
NAMES = {
    "data.augment": (
        "horizontal_flip",
        ("horizontal_flip", {"p": 0.3}),
        ("horizontal_flip", {"p": 0.3}),
        "vertical_flip",
        ("color_jitter", {"hue": 0.1}),
        ("grayscale",),
        "solarize",
        "posterize",
        "equalize",
        ("random_erasing", {"p": 0.1, "fill": "gray"}),
        ("cutout", {"fill": 0}),
        "mixup",
    ),
    "evaluate.views": ("horizontal_flip", "vertical_flip", ("center_crop", {"share": 0.5}), "shift"),
}


def test_former_names_of_operations_are_replaced_by_current_ones():
    new = changed(Config(), NAMES)
    make_augmentation(new.data.augment)
    make_views(new.evaluate.views)
    old = from_saved(json.loads(json.dumps(to_saved(new) | FORMER_NAMES)), "")
    assert old == new
    assert differences(old, new) == []
    assert from_saved(to_saved(new), "") == new


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.augment": ("mixup", "colour_jitter")}, "data.augment: 'colour_jitter' has been renamed to 'color_jitter'"),
        ({"data.augment": (("flip", {"axis": "vertical"}),)}, "data.augment: 'flip' has been renamed to 'vertical_flip'"),
        (
            {"evaluate.views": (("centre_crop", {"share": 0.5}),)},
            "evaluate.views: 'centre_crop' has been renamed to 'center_crop'",
        ),
    ],
)
def test_former_name_of_an_operation_is_refused_in_a_config(changes, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        changed(Config(), changes)


@pytest.mark.parametrize("schema", [settings.SCHEMA + 1, "2.0", None])
def test_config_of_a_later_version_is_refused_by_name(schema):
    with pytest.raises(UserError, match=rf"^runs/new: schema {schema} of the settings is not supported"):
        from_saved(to_saved(Config()) | {"schema": schema, "future.setting": 1}, "runs/new")


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def rewritten(workdir, change):
    """Changes the settings stored in the run's checkpoint, as if another version had written them, and returns the new meta."""
    path = workdir / "checkpoints" / "7" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    meta["config"] = change(meta["config"])
    meta["checksums"].pop("meta", None)
    path.write_text(json.dumps(meta))
    return meta


def test_run_of_an_earlier_version_resumes_and_is_loaded(tmp_path, monkeypatch):
    begin(tmp_path, small_config())
    monkeypatch.setitem(settings.RENAMED, "epochs", "total")

    def as_it_was(values):
        del values["schema"], values["task.name"], values["evaluate.metric"]
        augment = {"data.augment": ["flip", ["random_crop", {"pad": 2}]]}
        return values | {"epochs": values.pop("total"), "optimizer.b1": 0.5, "data.cache_side": 300} | augment

    meta = rewritten(tmp_path, as_it_was)
    earlier, config = resume.earlier_config(tmp_path, meta, False, pytest.fail), validate(small_config())
    assert earlier == config
    assert not resume.check_config(tmp_path, earlier, config, extend=False)
    assert load_trained(tmp_path).config == config


def test_run_of_a_later_version_is_refused(tmp_path):
    begin(tmp_path, small_config())
    meta = rewritten(tmp_path, lambda values: values | {"schema": 99})
    message = rf"^--workdir: {tmp_path}: schema 99 of the settings is not supported .the latest is 1.; use a newer jaxcnn$"
    for read in (lambda: resume.earlier_config(tmp_path, meta, False, pytest.fail), lambda: load_trained(tmp_path)):
        with pytest.raises(UserError, match=message):
            read()
    config = tmp_path / "config.json"
    config.write_text(json.dumps(meta["config"]))
    with pytest.raises(UserError, match=rf"^{config}: schema 99 of the settings"):
        resume.earlier_config(tmp_path, None, True, pytest.fail)
