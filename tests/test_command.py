import os
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver
from common import child_processes
from common.child_processes import ROOT, experiment, finish, run

from jaxcnn import command
from jaxcnn.command import load_config
from jaxcnn.config import from_json, to_json
from jaxcnn.errors import UserError

REPOSITORY = Path(__file__).parents[1]
PLAIN = "from jaxcnn.config import default_config as get_config\n"


@pytest.fixture
def config_file(tmp_path):
    """Returns a function that writes a config file and returns its path."""

    def write(text=PLAIN, name="experiment.py"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=7", 7),
        ("batch_size=1_024", 1024),
        ("optimizer.learning_rate=1e-3", 1e-3),
        ("optimizer.learning_rate=1", 1.0),
        ("optimizer.nesterov=True", True),
        ("optimizer.nesterov=true", True),
        ("total=5000steps", "5000steps"),
        ("data.root=/data/my pictures=2", "/data/my pictures=2"),
        ("data.root=1", "1"),  # remains a string
        ("data.root=", ""),
        ("data.mean=(0.5, 0.25)", (0.5, 0.25)),
        ("data.mean=0.5,0.25,1", (0.5, 0.25, 1.0)),
        ("data.mean=[0.5]", (0.5,)),
        ("data.mean=0.5", (0.5,)),
        ("data.mean=()", ()),
        ("data.image_size=224", 224),
        ("data.image_size=192,256", (192, 256)),
        ("data.image_size=(192, 256)", (192, 256)),
        ("data.image_size=[224, 224]", 224),
        ("data.cache_side=300,400", (300, 400)),
        ("data.sizes=128,160", (128, 160)),
        ("data.sizes=(96,128),(192,256)", ((96, 128), (192, 256))),
        ("data.sizes=((96, 128),)", ((96, 128),)),
        ("data.augment=horizontal_flip", ("horizontal_flip",)),
        ("data.augment=('horizontal_flip', ('random_crop', {'pad': 2}))", ("horizontal_flip", ("random_crop", {"pad": 2}))),
        ("data.augment=['horizontal_flip', ['random_crop', {'pad': 2}]]", ("horizontal_flip", ("random_crop", {"pad": 2}))),
        ("optimizer.freeze=^stem/", ("^stem/",)),
        ("optimizer.freeze=[0-9]", ("[0-9]",)),
        ("optimizer.learning_rate_factors=(('stem', 0.5),)", (("stem", 0.5),)),
        ("schedule.boundaries=('10epochs', '20epochs')", ("10epochs", "20epochs")),
        ("model.arguments.stem=small", "small"),
        ("model.arguments.depths=(2, 2)", (2, 2)),
        ("model.arguments.depths=[2, [2]]", (2, (2,))),
        ("model.arguments.scale=0.5", 0.5),
        ("model.arguments.bias=False", False),
    ],
)
def test_override_is_parsed_as_a_literal(config_file, override, expected):
    conditions = ["data.name=folder", "data.cache=disk", "data.random_crop=((0.5, 1.0), (1.0, 1.0))", "schedule.name=steps"]
    value = load_config(config_file(), [f"--config.{setting}" for setting in (*conditions, override)])
    for name in override.partition("=")[0].split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)


def test_a_file_may_assign_a_height_and_a_width(config_file):
    text = PLAIN.replace("get_config", "d") + "def get_config():\n    c = d()\n    c.data.image_size = 192, 256\n    return c\n"
    config = load_config(config_file(text))
    assert config.data.image_size == (192, 256)
    assert from_json(to_json(config)).data.image_size == (192, 256)
    assert load_config(config_file(text), ["--config.data.image_size=64"]).data.image_size == 64


def test_dict_of_arguments_can_be_overridden(config_file):
    config = load_config(config_file(), ["--config.model.arguments={'depths': [1, 2]}", "--config.model.arguments.stem=small"])
    assert config.model.arguments == {"depths": (1, 2), "stem": "small"}


@pytest.mark.process
def test_config_is_loaded_without_jax_and_numpy():
    code = f"import sys; from jaxcnn.command import load_config; load_config('{ROOT}/configs/lenet5_digits.py')\n"
    code += "print({'jax', 'numpy', 'flax', 'optax', 'cv2'} & set(sys.modules))"
    assert run("-c", code) == (0, "set()\n", "")


def test_later_override_wins_and_one_dash_is_enough(config_file):
    assert load_config(config_file(), ["--config.seed=1", "-config.seed=2"]).seed == 2


