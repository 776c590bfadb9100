"""Runs on folders in which some images cannot be read."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from common.small_runs import quiet, small_config

from jaxcnn import train
from jaxcnn.config import validate
from jaxcnn.errors import UserError
from jaxcnn.report import results_table
from jaxcnn.tasks import classification, classification_sections
from jaxcnn.train.experiment import prepare


@pytest.fixture
def root(tmp_path):
    """Two classes with 12 training, 4 validation and 4 test images each. All pixels of an image are its number."""
    for part, count in (("train", 12), ("val", 4), ("test", 4)):
        for label, name in enumerate(("dark", "light")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                image = np.full((32, 32, 3), 100 * label + number, np.uint8)
                cv2.imwrite(str(tmp_path / part / name / f"{number:02}.png"), image)
    return tmp_path


def config_of(root, **changes):
    return small_config(**{
        "data.name": "folder", "data.root": str(root), "data.on_error": "skip", "data.augment": (), "data.crop_ratio": 1.0,
        "data.mean": (0.5,), "data.std": (0.25,), "data.channels": 1, "total": "3steps", "batch_size": 8,
        "schedule.warmup": "0steps", "ema.decay": 0.0, "evaluate.batch_size": 8, **changes,
    })  # fmt: skip


def damage(*paths):
    for path in paths:
        Path(path).write_bytes(b"no picture")


@pytest.mark.slow
@pytest.mark.parametrize("resident", ["on", "off"])
def test_skipped_images_are_printed_and_listed_and_the_report_shows_the_others(root, tmp_path, resident, monkeypatch):
    bad = [root / "train/dark/03.png", root / "train/dark/04.png", root / "test/dark/00.png", root / "test/light/02.png"]
    damage(*bad)
    shown = {}

    def sections(tally, kind, class_names, image_at):
        shown.update(labels=tally["label"], image_at=image_at)
        return []

    monkeypatch.setattr(classification_sections, "sections", sections)
    console, text = quiet()
    summary = train.run(config_of(root, **{"data.resident": resident}), tmp_path / "run", console=console)
    lines = [line for line in text().splitlines() if line.startswith("warning: ")]
    named = ", ".join(map(str, sorted(bad)[:3]))
    assert lines[-1] == f"warning: 4 unreadable images skipped (data.on_error=skip): {named} and 1 more"
    if resident == "on":
        known = ", ".join(map(str, bad[:2]))
        assert lines[0] == f"warning: 2 unreadable images skipped so far (data.on_error=skip): {known}"
    assert summary["unreadable_files"] == sorted(map(str, bad))
    assert summary["test_examples"] == 6
    numbers = [int(shown["image_at"](number)[0, 0, 0]) for number in range(6)]
    assert numbers == [1, 2, 3, 100, 101, 103]
    assert shown["labels"].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize("resident", ["on", "off"])
def test_split_without_readable_images_is_refused_before_training(root, part, resident):
    damage(*root.glob(f"{part}/*/*.png"))
    name = {"val": "validation"}.get(part, part)
    message = rf"the {name} set: .*/{part}/dark/00.png: not an image that can be decoded; nor could any other image"
    with pytest.raises(UserError, match=message):
        prepare(validate(config_of(root, **{"data.resident": resident})))


@pytest.mark.slow
def test_metrics_that_are_not_finite_are_null_in_every_json(root, tmp_path, monkeypatch):
    endless = {"softmax_cross_entropy": lambda logits, labels: np.full(len(labels), np.inf)}
    monkeypatch.setattr(classification, "LOSSES", endless)  # of evaluation; training uses make_loss
    summary = train.run(config_of(root, **{"evaluate.every": "1steps"}), tmp_path / "run", console=quiet()[0])

    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    text = (tmp_path / "run" / "summary.json").read_text()
    assert json.loads(text, parse_constant=refuse) == summary
    assert summary["test_loss"] is None
    rows = [json.loads(row, parse_constant=refuse) for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["validation_loss"] for row in rows if "validation_accuracy" in row] == [None] * 3
    assert "test loss                   not finite" in results_table(summary, classification.Classification.quantities)
