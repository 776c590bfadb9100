"""The settings model.*."""

import dataclasses
from typing import Annotated, Any, Literal

from jaxcnn.settings import Section, Setting, Whole, unless, when


@dataclasses.dataclass(frozen=True)
class ModelSettings(Section, section="model"):
    """The network and where its parameters start from."""

    name: Annotated[
        str,
        Setting(
            "the architecture, as jaxcnn.list_models() lists it; or a class of yours by its import path, "
            "my_package.my_net:MyNet (docs/extending.md)",
        ),
    ] = "lenet5"
    arguments: Annotated[
        dict[str, Any],
        Setting(
            "its arguments beyond num_classes and dtype, e.g. --config.model.arguments.stem=small",
        ),
    ] = dataclasses.field(default_factory=dict)
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        Setting(
            "compute type; parameters and statistics stay float32",
        ),
    ] = "float32"
    pretrained: Annotated[
        str,
        Setting(
            "weights to start from: a file in the names of the library that the model is of (.npz, .safetensors, .pth, .h5), "
            "a run's folder, or hf:OWNER/NAME of the hub; where the data have other classes, the head is fresh; '' = none",
        ),
    ] = ""
    adapt_stem: Annotated[
        bool,
        Setting(
            "where model.pretrained takes another number of channels than the data have: its first convolution is summed over "
            "them for 1 channel, else repeated over the new ones and scaled",
            when("model.pretrained"),
        ),
    ] = False
    whiten: Annotated[
        Whole,
        Setting(
            "training images that the filters of a whitening first layer (airbench94's) are made from; 0 = they stay as drawn",
            unless("model.pretrained"),
        ),
    ] = 0