def test_argument_after_the_colon_reaches_the_file(config_file):
    file = config_file(
        PLAIN.replace("get_config", "d") + "def get_config(s):\n    c = d()\n    c.seed = int(s)\n    return c\n"
    )
    assert load_config(f"{file}:5").seed == 5
    with pytest.raises(UserError, match=r"needs an argument: FILE.py:ARGUMENT"):
        load_config(file)
    with pytest.raises(UserError, match=r"experiment.py:4: ValueError: .*'x'"):
        load_config(f"{file}:x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sede=1", "no setting 'sede'.*\"seed\""),
        ("optimizer.learning_rat=1", 'did you mean "optimizer.learning_rate"'),
        ("optimiser.learning_rate=1", 'did you mean "optimizer.learning_rate"'),
        ("seed.x=1", "no setting 'seed.x'"),
        ("optimizer=sgd", "no setting 'optimizer'"),
        ("=1", "no setting ''"),
        ("seed", "write it as --config.seed=VALUE"),
        ("seed=1.5", "seed: expected an int from 0 to 4,294,967,295, got 1.5"),
        ("seed=one", "seed: expected an int .*, got 'one'"),
        ("seed=", "seed: expected an int .*, got ''"),
        ("seed={[]: 1}", "seed: expected an int"),  # not a valid literal
        ("optimizer.nesterov=yes", "optimizer.nesterov: expected True or False, got 'yes'"),
        ("optimizer.learning_rate=1e999", "optimizer.learning_rate: expected a finite number of at least 0, got inf"),
        ("total=10", "total: expected a duration such as 5000steps, 10epochs or .*, got '10'"),
        ("data.image_size=192x256", r"data.image_size: expected a size in pixels such as 224, or .*, got '192x256'"),
        ("data.image_size=192,", "data.image_size: expected a size in pixels"),
        ("data.image_size=192,256,3", "data.image_size: expected a size in pixels"),
        ("data.image_size=192,0", "data.image_size: expected a size in pixels"),
        ("data.image_size=192,25.6", "data.image_size: expected a size in pixels"),
        ("data.cache_side=300,20000", "data.cache_side: expected a size of at most 10,000 pixels, .*, got .300, 20000"),
        ("data.sizes=(96,128,3),(192,256)", "data.sizes: expected a list, each item a size in pixels"),
        ("batch_size=8,8", r"batch_size: expected an int of at least 1, got \(8, 8\)$"),
        ("data.mean=a,b", "data.mean: expected a list, each item a finite number, got .'a', 'b'"),
        ("model.arguments=stem", "model.arguments: expected a dict, got 'stem'"),
    ],
)
def test_wrong_override_is_refused_by_name(config_file, override, message):
    with pytest.raises(UserError, match=message):
        load_config(config_file(), [f"--config.{override}"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import jaxcnn\nx = (1,\n", r"experiment.py:2: SyntaxError: "),
        ("\nimport nothing_of_this_name\n", "experiment.py:2: ModuleNotFoundError: .*nothing_of_this_name"),
        ("def get_config():\n    return {}['x']\n", "experiment.py:2: KeyError: 'x'"),
        ("def get_config():\n    raise ValueError('first\\nsecond')\n", "experiment.py:2: ValueError: first$"),
        ("def get_config():\n    assert False\n", "experiment.py:2: AssertionError$"),  # it has no message
        ("def get_configuration():\n    pass\n", "experiment.py:.*AttributeError: .*get_config"),
        ("def get_config():\n    pass\n", "get_config should return a ConfigDict, but returned None"),
        (PLAIN + "x = get_config()\nx.optimzer.name = 'sgd'\n", "experiment.py:3: AttributeError: .*optimizer"),
        (PLAIN + "x = get_config()\nx.batch_size = 'many'\n", "experiment.py:3: TypeError: "),
    ],
)
def test_error_in_the_file_is_reported_with_its_line(config_file, text, message):
    with pytest.raises(UserError, match=message) as mistake:
        load_config(config_file(text), ["--config.seed=1"])
    assert "\n" not in str(mistake.value)


def test_missing_file_is_reported_with_a_similar_name(config_file, tmp_path):
    config_file(name="lenet5_digits.py")
    with pytest.raises(UserError, match=r'no file .*lenet_digits.py\'.*did you mean "lenet5_digits.py"'):
        load_config(str(tmp_path / "lenet_digits.py"))
    with pytest.raises(UserError, match=r"no file '/nowhere/at/all.py'$"):
        load_config("/nowhere/at/all.py")
    with pytest.raises(UserError, match="no file"):
        load_config(str(tmp_path))
    with pytest.raises(UserError, match="is not a Python file"):
        load_config(config_file(name="config.json"))


@pytest.mark.process
@pytest.mark.parametrize("argument", ["config.png", "---config.png", "config.seed=1"])
def test_only_one_or_two_dashes_mark_an_override(argument):
    program = "from jaxcnn import command; command.run(lambda arguments, config: print(arguments, config))"
    code, out, err = child_processes.run("-c", program, "--", argument, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (code, out, err) == (0, f"['{argument}'] None\n", "")


@pytest.mark.process
def test_misspelt_setting_ends_training_in_one_line_and_leaves_nothing(tmp_path):
    workdir = tmp_path / "run"
    flags = ["--config=configs/lenet5_digits.py", f"--workdir={workdir}", "--config.optimizer.learning_rat=0.1"]
    code, out, err = finish(experiment("train.py", *flags))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: config: no setting 'optimizer.learning_rat' (did you mean \"optimizer.learning_rate\"")
    assert not workdir.exists()


def test_home_folder_in_a_flag_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    with flagsaver.flagsaver():
        flags.FLAGS(["train.py", "--config=~/mine.py"])
        command._expand_home()
        assert flags.FLAGS.config == "/home/someone/mine.py"
