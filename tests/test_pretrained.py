"""Published weights give their published accuracy: model, loading, preprocessing and evaluation at once."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxcnn import create_model, train
from jaxcnn.command import load_config
from jaxcnn.data.preprocessing import Preprocessing
from jaxcnn.weights import load

DATA = Path(os.environ.get("JAXCNN_TEST_DATA", "nowhere"))
WEIGHTS = DATA / "pretrained" / "cifar10_resnet"
MOBILENET = DATA / "pretrained" / "mobilenet_v1_075_224" / "mobilenet_v1_0.75_224.npz"


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="JAXCNN_TEST_DATA names no folder with pretrained/cifar10_resnet")
@pytest.mark.parametrize(("depth", "correct"), [(20, 9173), (56, 9339)])
def test_cifar_resnets_reach_their_published_accuracy_exactly(depth, correct):
    config = load_config(
        f"configs/resnet_cifar10.py:{depth}",
        [
            f"--config.data.root={DATA}",
            f"--config.model.pretrained={next(WEIGHTS.glob(f'resnet{depth}-*.npz'))}",
            "--config.data.mean=0.485,0.456,0.406",  # ImageNet's, which these weights were trained with
            "--config.data.std=0.229,0.224,0.225",
            "--config.devices=1",
        ],
    )
    figures = train.evaluate(train.load_weights(config))
    assert figures["test_examples"] == 10_000
    assert figures["test_accuracy"] * 10_000 == pytest.approx(correct, abs=1e-6)


@pytest.mark.skipif(not MOBILENET.is_file(), reason="JAXCNN_TEST_DATA names no folder with pretrained/mobilenet_v1_075_224")
@pytest.mark.parametrize(
    ("photo", "names", "least"),
    [("dog", {"Samoyed"}, 0.8), ("cat", {"tabby", "tiger cat"}, 0.5), ("fish-bike", {"tricycle"}, 0.5)],
)
def test_mobilenet_of_imagenet_names_what_is_in_a_photo(photo, names, least):
    """The whole centre is shown: of its middle 0.875 the cat is a close call between tiger cat and Egyptian cat."""
    half = (0.5, 0.5, 0.5)  # its images are between -1 and 1
    preprocessing = Preprocessing((224, 224, 3), (224, 224), "bilinear", half, half)
    images = preprocessing(preprocessing.read(DATA / "photos" / f"{photo}.jpg")[None])
    variables = load(MOBILENET, "mobilenet_v1_075")
    logits = jax.jit(lambda v, x: create_model("mobilenet_v1_075").apply(v, x, train=False))(variables, images)
    probabilities = np.asarray(jax.nn.softmax(logits[0]))
    class_names = (DATA / "photos" / "imagenet_classes.txt").read_text().splitlines()
    assert class_names[probabilities.argmax()] in names
    assert sum(probabilities[class_names.index(name)] for name in names) > least
