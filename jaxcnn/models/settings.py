"""The settings model.*."""

import dataclasses
from typing import Annotated, Any, Literal

from jaxcnn.settings import Section, Setting, Whole, unless, when


@dataclasses.dataclass(frozen=True)
class ModelSettings(Section, section="model"):
    """The network and its initial weights."""

    name: Annotated[
        str,
        Setting(
            "name of the architecture, one of jaxcnn.list_models(); or the import path of your own class, "
            "my_package.my_net:MyNet (docs/extending.md)",
        ),
    ] = "lenet5"
    arguments: Annotated[
        dict[str, Any],
        Setting(
            "its other arguments besides num_classes and dtype, e.g. --config.model.arguments.stem=small",
        ),
    ] = dataclasses.field(default_factory=dict)
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        Setting(
            "compute type; parameters and running statistics stay float32",
        ),
    ] = "float32"
    pretrained: Annotated[
        str,
        Setting(
            "initial weights: a file in the names of the model's library (.npz, .safetensors, .pth, .h5), a run's folder, or "
            "hf:OWNER/NAME on the Hugging Face hub; the head is newly initialized if the data have other classes; '' = none",
        ),
    ] = ""
    adapt_stem: Annotated[
        bool,
        Setting(
            "convert the first convolution of model.pretrained if the data have another number of channels: sum the kernel "
            "over its channels for 1 channel, else repeat it over the new channels and scale it",
            when("model.pretrained"),
        ),
    ] = False
    whiten: Annotated[
        Whole,
        Setting(
            "number of training images from which a whitening first layer (airbench94's) is computed; 0 = its initial values",
            unless("model.pretrained"),
        ),
    ] = 0
