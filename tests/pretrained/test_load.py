"""Loading published weights with load_pretrained, a config and predict.py, and the errors for invalid sources."""

import csv
import json
import re
import socket

import cv2
import huggingface_hub
import jax
import numpy as np
import pytest
import safetensors.numpy
from common import reference_weights
from common.child_processes import experiment, finish
from common.pytorch_files import Global, write
from common.small_runs import small_config
from huggingface_hub import constants

from jaxcnn import create_model, load_pretrained, train, weights
from jaxcnn.config import validate
from jaxcnn.data.files import third_party_lines
from jaxcnn.errors import UserError
from jaxcnn.pretrained import find_pretrained
from jaxcnn.train.experiment import prepare

RNG = np.random.default_rng(0)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ASSUMED = "assumed: preprocessing of ImageNet, because these weights do not specify it"


@pytest.fixture(scope="module")
def state():
    """Random weights of ResNet-20 for ten classes, with positive variances."""
    return {name: abs(value) if "var" in name else value for name, value in reference_weights.resnet20().items()}


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet20.npz"
    np.savez(path, **state)
    return str(path)


def leaves(variables):
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in jax.tree.leaves_with_path(variables)}


def test_model_weights_and_preprocessing_are_loaded_unchanged_and_an_assumption_is_printed(file, state, capsys):
    model, variables, preprocessing = load_pretrained(file, "resnet20")
    assert model == create_model("resnet20", num_classes=10)
    expected = leaves(weights.convert("resnet20", state))
    assert (found := leaves(variables)).keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)
    assert (preprocessing.mean, preprocessing.std, preprocessing.size) == (*IMAGENET, (32, 32))
    assert capsys.readouterr().out == f"resnet20 from {file}: {ASSUMED}\n"


@pytest.mark.slow
def test_new_head_is_initialized_reproducibly_and_reported(file, state):
    lines = []
    model, variables, _ = load_pretrained(file, "resnet20", num_classes=3, say=lines.append)
    assert model.num_classes == 3
    assert lines == [f"resnet20 from {file}: newly initialized for 3 classes instead of 10: head/bias, head/kernel; {ASSUMED}"]
    head = variables["params"]["head"]
    assert head["kernel"].shape == (64, 3)
    assert np.std(head["kernel"]) > 0
    again = load_pretrained(file, "resnet20", num_classes=3, say=lines.append)[1]
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again, variables)))
    ten = leaves(weights.convert("resnet20", state))
    assert all((ten[name] == value).all() for name, value in leaves(variables).items() if "head" not in name)


def test_model_without_head_returns_features_and_a_file_without_head_fits_any_number_of_classes(file, state, tmp_path):
    model, variables, _ = load_pretrained(file, "resnet20", num_classes=0)
    assert "head" not in variables["params"]
    images = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    assert jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, images).shape == (2, 64)
    np.savez(tmp_path / "features.npz", **{name: value for name, value in state.items() if "linear" not in name})
    with pytest.raises(UserError, match=r"features\.npz: has no head; num_classes=0 returns the features"):
        load_pretrained(str(tmp_path / "features.npz"), "resnet20")
    variables = load_pretrained(str(tmp_path / "features.npz"), "resnet20", num_classes=3, say=lambda line: None)[1]
    assert variables["params"]["head"]["bias"].shape == (3,)


def test_gray_images_get_an_adapted_stem_and_the_average_of_mean_and_std(file):
    lines = []
    _, variables, preprocessing = load_pretrained(file, "resnet20", channels=1, say=lines.append)
    assert variables["params"]["stem_conv"]["kernel"].shape == (3, 3, 1, 16)
    assert lines == [f"resnet20 from {file}: stem_conv/kernel adapted from 3 channels to 1; {ASSUMED}"]
    assert preprocessing.input_shape == (32, 32, 1)
    assert preprocessing.mean == pytest.approx([np.mean(IMAGENET[0])])


