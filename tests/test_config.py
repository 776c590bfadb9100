import json
import math
import os
import random
from fractions import Fraction
from pathlib import Path

import pytest
from common.other_values import OTHERS, another, needed

from jaxcnn.command import load_config
from jaxcnn.config import changed as with_changes
from jaxcnn.config import (
    declarations,
    default_config,
    describe,
    differences,
    flatten,
    from_json,
    to_json,
    validate,
)
from jaxcnn.durations import duration_in_steps
from jaxcnn.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs"


def steps(text, batch_size=100, examples_per_epoch=1000):
    return duration_in_steps("total", text, batch_size=batch_size, examples_per_epoch=examples_per_epoch)


def changed(name, value):
    """The default ConfigDict with one setting changed, as in a file in configs/."""
    config = default_config()
    room, _, leaf = name.rpartition(".")
    holder = config[room] if room else config
    with holder.ignore_type():
        holder[leaf] = value
    return config


# ── Durations ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5000steps", 5000),
        ("1step", 1),
        ("0steps", 0),
        ("3epochs", 30),
        ("1epoch", 10),
        ("0.5epochs", 5),
        ("1_000examples", 10),
        ("1_000_000examples", 10_000),
        (" 7steps ", 7),
        ("901examples", 10),  # rounded up: 9.01 steps would leave one example unseen
        ("0.01epochs", 1),
        ("0.1steps", 1),
    ],
)
def test_duration_is_converted_to_steps(text, expected):
    assert steps(text) == expected


def test_epochs_of_an_uneven_size_round_up_once_and_not_every_epoch():
    # 1,001 examples with batch size 100: 10.01 steps per epoch, so 100 epochs are 1,001 steps, not 1,100
    assert steps("100epochs", examples_per_epoch=1001) == 1001


def test_durations_are_exact_where_floats_are_not():
    assert steps(f"{2**53 + 1}steps") == 2**53 + 1
    assert steps("0.3epochs", batch_size=3, examples_per_epoch=10) == 1  # 0.3 * 10 / 3 is 1 exactly; as floats more
    rng = random.Random(0)
    for _ in range(200):
        batch, size, count = rng.randint(1, 4096), rng.randint(1, 2_000_000), rng.randint(0, 10**18)
        tenths = f"{count // 10}.{count % 10}epochs"
        assert steps(tenths, batch, size) == math.ceil(Fraction(count * size, 10 * batch))


@pytest.mark.parametrize(
    "text", ["", "10", "epochs", "-1epochs", "1e3steps", "ten epochs", "10days", "1.steps", "_1steps", "1,000steps", "nansteps"]
)
def test_invalid_duration_is_refused(text):
    with pytest.raises(UserError, match=r"total: expected a duration such as 5000steps, .*, got "):
        steps(text)
    with pytest.raises(UserError, match=r"checkpoint.every: expected a duration such as 5000steps, .*, got "):
        validate(changed("checkpoint.every", text))


# ── Checking ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_defaults_are_valid_and_stay_what_they_are():
    assert flatten(validate(default_config())) == {name: entry.default for name, entry in declarations().items()}


@pytest.mark.parametrize("name", declarations())
def test_every_setting_refuses_another_type(name):
    with pytest.raises(UserError, match=f"^{name}: "):
        validate(changed(name, {1, 2}))


