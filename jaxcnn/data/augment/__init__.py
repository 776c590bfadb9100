"""Data augmentation on the device, within the jitted training step.

Operations process whole batches and draw separate random values for each example, all derived from the step's key.
A policy is a list in the config: ("horizontal_flip", ("random_crop", {"pad": 4}), ("rand_augment", {"n": 2, "m": 9})).
policy.py has the tables of all operations. geometry.py, color.py, random_color.py, erasing.py and recipes.py implement them,
mixers.py mixes images with each other, and test_time.py provides the views over which predictions can be averaged.
"""

from jaxcnn.data.augment.policy import Augmentation, key_of_run, make_augmentation, step_keys
from jaxcnn.data.augment.test_time import InferenceView, make_views

__all__ = ["Augmentation", "InferenceView", "key_of_run", "make_augmentation", "make_views", "step_keys"]
