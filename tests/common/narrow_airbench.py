"""A small airbench94: one group with few filters, and some small images."""

import numpy as np

from jaxcnn.models.airbench import Airbench


class Narrow(Airbench):
    """A network of about 2,400 parameters, for images of at least 5×5 pixels."""

    widths: tuple[int, ...] = (8,)


def settings(folder):
    """Returns the settings with which configs/airbench94.py trains it in 8 steps. Writes the data to `folder`."""
    images = np.random.default_rng(1).integers(0, 256, (80, 9, 9, 3), np.uint8)
    labels = {"train_labels": np.arange(80) % 4, "test_labels": np.arange(20) % 4}
    np.savez(folder / "few.npz", train_images=images, test_images=images[:20], **labels)
    return {
        "data.name": "arrays",
        "data.root": str(folder / "few.npz"),
        "batch_size": 20,
        "total": "2epochs",
        "model.name": "common.narrow_airbench:Narrow",
        "model.whiten": 50,
        "devices": 1,
        "evaluate.batch_size": 20,
        "checkpoint.every": "2epochs",
    }
