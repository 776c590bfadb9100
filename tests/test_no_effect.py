"""Changed settings without effect are refused, and the declared conditions agree with the behavior of the code."""

import dataclasses
import itertools

import jax
import numpy as np
import optax
import pytest
from common.other_values import another, needed

from jaxcnn.config import Config, changed, declarations, flatten
from jaxcnn.data import DataSettings, load, make_preprocessing
from jaxcnn.data.decode import Center
from jaxcnn.errors import UserError
from jaxcnn.settings import When
from jaxcnn.train.optimizers import _update
from jaxcnn.train.schedules import make_schedule
from jaxcnn.train.settings import OptimizerSettings, ScheduleSettings

CONDITIONAL = [name for name, entry in declarations().items() if entry.used]


WRONG = {
    "data.name": ("digits", "arrays", "folder"),
    "data.fit": ("pad", "stretch"),
    "data.balanced": (True,),
    "data.fold": ("1/5",),
    "data.resident": ("on",),
    "data.resize": ("pad",),
    "model.pretrained": ("", "weights.npz"),
    "optimizer.name": ("adafactor",),
    "schedule.name": ("constant", "one_cycle"),
    "task.name": ("mine:Task",),
    "loss.balance": ("inverse",),
    "data.interpolation": ("area",),
    "data.cache": ("off",),
    "data.random_crop": ((),),
    "data.image_size": (0,),
    "data.sizes": ((),),
    "optimizer.momentum": (0.0,),
    "optimizer.weight_decay": (0.0,),
    "schedule.warmup": ("0steps", "0epochs"),
    "schedule.boundaries": ((),),
    "early_stop.patience": (0,),
    "evaluate.select": ("last",),
}
"""Values of these settings that do not meet conditions on them."""


def used(name, changes):
    return not declarations()[name].unmet(flatten(Config()) | changes)


def test_defaults_are_never_without_effect():
    for name, value in {"schedule.name": "steps", "optimizer.name": "adafactor", "data.name": "mnist"}.items():
        changed(Config(), {name: value})


@pytest.mark.parametrize("name", CONDITIONAL)
def test_setting_is_accepted_with_its_conditions_and_refused_without_any_of_them(name):
    settings = needed(name)
    value = next(v for v in (another(declarations()[name]), declarations()[name].default) if v != settings.get(name))
    accepted = changed(Config(), settings | {name: value})
    for condition in declarations()[name].used:
        whens = [condition] if isinstance(condition, When) else condition
        broken = {when.setting: next(v for v in WRONG[when.setting] if not when.holds({when.setting: v})) for when in whens}
        with pytest.raises(UserError, match=r"^[a-z0-9_.]+: .* has no effect with [a-z_.]+=.*; (leave it at|set .* too, or)"):
            changed(accepted, broken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule.boundaries": ("3epochs",)},
            "schedule.boundaries: ('3epochs',) has no effect with schedule.name=cosine, only with steps; "
            "leave it at its default, ()",
        ),
        (
            {"early_stop.min_delta": 0.1},
            "early_stop.min_delta: 0.1 has no effect with early_stop.patience=0; set early_stop.patience too, "
            "or leave it at its default, 0.0",
        ),
        (
            {"model.adapt_stem": True},
            "model.adapt_stem: True has no effect with model.pretrained=''; set model.pretrained too, "
            "or leave it at its default, False",
        ),
        (
            {"data.name": "digits", "data.test": 0.5},
            "data.test: 0.5 has no effect with data.name=digits; leave it at its default, 0.2",
        ),
        (
            {"data.repeats": 2, "data.balanced": True},
            "data.repeats: 2 has no effect with data.balanced=True; leave it at its default, 1",
        ),
        (
            {"task.name": "mine:Task", "loss.label_smoothing": 0.1},
            "loss.label_smoothing: 0.1 has no effect with task.name=mine:Task, only with classification; "
            "leave it at its default, 0.0",
        ),
        (
            {"optimizer.b1": 0.5},
            "optimizer.b1: 0.5 has no effect with optimizer.name=sgd, only with adam, adamw, lamb, lion or muon; "
            "leave it at its default, 0.9",
        ),
    ],
)
def test_message_names_the_condition(changes, message):
    with pytest.raises(UserError) as mistake:
        changed(Config(), changes)
    assert str(mistake.value) == message


# ── Groups of parameters ────────────────────────────────────────────────────────────────────────────────────────────

ADAM = {"optimizer.name": "adam"}


def test_setting_that_a_group_uses_has_an_effect():
    changed(Config(), {"optimizer.b1": 0.5, "optimizer.groups": (("bias$", ADAM),)})
    changed(
        Config(), {"schedule.final": 0.5, "schedule.name": "steps", "optimizer.groups": (("a", {"schedule.name": "linear"}),)}
    )
    own = ADAM | {"optimizer.b1": 0.3}
    with pytest.raises(UserError, match=r"^optimizer\.b1: 0.5 has no effect with optimizer.name=sgd"):
        changed(Config(), {"optimizer.b1": 0.5, "optimizer.groups": (("bias$", own),)})