@pytest.mark.parametrize(
    ("name", "expected"),  # expected: keras.applications' preprocess_input, for RGB pixels 0…255
    [
        ("keras/MobileNet", lambda x: x / 127.5 - 1),
        ("keras/ResNet50V2", lambda x: x / 127.5 - 1),
        ("keras/DenseNet121", lambda x: (x / 255 - IMAGENET[0]) / IMAGENET[1]),
        ("keras/EfficientNetB0", lambda x: x),
        ("keras/MobileNetV3Small", lambda x: x),
        ("keras/VGG16", lambda x: x - (123.68, 116.779, 103.939)),  # the channels of its weights are reversed
        ("keras/ResNet50", lambda x: x - (123.68, 116.779, 103.939)),
    ],
)
def test_keras_networks_get_the_pixels_that_they_were_trained_with(name, expected):
    images = RNG.integers(0, 256, (1, 224, 224, 3), np.uint8)
    found = find_pretrained("weights.h5", name).preprocessing(images)
    np.testing.assert_allclose(found, expected(images.astype(np.float64)), atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize(
    ("file", "name", "expected"),  # values from torchvision's documentation and timm's default weights
    [
        ("resnet50-0676ba61.pth", "resnet50", (224, 256, "bilinear")),
        ("resnet50-11ad3fa6.safetensors", "resnet50", (224, 232, "bilinear")),  # version 2
        ("mine.pth", "torchvision/efficientnet_b3", (300, 320, "bicubic")),
        ("mine.pth", "timm/mobilenetv4_conv_medium", (256, 269, "bicubic")),
        ("mine.npz", "mobilenet_v1_075", (224, 256, "bilinear")),
    ],
)
def test_preprocessing_is_that_of_the_published_weights(file, name, expected):
    found = find_pretrained(file, name).preprocessing
    assert (found.size[0], round(found.size[0] / found.crop_ratio), found.interpolation) == expected


def test_every_published_preprocessing_is_found_for_a_registered_model():
    for library, count in (("torchvision", 103), ("timm", 84)):
        rows = list(csv.DictReader(third_party_lines(f"preprocessing/{library}.csv")))
        assert len(rows) == count
        for row in rows:
            found = find_pretrained(row["weights"], f"{library}/{row['model']}").preprocessing
            assert (found.size[0], found.interpolation) == (int(row["size"]), row["interpolation"])
            assert round(found.size[0] / found.crop_ratio) == int(row["resize"])


def test_bgr_weights_of_some_keras_networks_are_adapted_to_rgb(file, state, monkeypatch):
    plain = weights.convert("resnet20", state)["params"]["stem_conv"]["kernel"]
    monkeypatch.setattr("jaxcnn.pretrained.load._is_caffe", lambda name: True)
    adapted = load_pretrained(file, "resnet20")[1]["params"]["stem_conv"]["kernel"]
    rgb = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    ours, theirs = (
        jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        for x, k in ((rgb, adapted), (rgb[..., ::-1], plain))
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


# ── In a config ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def prepared(file, classes, **changes):
    """Returns an experiment that starts from the file, on images with `classes` classes."""
    images, labels = RNG.integers(0, 256, (40, 16, 16, 3), np.uint8), np.arange(40) % classes
    np.savez(f"{file}.data.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    config = small_config(**{
        "model.name": "resnet20", "model.pretrained": file, "data.augment": (), "data.name": "arrays", "data.image_size": 0,
        "data.root": f"{file}.data.npz", "data.validation": 0.0, "batch_size": 8, "total": "9steps", **changes,
    })  # fmt: skip
    return prepare(validate(config))


def test_training_on_other_classes_starts_with_a_new_head_and_the_mean_and_std_of_the_weights(file):
    lines = []
    experiment = prepared(file, 4)
    state = experiment.initial_state(lines.append)
    assert state.variables["params"]["head"]["kernel"].shape == (64, 4)
    assert (experiment.preprocessing.mean, experiment.preprocessing.std) == IMAGENET
    assert lines == [
        f"starts from {file}; newly initialized for 4 classes instead of 10: head/bias, head/kernel; "
        "pixels normalized as it expects, mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225",
        f"{ASSUMED}; --config.data.mean and --config.data.std change it",
    ]


def test_mean_and_std_of_the_config_have_priority(file):
    lines = []
    experiment = prepared(file, 10, **{"data.mean": (0.1, 0.2, 0.3), "data.std": (1.0, 1.0, 1.0)})
    experiment.task.pretrained(experiment.setup, lines.append)
    assert experiment.preprocessing.mean == (0.1, 0.2, 0.3)
    kept = "its head is kept because the data set has as many classes; whether they are the same is not known"
    assert lines == [f"starts from {file}; {kept}"]


def test_weights_of_other_classes_are_not_evaluated(file):
    with pytest.raises(UserError, match=r"resnet20\.npz has 10 classes, but the data set has 4$"):
        train.load_weights(prepared(file, 4).config)


# ── The hub ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A function that writes files to the hub's cache. The hub itself is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(repository, config, tensors=None):
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        (snapshot := folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("a" * 40)
        (snapshot / "config.json").write_text(json.dumps(config))
        safetensors.numpy.save_file(tensors or {}, snapshot / "model.safetensors")

    return put


def test_model_of_the_hub_has_name_weights_and_preprocessing(cached, state):
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "input_size": [3, 160, 192]}
    settings |= {"crop_pct": 0.95, "interpolation": "bicubic"}
    config = {"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": settings, "label_names": list("abcdefghij")}
    cached("timm/resnet18.test", config, {name: np.ascontiguousarray(value, np.float32) for name, value in state.items()})
    origin = find_pretrained("hf:timm/resnet18.test")
    assert (origin.name, origin.class_names) == ("torchvision/resnet18", tuple("abcdefghij"))
    model, variables, preprocessing = load_pretrained("hf:timm/resnet18.test", "resnet20")
    assert (model.num_classes, preprocessing.size, preprocessing.crop_ratio) == (10, (160, 192), 0.95)
    assert (preprocessing.mean, preprocessing.std, preprocessing.interpolation) == ((0.5,) * 3, (0.25,) * 3, "bicubic")
    np.testing.assert_array_equal(variables["params"]["head"]["bias"], np.float32(state["linear.bias"]))


def test_missing_or_unsuitable_hub_models_are_reported_in_one_line(cached):
    cached("timm/some.thing", {"architecture": "resnet19"})
    cached("someone/else", {"architectures": ["BertModel"]})
    for source, message in (
        ("hf:resnet50", "hf:resnet50: write it as hf:OWNER/NAME"),
        ("hf:timm/absent", "hf:timm/absent: config.json is not in the cache, and HF_HUB_OFFLINE is set"),
        ("hf:timm/some.thing", 'hf:timm/some.thing: no model "resnet19" (did you mean "'),
        ("hf:someone/else", "hf:someone/else: its config.json is not in timm's format"),
    ):
        with pytest.raises(UserError, match=re.escape(message)) as error:
            load_pretrained(source)
        assert "\n" not in str(error.value)


def test_unreachable_hub_is_reported_at_once(cached, monkeypatch):
    def unreachable(*_, **__):
        raise socket.gaierror("no such host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda *_, **__: "")
    with pytest.raises(UserError, match=r"hf:timm/absent: config\.json is not in the cache, and the hub can't be reached"):
        load_pretrained("hf:timm/absent")


# ── Mistakes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_weights_that_do_not_fit_are_refused_in_one_line(file, state, tmp_path):
    def variant(name, tensors):
        np.savez(tmp_path / name, **tensors)
        return str(tmp_path / name)

    missing = variant("missing.npz", {name: value for name, value in state.items() if name != "linear.weight"})
    shape = variant("shape.npz", state | {"bn1.weight": np.zeros(7)})
    for source, name, message in (
        (file, "resnet56", f"{file}: weights do not fit resnet56, num_classes=10: "),
        (file, "resnet18", f"{file}: weights do not fit resnet18, num_classes=0: "),
        (missing, "resnet20", f"{missing}: weights do not fit resnet20, num_classes=10: 1 missing: linear.weight"),
        (shape, "resnet20", "1 of the wrong shape: bn1.weight has (7,), expected (16,)"),
        (file, "resnet21", 'no model "resnet21" (did you mean "resnet'),
        (file, None, f"{file}: the file does not specify its model; name it"),
        (f"{tmp_path}/absent.pth", "resnet20", f"{tmp_path}/absent.pth: no such file"),
    ):
        with pytest.raises(UserError, match=re.escape(message)) as error:
            load_pretrained(source, name)
        assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.process
def test_predict_with_weights_names_classes(file, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), RNG.integers(0, 256, (40, 60, 3), np.uint8))
    arguments = ("--model=resnet20", f"--pretrained={file}", "--json", tmp_path / "a.png")
    code, out, err = finish(experiment("predict.py", *arguments))
    assert code == 0, err
    assert f"{ASSUMED}\n" in err
    (result,) = json.loads(out)
    assert {row["name"] for row in result["classes"]} <= set("0123456789")  # not ImageNet's 1,000


def test_imagenet_names_are_in_label_order():
    from jaxcnn.pretrained import class_names

    names = class_names(find_pretrained("weights.pth", "resnet18"), 1000)
    assert len(names) == 1000
    assert (names[258], names[281], names[870]) == ("Samoyed", "tabby", "tricycle")


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model=resnet20", "--pretrained={tmp}/code.pth"],
            "error: {tmp}/code.pth: holds code (os.system), not only tensors",
        ),
        (
            ["--model=resnet2O", "--pretrained={tmp}/code.pth"],
            'error: model.name: no model "resnet2O" (did you mean "resnet',
        ),
        (["--model=resnet20"], "error: --model: requires --pretrained=WEIGHTS"),
    ],
)
def test_mistake_ends_in_one_line_and_exit_code_2(tmp_path, arguments, message):
    write(tmp_path / "code.pth", {"a": Global("os.system", f"touch {tmp_path}/ran")})
    code, out, err = finish(experiment("predict.py", *(a.format(tmp=tmp_path) for a in arguments), "a.png"))
    assert (code, out) == (2, ""), err
    assert err.startswith(message.format(tmp=tmp_path))
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "ran").exists()
