"""Written weights can be loaded by load_pretrained and by other libraries, with their preprocessing and class names."""

import dataclasses
import functools
import json
import re

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from jaxcnn import create_model, load_pretrained, save_pretrained, train, weights
from jaxcnn.data import Preprocessing
from jaxcnn.errors import UserError
from jaxcnn.pretrained import find_pretrained
from jaxcnn.weights.files import METADATA

save = functools.partial(save_pretrained, task="multiclass")
NAMES = ("ant", "bee", "cow")
COLOR = Preprocessing((32, 36, 3), (32, 36), "bilinear", (0.2, 0.3, 0.4), (0.5, 0.6, 0.1), "stretch", 0.9, "bicubic")
GRAY = Preprocessing((8, 8, 1), (32, 32), "pad", (1 / 3,), (0.1,))
FORMS = ("weights.npz", "weights.safetensors", "folder")


def random_variables(name, preprocessing, **arguments):
    """Returns a model and random variables in the shapes of model.init, without compiling it."""
    rng, model = np.random.default_rng(0), create_model(name, **arguments)
    images = jax.ShapeDtypeStruct((1, *preprocessing.input_shape), np.float32)
    shapes = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    return model, jax.tree.map(lambda x: rng.uniform(0.1, 1, x.shape).astype(np.float32), shapes)


def leaves(variables):
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(variables)}


def assert_equal(found, expected):
    found, expected = leaves(found), leaves(expected)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, strict=True, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "preprocessing"), [("resnet20", COLOR), ("lenet5_relu", GRAY), ("squeezenet1_1", COLOR), ("inception_bn", COLOR)]
)
def test_written_weights_are_loaded_unchanged(tmp_path, form, name, preprocessing):
    model, variables = random_variables(name, preprocessing, num_classes=3)
    save(tmp_path / form, name, variables, preprocessing, NAMES)
    found = load_pretrained(str(tmp_path / form), say=pytest.fail)  # nothing is assumed or adapted
    assert (found[0], found[2]) == (model, preprocessing)
    assert_equal(found[1], variables)
    assert find_pretrained(str(tmp_path / form)).class_names == NAMES


def test_numpy_scalars_are_written_as_numbers(tmp_path):
    _, variables = random_variables("lenet5_relu", GRAY, num_classes=3)
    numpy = dataclasses.replace(GRAY, mean=tuple(np.float32([0.25])), std=tuple(np.float32([0.5])))
    for form in FORMS:
        save(tmp_path / form, "lenet5_relu", variables, numpy, np.array(NAMES))
        assert load_pretrained(str(tmp_path / form))[2] == numpy
        assert find_pretrained(str(tmp_path / form)).class_names == NAMES


def test_logits_are_bitwise_equal(tmp_path):
    model, variables = random_variables("lenet5_relu", GRAY, num_classes=3)
    save(tmp_path / "a.npz", "lenet5_relu", variables, GRAY, NAMES)
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 1), np.uint8)
    again, loaded, preprocessing = load_pretrained(str(tmp_path / "a.npz"))
    expected, found = model.apply(variables, GRAY(images), train=False), again.apply(loaded, preprocessing(images), train=False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("form", FORMS)
def test_binary_and_multilabel_heads_keep_their_task(tmp_path, form):
    _, variables = random_variables("lenet5_relu", GRAY, num_classes=1)
    save(tmp_path / form, "lenet5_relu", variables, GRAY, ("cat", "dog"), task="binary")
    trained = train.from_pretrained(str(tmp_path / form))
    assert (trained.task.kind, trained.class_names, trained.task.model.num_classes) == ("binary", ("cat", "dog"), 1)
    _, variables = random_variables("lenet5_relu", GRAY, num_classes=3)
    save(tmp_path / form, "lenet5_relu", variables, GRAY, NAMES, task="multilabel")
    assert train.from_pretrained(str(tmp_path / form)).task.kind == "multilabel"


def test_arguments_and_dtype_of_the_model_are_restored(tmp_path):
    model, variables = random_variables("resnet18", COLOR, num_classes=3, stem="small", dtype="bfloat16")
    save(tmp_path / "a.safetensors", "resnet18", variables, COLOR, NAMES, stem="small", dtype="bfloat16")
    assert load_pretrained(str(tmp_path / "a.safetensors"), say=pytest.fail)[0] == model
    assert load_pretrained(str(tmp_path / "a.safetensors"), dtype="float32")[0].dtype == np.float32


def test_file_converted_to_16_bits_keeps_its_metadata(tmp_path):
    _, variables = random_variables("resnet20", COLOR, num_classes=3)
    variables = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float32), variables)
    save(path := tmp_path / "a.safetensors", "resnet20", variables, COLOR, NAMES)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    halves = {name: value.astype(ml_dtypes.bfloat16) for name, value in safetensors.numpy.load_file(path).items()}
    safetensors.numpy.save_file(halves, path, metadata)
    _, found, preprocessing = load_pretrained(str(path), say=pytest.fail)
    assert preprocessing == COLOR
    assert_equal(found, variables)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_tensors_have_the_names_and_layouts_of_the_other_library(tmp_path, suffix):
    _, variables = random_variables("resnet20", COLOR, num_classes=3)
    save(path := tmp_path / f"a{suffix}", "resnet20", variables, COLOR, NAMES)
    found = safetensors.numpy.load_file(path) if suffix == ".safetensors" else dict(np.load(path))
    found.pop(METADATA, None)
    expected = weights.export("resnet20", variables)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, strict=True, err_msg=name)