def test_setting_without_effect_in_its_group_is_refused():
    groups = (("bias$", {"optimizer.name": "sgd", "optimizer.b1": 0.3}),)
    with pytest.raises(UserError, match=r"^optimizer\.groups: 'bias\$': optimizer\.b1: 0.3 has no effect .*; leave it out$"):
        changed(Config(), {"optimizer.name": "adamw", "optimizer.groups": groups})
    # inherited settings are not refused
    inherited = {"optimizer.name": "muon", "optimizer.muon_steps": 3, "optimizer.groups": (("a", {"optimizer.name": "sgd"}),)}
    assert changed(Config(), inherited).optimizer.muon_steps == 3


# ── The conditions agree with the code ────────────────────────────────────────────────────────────────────────────

RNG = np.random.default_rng(0)
PARAMS, *GRADIENTS = (
    {"kernel": RNG.normal(size=(3, 3, 2, 4)).astype(np.float32), "bias": RNG.normal(size=4).astype(np.float32)}
    for _ in range(6)
)
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "lamb", "lion", "adafactor", "muon")
OF_THE_RULE = {"momentum": 0.5, "nesterov": True, "b1": 0.5, "b2": 0.5, "eps": 0.1, "muon_steps": 1}


def updates(**settings):
    """Returns the parameters after a few steps."""
    optimizer = _update(OptimizerSettings(**settings), lambda _: 0.1)
    state, params, run = optimizer.init(PARAMS), PARAMS, jax.jit(optimizer.update)
    with jax.numpy_dtype_promotion("standard"):
        for gradient in GRADIENTS:
            update, state = run(gradient, state, params)
            params = optax.apply_updates(params, update)
    return params


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_depends_on_the_settings_that_have_an_effect_with_it_and_on_no_other(name):
    before = updates(name=name)
    for setting, value in OF_THE_RULE.items():
        after = updates(name=name, **{setting: value})
        same = all(itertools.starmap(np.array_equal, zip(*map(jax.tree.leaves, (before, after)), strict=True)))
        assert same != used(f"optimizer.{setting}", {"optimizer.name": name}), setting


@pytest.mark.parametrize("name", ["constant", "steps", "cosine", "linear", "one_cycle"])
def test_schedule_depends_on_the_settings_that_have_an_effect_with_it_and_on_no_other(name):
    base = {"name": name, "warmup": "5steps", "boundaries": ("8steps",)}

    def rates(**settings):
        schedule = make_schedule(
            ScheduleSettings(**base | settings), peak=0.1, total_steps=20, batch_size=1, examples_per_epoch=1
        )
        return [float(schedule(step)) for step in range(25)]

    others = {
        "total": "12steps",
        "warmup": "2steps",
        "warmup_start": 0.5,
        "boundaries": ("9steps",),
        "factor": 0.5,
        "final": 0.2,
    }
    values = {f"schedule.{setting}": value for setting, value in base.items()}
    for setting, value in others.items():
        assert (rates() != rates(**{setting: value})) == used(f"schedule.{setting}", values), setting


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ({}, {"fit": "pad"}),
        ({}, {"crop_ratio": 0.5}),
        ({}, {"interpolation": "bicubic"}),
        ({}, {"on_error": "skip"}),
        ({}, {"cache_folder": "nowhere"}),
        ({}, {"cache_side": 64}),
        ({}, {"root": "nowhere"}),
        ({}, {"group": "x"}),
        ({}, {"train_split": "train"}),
        ({}, {"features": ("image", "label")}),
        ({}, {"resize": "pad"}),
        ({"fold": "1/5"}, {"validation": 0.3}),
    ],
    ids=lambda settings: "-".join(settings),
)
def test_data_are_the_same_whatever_a_setting_without_effect_is(monkeypatch, base, changes):
    (name,) = changes
    assert not used(f"data.{name}", {f"data.{setting}": value for setting, value in base.items()})
    monkeypatch.setattr("jaxcnn.data.loading.refuse_without_effect", lambda _: None)
    sets, preprocessings = [], []
    for settings in (DataSettings(**base), DataSettings(**base | changes)):
        sets.append(load(settings, seed=0).parts())
        preprocessings.append(make_preprocessing(settings, sets[-1]["train"]))
    for part, source in sets[0].items():
        other = sets[1][part]
        np.testing.assert_array_equal(source.labels, other.labels)
        images, others = (np.stack([each.read(i) for i in range(len(each))]) for each in (source, other))
        np.testing.assert_array_equal(images, others)
    assert dataclasses.replace(preprocessings[1], resize=preprocessings[0].resize) == preprocessings[0]
    assert preprocessings[1].size == preprocessings[1].image_shape[:2]  # nothing is resized on the device


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("interpolation", ["area", "bilinear"])
def test_crop_ratio_has_an_effect_where_it_changes_what_is_seen(fit, interpolation):
    one, other = (Center((32, 32), fit, ratio, interpolation)(50, 70) for ratio in (0.875, 0.5))
    values = {"data.name": "folder", "data.fit": fit, "data.interpolation": interpolation}
    assert (one != other) == used("data.crop_ratio", values)
