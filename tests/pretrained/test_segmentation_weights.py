"""Segmentation networks start from weights of the same network or of their encoder; they are loaded, saved, and predict."""

import json
import re
import shutil

import cv2
import jax
import numpy as np
import pytest
from common import reference_weights
from common.begun_runs import begin
from common.child_processes import experiment, finish
from common.promises import GOLDEN
from common.small_runs import TIMES, quiet, small_config
from common.toy_tasks import write_scenes

from jaxcnn import create_model, load_pretrained, save_pretrained, train, weights
from jaxcnn.config import validate
from jaxcnn.data import Preprocessing
from jaxcnn.errors import UserError
from jaxcnn.pretrained import find_pretrained
from jaxcnn.tasks.segmentation import Segmentation
from jaxcnn.train.experiment import prepare
from jaxcnn.train.log import read_history

RNG = np.random.default_rng(0)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NAMES = ("ground", "thing")
SCENE = Preprocessing((12, 16, 3), (12, 16), "bilinear", (0.2, 0.3, 0.4), (0.5, 0.6, 0.7))
UNET = {"width": 2, "depth": 1, "norm": True, "padding": "same"}
OF_RESNET20 = {"encoder": "resnet20", "widths": (8, 8, 8)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The file of a data set with maps of two classes."""
    write_scenes(path := tmp_path_factory.mktemp("scenes") / "scenes.npz", examples=20)
    return path


@pytest.fixture(scope="module")
def resnet20(tmp_path_factory):
    """The file of a classifier with ten classes, and its variables."""
    state = {name: abs(value) if "var" in name else value for name, value in reference_weights.resnet20().items()}
    np.savez(path := tmp_path_factory.mktemp("weights") / "resnet20.npz", **state)
    return path, weights.convert("resnet20", state)


def config_of(scenes, source, name="encoder_unet", arguments=OF_RESNET20, task="segmentation", **changes):
    """Returns the config of two steps on the scenes that start from `source`."""
    config = small_config(**{
        "model.name": name, "model.pretrained": str(source), "data.name": "arrays", "data.root": str(scenes), "total": "2steps",
        "data.image_size": 0, "data.augment": (), "task.name": task, "batch_size": 4, "schedule.warmup": "0steps", **changes,
    })  # fmt: skip
    config.model.arguments.update(arguments)
    return validate(config)


def start(*options, **changes):
    """Returns an experiment, the variables with which it starts, and the printed lines."""
    prepared, lines = prepare(config_of(*options, **changes)), []
    return prepared, prepared.task.pretrained(prepared.setup, lines.append), lines


def random_variables(name, outputs, preprocessing=SCENE, **arguments):
    shapes = weights.head.variable_shapes(name, preprocessing.input_shape, num_classes=outputs, **arguments)
    flat = {path: RNG.uniform(0.1, 1, shape).astype(np.float32) for path, shape in shapes.items()}
    variables = {"params": {}, "batch_stats": {}}
    for (*parents, leaf), array in flat.items():
        tree = variables
        for parent in parents:
            tree = tree.setdefault(parent, {})
        tree[leaf] = array
    return variables


@pytest.fixture
def saved(tmp_path):
    """A function that saves a network for these classes and returns (path, variables)."""

    def write(names, name="unet", arguments=UNET):
        variables = random_variables(name, len(names), **arguments)
        path = tmp_path / f"{name}.npz"
        save_pretrained(path, name, variables, SCENE, names, task="segmentation", **arguments)
        return path, variables

    return write


def assert_equal(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), found, expected)


# ── Weights of the same network ─────────────────────────────────────────────────────────────────────────────────────────


def test_logits_are_those_of_the_source(scenes, saved):
    path, variables = saved(NAMES)
    prepared, found, lines = start(scenes, path, "unet", UNET)
    assert lines == [f"starts from {path}; pixels normalized as it expects, mean 0.2, 0.3, 0.4, std 0.5, 0.6, 0.7"]
    assert (prepared.preprocessing.mean, prepared.preprocessing.std) == (SCENE.mean, SCENE.std)
    images = np.asarray(prepared.preprocessing(prepared.dataset.test.read_batch(np.arange(2))))
    source = create_model("unet", num_classes=2, **UNET)
    expected = source.apply(variables, images, train=False)
    np.testing.assert_array_equal(prepared.task.model.apply(found, images, train=False), expected)
    assert_equal(train.load_weights(prepared.config).variables, variables)


def test_head_is_kept_reordered_or_newly_initialized(scenes, saved):
    path, variables = saved(NAMES[::-1])
    _, found, lines = start(scenes, path, "unet", UNET)
    body, head = found["params"], found["params"].pop("logits")
    source_body, source_head = dict(variables["params"]), variables["params"]["logits"]
    del source_body["logits"]
    assert_equal(body, source_body)
    assert_equal(head, jax.tree.map(lambda x: x[..., ::-1], source_head))
    assert "its head is reordered to the class order of the data set" in lines[0]
    for names, difference in ((("sky", "thing"), "ground instead of sky"), (("a", "b", "c"), "2 classes instead of 3")):
        path, variables = saved(names)
        _, found, lines = start(scenes, path, "unet", UNET)
        head = found["params"].pop("logits")
        assert head["kernel"].shape == (1, 1, 2, 2)
        assert not np.isin(head["kernel"], variables["params"].pop("logits")["kernel"]).any()
        assert_equal(found["params"], variables["params"])
        assert f"newly initialized for {difference}: logits/bias, logits/kernel" in lines[0]
    with pytest.raises(UserError, match=r"unet\.npz has 3 classes, but the data set has 2$"):
        train.load_weights(config_of(scenes, path, "unet", UNET))


@pytest.mark.slow
def test_network_with_an_encoder_starts_from_its_own_weights_too(scenes, saved):
    path, variables = saved(NAMES, "encoder_unet", OF_RESNET20)
    _, found, lines = start(scenes, path)
    assert_equal(found, variables)
    assert "encoder" not in lines[0].removeprefix(f"starts from {path}")
    with pytest.raises(UserError, match=r"do not fit encoder_unet, encoder=resnet20, widths=\(8, 8\), .* arrays differ"):
        start(scenes, path, arguments=OF_RESNET20 | {"widths": (8, 8)})


@pytest.mark.slow
def test_every_head_of_weights_from_torchvision_is_adapted(scenes, tmp_path):
    golden = reference_weights.load(GOLDEN / "torchvision/deeplabv3_mobilenet_v3_large__65x97__aux.json.gz")
    name, state = golden["model"], reference_weights.state_dict(golden)
    np.savez(path := tmp_path / "deeplab.npz", **state)
    expected = weights.convert(name, state, num_classes=21, aux_loss=True)
    _, found, lines = start(scenes, path, name, {"aux_loss": True})
    fresh = "aux_logits/bias, aux_logits/kernel, head_logits/bias, head_logits/kernel"
    assert f"newly initialized for 2 classes instead of 21: {fresh}; pixels normalized" in lines[0]
    for head in ("aux_logits", "head_logits"):
        assert found["params"].pop(head)["kernel"].shape[-1] == 2
        del expected["params"][head]
    assert_equal(found, expected)
    _, found, lines = start(scenes, path, name, {})
    assert "its auxiliary head is left out; newly initialized for 2 classes instead of 21: head_logits/bias" in lines[0]
    assert not [layer for layer in found["params"] if layer.startswith("aux")]


@pytest.mark.slow
def test_source_decides_whether_a_loaded_network_has_an_auxiliary_head(tmp_path, capsys):
    golden = reference_weights.load(GOLDEN / "torchvision/deeplabv3_mobilenet_v3_large__65x97__aux.json.gz")
    name, state = golden["model"], reference_weights.state_dict(golden)
    np.savez(both := tmp_path / "both.npz", **state)
    np.savez(main := tmp_path / "main.npz", **{key: value for key, value in state.items() if "aux" not in key})
    expected = weights.convert(name, state, num_classes=21, aux_loss=True)
    model, found, preprocessing = load_pretrained(str(both), name)
    assert model == create_model(name, aux_loss=True)
    assert_equal(found, expected)
    assert (preprocessing.size, preprocessing.fit, preprocessing.mean) == ((520, 520), "pad", IMAGENET[0])
    model, found, _ = load_pretrained(str(main), name)
    assert model == create_model(name)
    assert not [layer for layer in found["params"] if layer.startswith("aux")]
    assert "auxiliary" not in capsys.readouterr().out
    assert_equal(load_pretrained(str(both), name, aux_loss=False)[1], found)
    assert "its auxiliary head is left out" in capsys.readouterr().out
    _, with_new, _ = load_pretrained(str(main), name, aux_loss=True)
    assert "it has no auxiliary head, which is newly initialized" in capsys.readouterr().out
    assert jax.tree.map(np.shape, with_new) == jax.tree.map(np.shape, expected)
    assert_equal(with_new["params"]["backbone"], expected["params"]["backbone"])
    np.savez(backbone := tmp_path / "backbone.npz", **{key: value for key, value in state.items() if "backbone" in key})
    with pytest.raises(UserError, match=rf"weights do not fit {name}, aux_loss=False: \d+ missing: classifier"):
        load_pretrained(str(backbone), name)


# ── Weights of the encoder ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_maps_of_the_encoder_are_the_features_of_the_classifier(scenes, resnet20):
    path, classifier = resnet20
    prepared, found, lines = start(scenes, path)
    assert lines == [
        f"starts from {path}; its weights are used for the encoder of encoder_unet, without head/bias, head/kernel; the other "
        "layers are newly initialized; pixels normalized as it expects, mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225",
        "assumed: preprocessing of ImageNet, because these weights do not specify it; --config.data.mean and "
        "--config.data.std change it",
    ]
    assert (prepared.preprocessing.mean, prepared.preprocessing.std) == IMAGENET
    images = np.asarray(prepared.preprocessing(prepared.dataset.test.read_batch(np.arange(2))))
    backbone = create_model("resnet20", features_only=True)
    expected = backbone.apply(classifier, images, train=False)
    _, sown = prepared.task.model.apply(
        found,
        images,
        train=False,
        mutable=["intermediates"],
        capture_intermediates=lambda module, _: module.path == ("backbone",),
    )
    (maps,) = sown["intermediates"]["backbone"]["__call__"]
    assert_equal(maps, expected)
    shapes = jax.eval_shape(prepared.task.init, jax.random.key(0))
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, shapes)


@pytest.mark.slow
def test_decoder_follows_the_seed_and_statistics_of_the_config_have_priority(scenes, resnet20):
    changes = {"data.mean": (0.1, 0.2, 0.3), "data.std": (1.0, 1.0, 1.0)}
    found = [start(scenes, resnet20[0], seed=seed, **changes) for seed in (0, 1)]
    assert found[0][0].preprocessing.mean == (0.1, 0.2, 0.3)
    assert "normalized" not in found[0][2][0]
    (first, second) = (variables["params"] for _, variables, _ in found)
    assert_equal(first["backbone"], second["backbone"])
    assert not np.array_equal(first["up1_conv1"]["kernel"], second["up1_conv1"]["kernel"])


def test_run_of_the_classifier_is_a_source(scenes, tmp_path):
    images, labels = RNG.integers(0, 256, (20, 12, 16, 3), np.uint8), np.arange(20) % 2
    np.savez(data := tmp_path / "data.npz", images=images, labels=labels)
    begin(tmp_path / "run", config_of(data, "", "resnet20", {}, "classification", **{"data.mean": (0.5,) * 3}))
    prepared, found, lines = start(scenes, tmp_path / "run")
    assert lines[0].startswith(
        f"starts from {tmp_path}/run, step 7, averaged; its weights are used for the encoder of encoder_unet, without head/bias"
    )
    assert prepared.preprocessing.mean == (0.5,) * 3
    assert not any(array.any() for array in jax.tree.leaves(found["params"]["backbone"]))  # as in the checkpoint
    assert found["params"]["up1_conv1"]["kernel"].any()


def test_first_convolution_of_the_encoder_is_adapted_to_gray_images(resnet20, tmp_path):
    images, maps = RNG.integers(0, 256, (20, 12, 16, 1), np.uint8), RNG.integers(0, 2, (20, 12, 16), np.uint8)
    np.savez(gray := tmp_path / "gray.npz", images=images, map=maps, class_names=NAMES)
    path, classifier = resnet20
    with pytest.raises(UserError, match=r"is for images of 3 channels, but these have 1; .*adapt_stem=True adapts"):
        start(gray, path)
    _, found, lines = start(gray, path, **{"model.adapt_stem": True})
    expected = classifier["params"]["stem_conv"]["kernel"].sum(axis=2, keepdims=True)
    np.testing.assert_array_equal(found["params"]["backbone"]["stem_conv"]["kernel"], expected)
    assert "; stem_conv/kernel adapted from 3 channels to 1; its weights are used for the encoder" in lines[0]


def test_weights_that_fit_neither_the_network_nor_its_encoder_are_refused_in_one_line(scenes, resnet20, saved, tmp_path):
    path, classifier = resnet20
    of_unet, _ = saved(NAMES)
    np.savez(foreign := tmp_path / "foreign.npz", **{"patch.weight": np.zeros(3)})
    save_pretrained(scaled := tmp_path / "scaled.npz", "resnet20", classifier, SCENE, task="multiclass")
    resnet56 = {**OF_RESNET20, "encoder": "resnet56"}
    for source, options, message in (
        (path, resnet56, "model.pretrained: the encoder of encoder_unet is resnet56; {}: weights do not fit resnet56, num_cl"),
        (scaled, resnet56, "{}: holds weights of resnet20, but the encoder of encoder_unet is resnet56"),
        (of_unet, OF_RESNET20, "{}: holds weights of unet, but the encoder of encoder_unet is resnet20"),
        (
            foreign,
            OF_RESNET20,
            "{}: weights of neither encoder_unet nor its encoder resnet20; its first tensor is patch",
        ),
        (tmp_path / "absent.npz", OF_RESNET20, "{}: no such file"),
        (path, {"encoder": "resnet2O"}, 'no model "resnet2O" (did you mean "resnet'),
    ):
        with pytest.raises(UserError, match=re.escape(message.format(source))) as error:
            start(scenes, source, arguments=options)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="unet: no weights of another library are known for this model"):
        start(scenes, path, "unet", UNET)
    with pytest.raises(UserError, match=r"has weights of resnet20, the encoder of encoder_unet; expected those of the entire"):
        train.load_weights(config_of(scenes, path))


@pytest.mark.slow
def test_classifier_with_another_first_convolution_is_refused(scenes, tmp_path):
    variables = random_variables("resnet18", 2, stem="small")
    save_pretrained(path := tmp_path / "a.npz", "resnet18", variables, SCENE, NAMES, task="multiclass", stem="small")
    message = "a.npz: weights of resnet18, stem=small do not fit the encoder of encoder_unet, which has other shapes: "
    with pytest.raises(UserError, match=re.escape(message)):
        start(scenes, path, arguments={"encoder": "resnet18"})


# ── Loading, saving and prediction ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("form", "name", "arguments"),
    [
        ("weights.npz", "unet", UNET),
        ("weights.safetensors", "unet", UNET),
        pytest.param("folder", "encoder_unet", OF_RESNET20, marks=pytest.mark.slow),
    ],
)
def test_saved_network_is_loaded_unchanged(tmp_path, form, name, arguments):
    variables = random_variables(name, 2, **arguments)
    path = tmp_path / form
    save_pretrained(path, name, variables, SCENE, NAMES, task="segmentation", **arguments)
    model, found, preprocessing = load_pretrained(str(path), say=pytest.fail)
    assert (model, preprocessing) == (create_model(name, num_classes=2, **arguments), SCENE)
    assert_equal(found, variables)
    trained = train.from_pretrained(str(path))
    assert isinstance(trained.task, Segmentation)
    assert (trained.class_names, trained.config.task.name) == (NAMES, "segmentation")
    if form == "folder":
        settings = json.loads((path / "config.json").read_text())["pretrained_cfg"]
        assert (settings["first_conv"], settings["classifier"]) == ("params/backbone/stem_conv", "params/logits")


def test_task_of_a_saved_network_is_checked(tmp_path):
    variables = random_variables("unet", 2, **UNET)
    with pytest.raises(UserError, match=r"unet is a network for segmentation, which does not fit task='multiclass'"):
        save_pretrained(tmp_path / "a.npz", "unet", variables, SCENE, NAMES, task="multiclass", **UNET)
    with pytest.raises(UserError, match=r"lenet5 is a network for classification, which does not fit task='segmentation'"):
        save_pretrained(tmp_path / "a.npz", "lenet5", variables, SCENE, NAMES, task="segmentation")


def test_run_of_segmentation_is_loaded(scenes, tmp_path):
    begun = begin(tmp_path, config_of(scenes, "", "unet", UNET))
    model, found, preprocessing = load_pretrained(str(tmp_path))
    assert model == begun.task.model
    assert preprocessing == begun.preprocessing
    assert not any(array.any() for array in jax.tree.leaves(found["params"]))
    assert find_pretrained(str(tmp_path)).named(2) == NAMES
    _, again, lines = start(scenes, tmp_path, "unet", UNET)
    assert lines[0].startswith(f"starts from {tmp_path}, step 7, averaged; pixels normalized")
    assert_equal(again, found)


def test_21_classes_of_published_weights_are_those_of_pascal_voc():
    published = find_pretrained("fcn_resnet50_coco-1167a1af.pth", "fcn_resnet50")
    assert published.published
    names = published.named(21)
    assert (len(names), names[0], names[12], names[15], names[20]) == (21, "background", "dog", "person", "tvmonitor")
    assert names[1:] == tuple(sorted(names[1:]))  # the background is followed by the objects in alphabetical order
    assert find_pretrained("mine.pth", "fcn_resnet50").named(21) == ()


@pytest.mark.slow
@pytest.mark.process
def test_predict_with_weights_draws_maps_of_the_classes(tmp_path):
    golden = reference_weights.load(GOLDEN / "torchvision/deeplabv3_mobilenet_v3_large__65x97__aux.json.gz")
    np.savez(path := tmp_path / "deeplab.npz", **reference_weights.state_dict(golden))
    cv2.imwrite(str(tmp_path / "a.png"), RNG.integers(0, 256, (40, 60, 3), np.uint8))
    arguments = (f"--model={golden['model']}", f"--pretrained={path}", "--json", f"--out={tmp_path}/drawn", tmp_path / "a.png")
    code, out, err = finish(experiment("predict.py", *arguments))
    assert code == 0, err
    assert f"{path}: no class names found; assuming the 21 classes of Pascal VOC, because the number is the same\n" in err
    (result,) = json.loads(out)
    names = find_pretrained("fcn_resnet50_coco-1167a1af.pth", "fcn_resnet50").named(21)
    assert {row["name"] for row in result["classes"]} <= set(names)
    assert cv2.imread(str(tmp_path / "drawn" / "a.png")).shape == (40, 60, 3)


@pytest.mark.slow
@pytest.mark.process
def test_training_from_the_encoder_and_from_the_run_resumes_with_the_same_bits_and_predicts(scenes, resnet20, tmp_path):
    every = dict.fromkeys(("log.every", "checkpoint.every", "evaluate.every"), "1steps")

    def rows(source, workdir):
        console, text = quiet()
        train.run(config_of(scenes, source, **every), workdir, console=console)
        return [{name: value for name, value in row.items() if name not in TIMES} for row in read_history(workdir)], text()

    for source, workdir in ((resnet20[0], tmp_path / "first"), (tmp_path / "first", tmp_path / "second")):
        expected, text = rows(source, workdir)
        assert f"starts from {source}" in text
        shutil.rmtree(workdir / "checkpoints" / "2")
        (workdir / "summary.json").unlink()
        again, text = rows(source, workdir)
        assert "resumed at step 1" in text
        np.testing.assert_equal(again, expected)
    cv2.imwrite(str(tmp_path / "a.png"), RNG.integers(0, 256, (12, 16, 3), np.uint8))
    code, out, err = finish(experiment("predict.py", f"--pretrained={tmp_path}/second", "--json", tmp_path / "a.png"))
    assert code == 0, err
    assert {row["name"] for row in json.loads(out)[0]["classes"]} <= set(NAMES)
