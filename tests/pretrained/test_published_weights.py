"""Published weights reach their published accuracy, which tests model, loading, preprocessing and evaluation together."""

import os
from pathlib import Path

import pytest

from jaxcnn import train
from jaxcnn.command import load_config

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


@pytest.mark.skipif(not MOBILENET.is_file(), reason="JAXCNN_TEST_DATA names no folder with pretrained/mobilenet_v1_075_224")
def test_imagenet_mobilenet_classifies_photos_with_the_published_probabilities():
    """The source of the weights states these probabilities, for images resized to 256 by Pillow and cropped to 224."""
    expected = {"dog": ("Samoyed", 0.86), "cat": ("tiger cat", 0.52), "fish-bike": ("tricycle", 0.58)}
    trained = train.from_pretrained(str(MOBILENET), "mobilenet_v1_075")
    results, unreadable = train.predict_files(trained, [DATA / "photos" / f"{photo}.jpg" for photo in expected])
    assert not unreadable
    found = [(result["classes"][0]["name"], round(result["classes"][0]["probability"], 2)) for result in results]
    assert found == list(expected.values())
