"""The settings `task.*` and `loss.*`."""

import dataclasses
from typing import Annotated, Any, Literal

from jaxcnn.settings import NotNegative, Section, Setting, Share, unless


@dataclasses.dataclass(frozen=True)
class TaskSettings(Section, section="task"):
    """The task to train and its arguments."""

    name: Annotated[
        str,
        Setting(
            "classification, or the import path of a task class, such as my_package.my_task:MyTask",
        ),
    ] = "classification"
    arguments: Annotated[
        dict[str, Any],
        Setting(
            "arguments of the task, such as --config.task.arguments.weight=0.5; classification has the section loss instead",
        ),
    ] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LossSettings(Section, section="loss"):
    """The training loss of classification."""

    name: Annotated[
        Literal["softmax_cross_entropy", "sigmoid_binary_cross_entropy"],
        Setting(
            "softmax for one of several classes; sigmoid for two classes (one output), several labels per image, or "
            "one-vs-rest classification",
        ),
    ] = "softmax_cross_entropy"
    label_smoothing: Annotated[Share, Setting("share of the target distributed evenly over all classes")] = 0.0
    balance: Annotated[
        Literal["none", "inverse", "effective"],
        Setting(
            "class weights from the number n of a class's training examples: 1 / n (inverse), or (1 - 0.999) / (1 - 0.999^n), "
            "the effective number of examples (Cui et al. 2019)",
        ),
    ] = "none"
    focal_gamma: Annotated[
        NotNegative,
        Setting(
            "exponent of the focal loss (Lin et al. 2017), each loss times (1 - p)^gamma; 0 = off",
        ),
    ] = 0.0
    auxiliary_weight: Annotated[
        NotNegative,
        Setting(
            "weight of the loss of each auxiliary head, if the model has any: 0.3 in GoogLeNet's paper, 0.4 for Inception v3",
        ),
    ] = 0.3
    class_weights: Annotated[
        tuple[Any, ...],
        Setting(
            "weight of each class in the training loss: numbers in the order of the classes such as 2,1, or by name such as "
            "cat=2,dog=1; () = all 1",
            unless("loss.balance"),
        ),
    ] = ()
