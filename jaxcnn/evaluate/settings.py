"""The settings evaluate.*."""

import dataclasses
from typing import Annotated, Any, Literal

from jaxcnn.durations import Duration
from jaxcnn.settings import Count, Section, Setting, when


@dataclasses.dataclass(frozen=True)
class EvaluateSettings(Section, section="evaluate"):
    """When and how the validation and test sets are evaluated."""

    every: Annotated[Duration, Setting("interval of evaluations on the validation set")] = "1epochs"
    batch_size: Annotated[Count, Setting("examples per batch of evaluation", changes_result=False)] = 256
    select: Annotated[
        Literal["best", "last"],
        Setting(
            "which parameters are tested at the end: those best in validation (the last if there is no validation set), "
            "or the last",
        ),
    ] = "best"
    metric: Annotated[
        str,
        Setting(
            "the reported quantity that selects the best parameters and stops early; '' = the task's own choice",
            (when("evaluate.select", "best"), when("early_stop.patience")),
        ),
    ] = ""
    views: Annotated[
        tuple[Any, ...],
        Setting(
            'test-time augmentation, averaged over: "horizontal_flip", ("shift", {"pixels": 1}), …; see '
            "jaxcnn/data/augment/test_time.py",
            when("task.name", "classification"),
        ),
    ] = ()
