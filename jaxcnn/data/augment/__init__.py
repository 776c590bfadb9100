"""Augmentation on the device, inside the jitted step: batched, decided by the step's key alone, one choice an example.

A policy is a list in the config: ("horizontal_flip", ("random_crop", {"pad": 4}), ("rand_augment", {"n": 2, "m": 9})).
policy.py has the tables of all operations; geometry.py, color.py, erasing.py and recipes.py what they do; mixers.py mixes
images with each other; test_time.py gives the views that a prediction may be averaged over.
"""

from jaxcnn.data.augment.policy import Augmentation, key_of_run, make_augmentation, step_keys
from jaxcnn.data.augment.test_time import View, make_views

__all__ = ["Augmentation", "View", "key_of_run", "make_augmentation", "make_views", "step_keys"]
