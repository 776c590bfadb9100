"""Class names decide whether the head of pretrained weights is kept, reordered or newly initialized. Runs are sources, too."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from common.small_runs import small_config

from jaxcnn import create_model, load_pretrained, save_pretrained, train
from jaxcnn.config import flatten, to_json, validate
from jaxcnn.data import Preprocessing
from jaxcnn.errors import UserError
from jaxcnn.pretrained import Pretrained, find_pretrained, head_order
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.experiment import prepare
from jaxcnn.train.step import init_state

save = functools.partial(save_pretrained, task="multiclass")
RNG = np.random.default_rng(0)
GRAY = Preprocessing((32, 32, 1), (32, 32), "bilinear", (0.25,), (0.5,))
UNKNOWN = "its head is kept because the data set has as many classes; whether they are the same is not known"


def experiment(source, names, *, classes=3, folder=None, **changes):
    """Returns an experiment that starts from `source`, on arrays with `classes` classes and, if given, class names."""
    images, labels = RNG.integers(0, 256, (40, 32, 32, 1), np.uint8), np.arange(40) % classes
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez(path := Path(folder or Path(source).parent) / "data.npz", **arrays, **({"class_names": names} if names else {}))
    return prepare(validate(small_config(**{
        "model.name": "lenet5_relu", "model.pretrained": str(source), "data.augment": (), "data.name": "arrays",
        "data.root": str(path), "data.image_size": 0, "data.validation": 0.0, "batch_size": 8, "total": "9steps", **changes,
    })))  # fmt: skip


def initial_variables(experiment, say=lambda line: None):
    """Returns the variables from which the experiment starts."""
    return experiment.task.pretrained(experiment.setup, say)


def lenet(outputs):
    """Returns random variables of lenet5_relu for gray images."""
    model, images = create_model("lenet5_relu", num_classes=outputs), jax.ShapeDtypeStruct((1, 32, 32, 1), np.float32)
    shapes = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    return jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32), shapes)


@pytest.fixture
def saved(tmp_path):
    """A function that writes weights for the given classes and returns (path, variables)."""

    def write(names, task="multiclass"):
        variables = lenet(1 if task == "binary" else max(3, len(names)))
        save(path := tmp_path / "weights.npz", "lenet5_relu", variables, GRAY, names, task=task)
        return path, variables

    return write


def initial_head(source, names, **changes):
    """Returns the kernel and bias of the head with which training starts, and the printed lines."""
    lines = []
    head = initial_variables(experiment(source, names, **changes), lines.append)["params"]["head"]
    return (head["kernel"], head["bias"]), lines


def test_head_for_the_same_classes_is_kept(saved):
    path, variables = saved(("ant", "bee", "cow"))
    head, lines = initial_head(path, ("ant", "bee", "cow"))
    np.testing.assert_array_equal(head[0], variables["params"]["head"]["kernel"])
    assert lines == [f"starts from {path}; pixels normalized as it expects, mean 0.25, std 0.5"]
    assert initial_variables(experiment(path, ("ant", "bee", "cow")))["batch_stats"] == {}  # as in a training state


def test_names_in_different_unicode_normalization_forms_are_equal():
    origin = Pretrained("a.npz", "lenet5_relu", Path("a.npz"), GRAY, class_names=("cafe\u0301", "bee "))
    assert head_order(origin, 2, 2, ("caf\u00e9", "bee")) == [0, 1]
    assert head_order(origin, 2, 2, ("bee", "caf\u00e9")) == [1, 0]


def test_head_for_the_same_classes_in_another_order_is_reordered(saved):
    path, variables = saved(("ant", "bee", "cow"))
    (kernel, bias), lines = initial_head(path, ("cow", "ant", "bee"))
    for ours, theirs in ((0, 2), (1, 0), (2, 1)):
        np.testing.assert_array_equal(kernel[:, ours], variables["params"]["head"]["kernel"][:, theirs])
        assert bias[ours] == variables["params"]["head"]["bias"][theirs]
    assert "its head is reordered to the class order of the data set" in lines[0]


def test_head_for_as_many_other_classes_is_newly_initialized(saved):
    path, variables = saved(("ant", "bee", "cow"))
    (kernel, bias), lines = initial_head(path, ("ant", "b", "c"))
    assert not np.isclose(kernel, variables["params"]["head"]["kernel"]).any()
    assert not np.isclose(bias, variables["params"]["head"]["bias"]).any()
    assert f"starts from {path}; newly initialized for b, c instead of bee, cow: head/bias, head/kernel; " in lines[0]
    body = initial_variables(experiment(path, ("ant", "b", "c")))["params"]["C5"]["kernel"]
    np.testing.assert_array_equal(body, variables["params"]["C5"]["kernel"])


@pytest.mark.parametrize(("theirs", "ours"), [((), ("a", "b", "c")), (("a", "b", "c"), ()), ((), ())])
def test_head_is_kept_with_a_message_if_names_are_not_known(saved, theirs, ours):
    path, variables = saved(theirs)
    head, lines = initial_head(path, ours)
    np.testing.assert_array_equal(head[0], variables["params"]["head"]["kernel"])
    assert lines[0].startswith(f"starts from {path}; {UNKNOWN}")


def test_binary_head_is_kept_only_for_its_two_classes_in_the_same_order(saved):
    path, variables = saved(("cat", "dog"), "binary")
    binary = {"loss.name": "sigmoid_binary_cross_entropy", "classes": 2}
    kernel = variables["params"]["head"]["kernel"]
    np.testing.assert_array_equal(initial_head(path, ("cat", "dog"), **binary)[0][0], kernel)
    for names in (("dog", "cat"), ("cow", "dog")):
        assert not np.isclose(initial_head(path, names, **binary)[0][0], kernel).any()
        with pytest.raises(UserError, match="has other classes than the data set"):
            train.load_weights(experiment(path, names, **binary).config)


def test_head_of_another_task_is_kept_with_a_message(saved):
    path, _ = saved(("ant", "bee", "cow"), "multilabel")
    message = "; its head was trained for a multilabel task, but this one is multiclass; "
    assert message in initial_head(path, ("ant", "bee", "cow"))[1][0]


def test_weights_of_other_classes_are_not_evaluated_but_those_in_another_order_are(saved):
    path, variables = saved(("ant", "bee", "cow"))
    message = f"model.pretrained: {path} has other classes than the data set: b instead of bee"
    with pytest.raises(UserError, match=re.escape(message)):
        train.load_weights(experiment(path, ("ant", "b", "cow")).config)
    kernel = train.load_weights(experiment(path, ("cow", "bee", "ant")).config).variables["params"]["head"]["kernel"]
    np.testing.assert_array_equal(kernel, variables["params"]["head"]["kernel"][:, ::-1])


def test_imagenet_classes_are_recognized_by_name_and_by_wordnet_id():
    published = Pretrained("resnet18-f37072fd.pth", "resnet18", Path("resnet18-f37072fd.pth"), GRAY, published=True)
    numbers = ["n01440764", *(f"n{number:08d}" for number in range(2000000, 2000998)), "n15075141"]
    names = list(published.named(1000))
    renamed = [f"{name.replace(' ', '_')}, synonym" for name in names]
    for same in (numbers, names, renamed):
        assert head_order(published, 1000, 1000, same) == list(range(1000))
    for other in ([f"class {number}" for number in range(1000)], numbers[::-1], names[::-1]):
        assert head_order(published, 1000, 1000, other) is None
    assert head_order(dataclasses.replace(published, published=False), 1000, 1000, names[::-1]) == list(range(1000))
    assert find_pretrained("resnet18-f37072fd.pth", "resnet18").published
    assert not find_pretrained("renamed.pth", "resnet18").published


def test_stated_preprocessing_that_is_not_used_is_reported(saved):
    path, variables = saved(("ant", "bee", "cow"))
    other = dataclasses.replace(GRAY, image_shape=(48, 48, 1), size=(48, 48), fit="stretch")
    save(path, "lenet5_relu", variables, other, ("ant", "bee", "cow"))
    lines = initial_head(path, ("ant", "bee", "cow"))[1]
    assert lines[0].endswith("it was trained with input size (48, 48), here (32, 32); data.fit stretch, here crop")


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with two checkpoints, written without training, and their averaged variables by step."""
    folder = tmp_path_factory.mktemp("run")
    variables = lenet(3)
    save(folder / "start.npz", "lenet5_relu", variables, GRAY)
    source = experiment(folder / "start.npz", ("ant", "bee", "cow"), **{"evaluate.select": "best"})
    checkpoints, averages = Checkpoints(folder / "checkpoints"), {}
    for step in (3, 6):
        state = init_state({"batch_stats": {}, **lenet(3)}, 0, source.update)
        averages[step] = {"batch_stats": {}, **lenet(3)}
        state = state.replace(step=np.int32(step), ema=averages[step])
        checkpoints.save(state, source.meta() | {"config": flatten(source.config)}, best_step=3)
    checkpoints.wait()
    checkpoints.close()
    (folder / "config.json").write_text(to_json(source.config))
    return folder, averages


