"""Small runs for tests: LeNet-5 on the digits, a few seconds each."""

import io

from rich.console import Console

from jaxcnn.config import default_config

TIMES = {"images_per_second", "data_wait_share"}
"""The columns of metrics.jsonl that differ between equal runs."""


def small_config(**changes):
    """Returns a config with everything that a resumed run has to restore; **{"ema.decay": 0.5} changes a setting."""
    config = default_config()
    settings = {
        "model.name": "lenet5_relu",
        "data.image_size": 32,
        "data.augment": ("horizontal_flip", ("random_crop", {"pad": 2})),
        "data.resident": "off",
        "total": "40steps",
        "batch_size": 64,
        "devices": 1,
        "optimizer.learning_rate": 0.02,
        "schedule.warmup": "5steps",
        "ema.decay": 0.9,
        "evaluate.every": "15steps",
        "checkpoint.every": "7steps",
        "log.every": "10steps",
    } | changes
    for name, value in settings.items():
        section, _, leaf = name.rpartition(".")
        (config[section] if section else config)[leaf] = value
    return config


def quiet():
    """Returns a console, and a function that returns the text printed to it."""
    text = io.StringIO()
    return Console(file=text, width=200), text.getvalue