def test_config_of_a_folder_equals_what_timm_writes(tmp_path):
    _, variables = random_variables("resnet18", COLOR, num_classes=3)
    save(tmp_path, "torchvision/resnet18", variables, COLOR, NAMES)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "architecture": "resnet18",
        "num_classes": 3,
        "label_names": list(NAMES),
        "pretrained_cfg": {
            "input_size": [3, 32, 36],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "crop_mode": "squash",
            "mean": [0.2, 0.3, 0.4],
            "std": [0.5, 0.6, 0.1],
            "num_classes": 3,
            "first_conv": "conv1",
            "classifier": "fc",
        },
    }


def test_folder_that_contradicts_itself_is_refused(tmp_path):
    _, variables = random_variables("resnet20", COLOR, num_classes=3)
    save(tmp_path, "resnet20", variables, COLOR, NAMES)
    config = json.loads((tmp_path / "config.json").read_text())
    config["label_names"] = ["cow", "bee", "ant"]
    config["pretrained_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json and the metadata of model\.safetensors differ in mean, label_names"):
        load_pretrained(str(tmp_path))


def test_channels_of_written_weights_are_not_reversed(tmp_path, monkeypatch):
    """Only the BGR weights that Keras published are reversed; weights that this package wrote are for RGB."""
    monkeypatch.setattr("jaxcnn.pretrained.load._is_caffe", lambda name: True)
    _, variables = random_variables("resnet20", COLOR, num_classes=3)
    save(tmp_path / "a.npz", "resnet20", variables, COLOR, NAMES)
    assert_equal(load_pretrained(str(tmp_path / "a.npz"))[1], variables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "its metadata are damaged: Expecting"),
        ("[1]", "its metadata are damaged: expected a JSON object, got list"),
        ({"model": None}, "its metadata are damaged (TypeError"),
        ({"model": {"name": "resnet2O", "arguments": {}}}, 'no model "resnet2O"'),
        ({"task": "regression"}, "its metadata are damaged (ValueError: unknown task 'regression')"),
        ({"class_names": 3}, "its metadata are damaged (TypeError"),
        ({"preprocessing": {"mean": [0.5]}}, "its metadata are damaged (TypeError"),
        ({"preprocessing": dataclasses.asdict(COLOR) | {"mean": "abc"}}, "its metadata are damaged (TypeError"),
        ({"preprocessing": dataclasses.asdict(COLOR) | {"mean": (0.5,)}}, "mean is (0.5,), which is not valid for 3 channels"),
        ({"preprocessing": dataclasses.asdict(COLOR) | {"std": (0.5, 0, 1)}}, "std is (0.5, 0, 1), which is not valid"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damaged_metadata_are_refused_in_one_line(tmp_path, suffix, change, message):
    valid = {"model": {"name": "resnet20", "arguments": {}}, "task": "multiclass", "class_names": NAMES}
    valid["preprocessing"] = COLOR.to_json()
    text = change if isinstance(change, str) else json.dumps(valid | change)
    path, tensors = tmp_path / f"a{suffix}", {"a": np.zeros(1, np.float32)}
    if suffix == ".npz":
        np.savez(path, **tensors, **{METADATA: np.array(text)})
    else:
        safetensors.numpy.save_file(tensors, path, {METADATA: text})
    with pytest.raises(UserError, match=re.escape(f"{path}: ") + ".*" + re.escape(message)) as error:
        load_pretrained(str(path))
    assert "\n" not in str(error.value)


def test_weights_of_another_model_are_refused_and_both_models_are_named(tmp_path):
    _, variables = random_variables("lenet5_relu", GRAY, num_classes=3)
    save(path := tmp_path / "a.npz", "lenet5_relu", variables, GRAY, NAMES)
    with pytest.raises(UserError, match=re.escape(f"{path}: holds weights of lenet5_relu, but model.name is resnet20")):
        load_pretrained(str(path), "resnet20")
    load_pretrained(str(path), "lenet5_relu")


def test_inconsistent_weights_are_not_written(tmp_path):
    _, variables = random_variables("lenet5_relu", GRAY, num_classes=3)
    for arguments, message in (
        (("lenet5_relu", variables, GRAY, ("a", "b")), "2 class names for a multiclass model with 3 outputs"),
        (("lenet5_relu", variables, GRAY, ("a", "b"), "binary"), "2 class names for a binary model with 3 outputs"),
        (("lenet5", variables, GRAY, NAMES), "weights do not fit lenet5"),
        (("lenet5_relu", variables, dataclasses.replace(GRAY, size=(28, 28)), NAMES), "28×28 is too small for lenet5_relu"),
    ):
        task = {"task": arguments[4]} if arguments[4:] else {}
        with pytest.raises(UserError, match=re.escape(message)):
            save(tmp_path / "a.npz", *arguments[:4], **task)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"run: holds the config\.json of something else"):
        save(tmp_path / "run", "lenet5_relu", variables, GRAY, NAMES)
    with pytest.raises(UserError, match=re.escape('weights are written as .safetensors or .npz, not as ".pth"')):
        save(tmp_path / "a.pth", "lenet5_relu", variables, GRAY, NAMES)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/model.safetensors: cannot be written"):
        save(tmp_path / "file", "lenet5_relu", variables, GRAY, NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "run"}