def test_run_is_loaded_from_the_checkpoint_that_it_selected(run):
    folder, averages = run
    model, variables, preprocessing = load_pretrained(str(folder), say=pytest.fail)
    assert (type(model).__name__, model.num_classes) == ("LeNet5ReLU", 3)
    assert preprocessing == train.load_trained(folder).preprocessing
    assert preprocessing.mean == (0.25,)
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], averages[3]["params"]["head"]["kernel"])
    trained = train.from_pretrained(str(folder))
    assert (trained.class_names, trained.step) == (("ant", "bee", "cow"), 3)


def test_exported_run_is_loaded_like_the_run_itself(run, tmp_path):
    folder, _ = run
    trained = train.load_trained(folder)
    arguments = trained.config.model.arguments
    save(path := tmp_path / "a.npz", "lenet5_relu", trained.variables, trained.preprocessing, trained.class_names, **arguments)
    (_, of_run, preprocessing), (_, of_file, again) = load_pretrained(str(folder)), load_pretrained(str(path))
    assert (again, find_pretrained(str(path)).class_names) == (preprocessing, trained.class_names)
    jax.tree.map(np.testing.assert_array_equal, of_file, {"params": of_run["params"]})


def test_training_starts_from_a_run(run, tmp_path):
    folder, averages = run
    head, lines = initial_head(folder, ("cow", "ant", "bee"), folder=tmp_path)
    np.testing.assert_array_equal(head[0], averages[3]["params"]["head"]["kernel"][:, [2, 0, 1]])
    assert lines == [
        f"starts from {folder}, step 3, averaged; its head is reordered to the class order of the data set; "
        "pixels normalized as it expects, mean 0.25, std 0.5"
    ]
    four = initial_head(folder, tuple("abcd"), folder=tmp_path, classes=4)
    assert four[0][0].shape == (84, 4)
    assert "newly initialized for 4 classes instead of 3: head/bias, head/kernel" in four[1][0]


def test_run_of_another_model_is_refused_and_both_models_are_named(run, tmp_path):
    folder, _ = run
    with pytest.raises(UserError, match=re.escape(f"{folder}: holds weights of lenet5_relu, but model.name is lenet5")):
        experiment(folder, (), folder=tmp_path, **{"model.name": "lenet5"})
    with pytest.raises(UserError, match=r"holds weights of lenet5_relu, but model\.name is resnet20"):
        load_pretrained(str(folder), "resnet20")


def test_run_for_images_of_other_channels_is_refused(run, tmp_path):
    folder, _ = run
    with pytest.raises(UserError, match="is for images of 1 channels, but these have 3"):
        initial_variables(experiment(folder, (), folder=tmp_path, **{"data.channels": 3}))


def test_run_without_a_checkpoint_is_refused_in_one_line(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match=re.escape(f"{tmp_path} contains no checkpoint that can be read")):
        load_pretrained(str(tmp_path))


def test_resuming_fails_if_the_weights_that_decide_the_normalization_are_missing(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"model.pretrained: {tmp_path}/gone.npz: no such file")):
        experiment(tmp_path / "gone.npz", (), **{"model.name": "resnet20"})
