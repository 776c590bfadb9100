"""Published weights reach their published accuracy, which tests model, loading, preprocessing and evaluation together."""

import os
from pathlib import Path

import numpy as np
import pytest
from common.small_runs import small_config
from common.toy_tasks import write_scenes

from jaxcnn import create_model, train
from jaxcnn.command import load_config
from jaxcnn.config import validate
from jaxcnn.train.experiment import prepare

DATA = Path(os.environ.get("JAXCNN_TEST_DATA", "nowhere"))
WEIGHTS = DATA / "pretrained" / "cifar10_resnet"
MOBILENET = DATA / "pretrained" / "mobilenet_v1_075_224" / "mobilenet_v1_0.75_224.npz"


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="JAXCNN_TEST_DATA names no folder with pretrained/cifar10_resnet")
@pytest.mark.parametrize(("depth", "correct"), [(20, 9173), (56, 9339)])
def test_cifar_resnets_reach_their_published_accuracy_exactly(depth, correct):
    config = load_config(
        f"configs/resnet_cifar10.py:{depth}",
        [
            f"--config.data.root={DATA}",
            f"--config.model.pretrained={next(WEIGHTS.glob(f'resnet{depth}-*.npz'))}",
            "--config.data.mean=0.485,0.456,0.406",  # of ImageNet, with which these weights were trained
            "--config.data.std=0.229,0.224,0.225",
            "--config.devices=1",
        ],
    )
    metrics = train.evaluate(train.load_weights(config))
    assert metrics["test_examples"] == 10_000
    assert metrics["test_accuracy"] * 10_000 == pytest.approx(correct, abs=1e-6)


needs_mobilenet = pytest.mark.skipif(
    not MOBILENET.is_file(), reason="JAXCNN_TEST_DATA names no folder with pretrained/mobilenet_v1_075_224"
)


@needs_mobilenet
def test_imagenet_mobilenet_classifies_photos_with_the_published_probabilities():
    """The source of the weights states these probabilities, for images resized to 256 by Pillow and cropped to 224."""
    expected = {"dog": ("Samoyed", 0.86), "cat": ("tiger cat", 0.52), "fish-bike": ("tricycle", 0.58)}
    trained = train.from_pretrained(str(MOBILENET), "mobilenet_v1_075")
    results, unreadable = train.predict_files(trained, [DATA / "photos" / f"{photo}.jpg" for photo in expected])
    assert not unreadable
    found = [(result["classes"][0]["name"], round(result["classes"][0]["probability"], 2)) for result in results]
    assert found == list(expected.values())


@pytest.mark.slow
@needs_mobilenet
def test_encoder_with_weights_of_imagenet_has_the_classifiers_features_of_a_photo(tmp_path):
    classifier = train.from_pretrained(str(MOBILENET), "mobilenet_v1_075")
    write_scenes(tmp_path / "scenes.npz", examples=20, size=(32, 32))
    config = small_config(**{
        "task.name": "segmentation", "model.name": "semantic_fpn", "model.pretrained": str(MOBILENET), "batch_size": 4,
        "data.name": "arrays", "data.root": str(tmp_path / "scenes.npz"), "data.image_size": 0, "data.augment": (),
    })  # fmt: skip
    config.model.arguments.update({"encoder": "mobilenet_v1_075"})
    experiment = prepare(validate(config))
    variables = experiment.task.pretrained(experiment.setup, lambda line: None)
    encoder = {collection: tree["backbone"] for collection, tree in variables.items()}
    assert (experiment.preprocessing.mean, experiment.preprocessing.std) == ((0.5,) * 3, (0.5,) * 3)
    images = np.asarray(classifier.preprocessing(classifier.preprocessing.read(DATA / "photos" / "dog.jpg")[None]))
    *_, last = create_model("mobilenet_v1_075", features_only=True).apply(encoder, images, train=False)
    kernel, bias = (np.asarray(classifier.variables["params"]["head"][leaf]).squeeze() for leaf in ("kernel", "bias"))
    logits = np.asarray(last).mean((1, 2)) @ kernel + bias
    expected = classifier.task.model.apply(classifier.variables, images, train=False)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert classifier.class_names[logits.argmax()] == "Samoyed"
