"""The settings `evaluate.*`."""

import dataclasses
from typing import Annotated, Any, Literal

from jaxcnn.durations import Duration
from jaxcnn.settings import Count, Section, Setting, when


@dataclasses.dataclass(frozen=True)
class EvaluateSettings(Section, section="evaluate"):
    """When and how the validation and test sets are evaluated."""

    every: Annotated[Duration, Setting("interval between evaluations on the validation set")] = "1epochs"
    batch_size: Annotated[Count, Setting("examples per batch in evaluation", changes_result=False)] = 256
    select: Annotated[
        Literal["best", "last"],
        Setting(
            "parameters to test after training: the best on the validation set (the last if there is none), or the last",
        ),
    ] = "best"
    metric: Annotated[
        str,
        Setting(
            "metric that selects the best parameters and decides early stopping; '' = the task's default, such as accuracy",
            (when("evaluate.select", "best"), when("early_stop.patience")),
        ),
    ] = ""
    views: Annotated[
        tuple[Any, ...],
        Setting(
            'test-time augmentation: views over which predictions are averaged, such as "horizontal_flip" or '
            '("shift", {"pixels": 1}); see jaxcnn/data/augment/test_time.py',
            when("task.name", "classification"),
        ),
    ] = ()