def test_validated_config_can_not_be_changed():
    with pytest.raises(AttributeError):
        validate(default_config()).seed = 1


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("sede", "seed"),
        ("batchsize", "batch_size"),
        ("optimizer.learning_rat", "optimizer.learning_rate"),
        ("optimizer.weight_decay_factor", "optimizer.weight_decay_factors"),
        ("schedule.warm_up", "schedule.warmup"),
    ],
)
def test_misspelt_setting_is_refused_with_the_nearest_name(name, nearest):
    with pytest.raises(UserError, match=f"no setting '{name}'.*did you mean \"{nearest}\""):
        validate(changed(name, 1))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 12.5, "batch_size: expected an int of at least 1, got 12.5"),
        ("batch_size", True, "batch_size: expected an int of at least 1, got True"),
        ("batch_size", "many", "batch_size: expected an int of at least 1, got 'many'"),
        ("batch_size", 0, "batch_size: expected an int of at least 1, got 0"),
        ("seed", -1, "seed: expected an int from 0 to 4,294,967,295, got -1"),
        (
            "seed",
            2**32,
            "seed: expected an int .* to 4,294,967,295, got 4294967296",
        ),  # it would draw the random numbers of seed 0
        ("optimizer.learning_rate", "fast", "optimizer.learning_rate: expected a finite number of at least 0, got 'fast'"),
        ("optimizer.learning_rate", float("nan"), "optimizer.learning_rate: expected a finite number of at least 0, got nan"),
        ("optimizer.learning_rate", float("inf"), "optimizer.learning_rate: expected a finite number of at least 0, got inf"),
        ("optimizer.nesterov", 1, "optimizer.nesterov: expected True or False, got 1"),
        ("loss.label_smoothing", 1.5, "loss.label_smoothing: expected a finite number from 0 to 1, got 1.5"),
        ("data.validation", 0.95, "data.validation: expected a finite number from 0 to 0.9, got 0.95"),
        ("data.mean", 0.5, "data.mean: expected a list, each item a finite number, got 0.5"),
        ("data.mean", (0.5, "x"), "data.mean: expected a list, each item a finite number, got .0.5, 'x'"),
        ("data.std", (0.5, float("nan")), "data.std: expected a list, each item a finite number above 0, got"),
        ("optimizer.freeze", ("stem", 1), "optimizer.freeze: expected a list, each item a string, got"),
        ("model.arguments", 5, "model.arguments: expected a dict, got 5"),
        ("optimizer.name", "sdg", "optimizer.name: expected one of sgd, adam, .*; got 'sdg' .did you mean \"sgd\""),
        ("schedule.name", "coseno", "schedule.name: expected one of .*; got 'coseno' .did you mean \"cosine\""),
    ],
)
def test_wrong_value_is_named_with_what_would_be_right(name, value, message):
    with pytest.raises(UserError, match=message):
        validate(changed(name, value))


def test_ints_are_accepted_as_floats_and_lists_as_tuples():
    config = default_config()
    with config.ignore_type():
        config.optimizer.learning_rate = 1
        config.data.mean = [0, 1, 0.5]
        config.data.augment = [["random_crop", {"pad": 4}], "horizontal_flip"]
        config.model.arguments.depths = [1, [2]]
    config = validate(config)
    assert type(config.optimizer.learning_rate) is float
    assert config.data.mean == (0.0, 1.0, 0.5)
    assert {type(value) for value in config.data.mean} == {float}
    assert config.data.augment == (("random_crop", {"pad": 4}), "horizontal_flip")
    assert config.model.arguments == {"depths": (1, (2,))}


# ── As text ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def config_with_everything():
    config = default_config()
    config.seed = 2**32 - 1
    config.optimizer.learning_rate = 0.1 + 0.2  # not to be rounded
    config.optimizer.learning_rate_factors = (("^stem/", 0.1), ("fc", 1e-3))
    config.optimizer.freeze = ("stem", r"stage\d")
    config.data.augment = (("random_crop", {"pad": 4}), "horizontal_flip")
    config.data.mean = (0.1, 0.2)
    config.model.arguments = {"depths": (1, 2, (3, 4)), "stem": "small", "scale": 0.5, "bias": False, "nested": {"a": (1,)}}
    return validate(config)


@pytest.mark.parametrize("config", [validate(default_config()), config_with_everything()], ids=["defaults", "everything"])
def test_config_read_back_from_json_equals_the_one_written(config):
    text = to_json(config)
    again = from_json(text)
    assert flatten(again) == flatten(config)
    assert differences(config, again) == []
    assert to_json(again) == text
    assert list(json.loads(text)) == ["schema", *declarations()]


