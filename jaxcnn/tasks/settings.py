"""The settings task.* and loss.*."""

import dataclasses
from typing import Annotated, Any, Literal

from jaxcnn.settings import NotNegative, Section, Setting, Share, unless


@dataclasses.dataclass(frozen=True)
class TaskSettings(Section, section="task"):
    """What is learned."""

    name: Annotated[
        str,
        Setting(
            "the task; or a class of yours by its import path, my_package.my_task:MyTask",
        ),
    ] = "classification"
    arguments: Annotated[
        dict[str, Any],
        Setting(
            "its own settings, e.g. --config.task.arguments.weight=0.5; classification has the section loss",
        ),
    ] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LossSettings(Section, section="loss"):
    """The training loss of classification."""

    name: Annotated[
        Literal["softmax_cross_entropy", "sigmoid_binary_cross_entropy"],
        Setting(
            "softmax for one class of many; sigmoid for two classes (one output), several labels per image, or one class "
            "against the rest",
        ),
    ] = "softmax_cross_entropy"
    label_smoothing: Annotated[Share, Setting("share of the target spread evenly over the classes")] = 0.0
    balance: Annotated[
        Literal["none", "inverse", "effective"],
        Setting(
            "class weights from the training set's counts n: 1 / n (inverse), or (1 - 0.999) / (1 - 0.999^n), the effective "
            "number of examples (Cui et al. 2019)",
        ),
    ] = "none"
    focal_gamma: Annotated[
        NotNegative,
        Setting(
            "focal loss (Lin et al. 2017): each loss times (1 - p)^gamma; 0 = off",
        ),
    ] = 0.0
    auxiliary_weight: Annotated[
        NotNegative,
        Setting(
            "of the loss of each auxiliary head, where a model has any: 0.3 in GoogLeNet's paper, 0.4 for Inception v3",
        ),
    ] = 0.3
    class_weights: Annotated[
        tuple[Any, ...],
        Setting(
            "weight of each class in the training loss: numbers in the order of the classes, 2,1, or by their names, "
            "cat=2,dog=1; () = all 1",
            unless("loss.balance"),
        ),
    ] = ()
