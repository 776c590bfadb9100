"""Selection of the best evaluation and early stopping, by quantities for which higher or lower is better."""

import math

import pytest

from jaxcnn.report import Quantity
from jaxcnn.tasks.classification import Classification
from jaxcnn.tasks.registry import selecting_quantity
from jaxcnn.train.selection import Selection

HIGHER, LOWER = Quantity("iou", "IoU", better="higher"), Quantity("loss", "loss", better="lower")


def history(*values, name="validation_iou"):
    return [{"step": 10 * number, "epoch": number / 2, name: value} for number, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("quantity", "rows", "best"),
    [
        (HIGHER, history(0.1, 0.4, 0.4, 0.3), 20),  # the first of equal values
        (LOWER, history(0.1, 0.4, 0.05, 0.3, name="validation_loss"), 30),
        (HIGHER, history(math.nan, 0.2, math.nan), 20),
        (LOWER, history(math.nan, 0.2, 0.3, name="validation_loss"), 20),
        (HIGHER, [], None),
        (HIGHER, history(1.0, name="validation_loss"), None),  # rows without the quantity
        (None, history(0.1, 0.2), None),
    ],
)
def test_best_step_is_the_first_with_the_best_value(quantity, rows, best):
    assert Selection(quantity).best_step(rows) == best


def test_moving_average_has_priority_over_the_parameters():
    rows = [
        {"step": step, "validation_iou": 1 - average, "validation_ema_iou": average} for step, average in ((1, 0.1), (2, 0.2))
    ]
    assert Selection(HIGHER).best_step(rows) == 2


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ((0.5, 0.4, 0.3), False),
        ((0.5, 0.4, 0.41), False),  # one evaluation without improvement
        ((0.5, 0.51, 0.52), True),
        ((0.5, 0.495, 0.492), True),  # improves by less than 0.01
        ((0.5, 0.6, 0.4), False),
    ],
)
def test_training_stops_after_two_evaluations_that_improve_too_little(losses, stops):
    rows = history(*losses, name="validation_loss")
    assert Selection(LOWER, patience=2, min_delta=0.01).stopped_early(rows) is stops
    assert not Selection(LOWER, patience=0).stopped_early(rows)


def test_metric_of_the_settings_has_priority_over_the_first_of_the_task():
    task = Classification(None, None, (), "multiclass")
    assert selecting_quantity(task, "").name == "accuracy"
    assert selecting_quantity(task, "loss").better == "lower"