def test_json_without_a_newer_setting_gets_its_default():
    values = json.loads(to_json(default_config()))
    del values["ema.decay"]
    assert from_json(json.dumps(values)).ema.decay == default_config().ema.decay


@pytest.mark.parametrize("name", ["sede", "optimizer.learning_rat", "optimiser.name", "model.arguments.depths"])
def test_json_with_an_unknown_setting_is_refused_by_name(name):
    with pytest.raises(UserError, match=f"no setting '{name}'"):
        from_json(json.dumps({name: 1}))


def test_difference_names_setting_and_both_values():
    assert differences(changed("seed", 1), changed("seed", 2)) == ["seed: 1 -> 2"]


@pytest.mark.parametrize("name", declarations())
def test_differences_are_exactly_the_settings_that_change_the_result(name):
    entry, needs = declarations()[name], needed(name)
    if name == "data.cache":
        needs["data.random_crop"] = OTHERS["data.random_crop"]  # without random crops, the cache changes no pixels
    old = with_changes(default_config(), needs)
    value = next(other for other in (another(entry), entry.default) if flatten(old)[name] != other)
    lines = differences(old, with_changes(old, {name: value}))
    assert [line.partition(":")[0] for line in lines] == [name] * entry.about.changes_result


def test_only_settings_of_speed_and_bookkeeping_do_not_change_the_result():
    free = {name for name, entry in declarations().items() if not entry.about.changes_result}
    assert {"devices", "data.resident", "checkpoint.every", "log.every", "evaluate.batch_size"} <= free
    assert free.isdisjoint({"seed", "total", "batch_size", "optimizer.accumulate", "data.validation", "evaluate.every"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"total": "10epochs"}, {"total": "10 epoch"}),
        ({"total": "1000examples"}, {"total": "1_000 examples"}),
        ({"model.pretrained": "runs/digits"}, {"model.pretrained": "runs/digits/"}),
        ({"model.pretrained": os.path.expanduser("~/weights.npz")}, {"model.pretrained": "~/weights.npz"}),
        ({"data.name": "folder", "data.cache": "memory"}, {"data.name": "folder", "data.cache": "disk"}),
        ({"data.name": "folder"}, {"data.name": "folder", "data.cache": "disk"}),
    ],
)
def test_equivalent_values_are_no_difference(one, other):
    default = default_config()
    assert differences(with_changes(default, one), with_changes(default, other)) == []


def test_description_has_every_setting_with_value_and_meaning():
    lines = describe(config_with_everything()).splitlines()
    for line, (name, entry) in zip(lines, declarations().items(), strict=True):
        assert line.startswith(f"{name} = ")
        assert entry.about.meaning
        assert line.endswith(f"# {entry.about.meaning}")
    assert any(line.startswith("data.mean = (0.1, 0.2) ") for line in lines)


# ── configs/ ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.name)
def test_file_in_configs_loads_and_its_docstring_gives_its_command(path):
    load_config(str(path))
    assert f"--config=configs/{path.name}" in path.read_text()


@pytest.mark.parametrize(
    ("file", "name"),
    [("resnet_cifar10.py:110", "resnet110"), ("resnet_cifar10.py", "resnet20"), ("lenet5_mnist.py:relu", "lenet5_relu")],
)
def test_argument_after_the_colon_chooses_the_model(file, name):
    assert load_config(f"{CONFIGS}/{file}").model.name == name


@pytest.mark.parametrize("file", ["resnet_cifar10.py:21", "lenet5_mnist.py:1999"])
def test_unknown_argument_after_the_colon_is_refused_with_the_valid_ones(file):
    with pytest.raises(UserError, match=f"{file}: expected .* after the colon"):
        load_config(f"{CONFIGS}/{file}")


def test_argument_is_refused_by_a_file_without_one():
    with pytest.raises(UserError, match="accepts no argument after a colon"):
        load_config(f"{CONFIGS}/lenet5_digits.py:20")