# ── timm's config.json beside weights ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def timm(tmp_path):
    """A function that changes the config.json of a folder in timm's format, and returns the folder."""
    _, variables = random_variables("resnet18", COLOR, num_classes=3)
    safetensors.numpy.save_file(weights.export("resnet18", variables), tmp_path / "model.safetensors", {"format": "pt"})
    settings = {"input_size": [3, 160, 192], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "crop_pct": 0.95}
    settings |= {"interpolation": "bicubic", "crop_mode": "squash", "classifier": "fc", "num_classes": 3}
    config = {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": settings, "label_names": list(NAMES)}

    def write(change=(), **more):
        text = json.dumps(config | dict(change) | more) if not isinstance(change, str) else change
        (tmp_path / "config.json").write_text(text)
        return tmp_path

    write()
    return write


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_folder_in_timm_format_and_the_file_in_it_have_preprocessing_and_names(timm, file):
    origin = find_pretrained(str(timm() / file))
    expected = Preprocessing((160, 192, 3), (160, 192), "bilinear", (0.5,) * 3, (0.25,) * 3, "stretch", 0.95, "bicubic")
    assert (origin.name, origin.preprocessing, origin.class_names) == ("torchvision/resnet18", expected, NAMES)
    model, _, preprocessing = load_pretrained(str(timm() / file), say=pytest.fail)
    assert (model.num_classes, preprocessing) == (3, expected)


def test_class_names_may_be_numbered(timm):
    numbered = {"2": "cow", "0": "ant", "1": "bee"}
    assert find_pretrained(str(timm(label_names=None, id2label=numbered))).class_names == NAMES
    assert find_pretrained(str(timm(label_names=numbered))).class_names == NAMES


def test_config_without_mean_and_std_is_an_assumption(timm):
    lines = []
    load_pretrained(str(timm(pretrained_cfg={})), say=lines.append)
    assert lines == [
        f"torchvision/resnet18 from {timm()}: assumed: preprocessing of ImageNet, because these weights do not specify it"
    ]


def test_config_of_another_model_or_of_a_run_is_ignored_for_a_file(timm):
    file = timm(architecture="resnet34") / "model.safetensors"
    assert find_pretrained(str(file), "resnet18").preprocessing.mean == (0.485, 0.456, 0.406)
    file = timm('{"model.name": "resnet18"}') / "model.safetensors"  # a run's settings
    assert find_pretrained(str(file), "resnet18").assumed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "config.json: its metadata are damaged"),
        ({"pretrained_cfg": {"mean": "abc"}}, "its config.json is not in timm's format (ValueError"),
        ({"pretrained_cfg": {"mean": [0.5, 0.5], "std": [0.5, 0.5]}}, "its config.json: mean is (0.5, 0.5)"),
        ({"label_names": {"ant": 0}}, "its config.json is not in timm's format (ValueError"),
        ({"architecture": "resnet19"}, 'no model "resnet19"'),
    ],
)
def test_damaged_config_is_refused_in_one_line(timm, change, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_pretrained(str(timm(change)))
    assert "\n" not in str(error.value)


def test_folder_without_weights_is_refused_with_the_expected_content(tmp_path):
    with pytest.raises(UserError, match=r"this folder holds neither a run \(checkpoints/\) nor a model in timm's format"):
        load_pretrained(str(tmp_path), "resnet20")
