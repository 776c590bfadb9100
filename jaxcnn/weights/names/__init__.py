"""What other libraries call the layers of our models: a file a family, a table a library.

A table is lines (our layer, theirs). In ours, {x} is a number and {X} a word; theirs may count from elsewhere, {x-1}.
The first line is the model's first convolution. Of a layer's arrays, PyTorch's "weight" and "bias" or Keras's "kernel",
"gamma" and "beta" follow from what they are; a line that goes down to the array, "block{b}/layer_scale", names it whole.
A third entry says how many axes of length 1 theirs has at the end and ours has not: 2 for a scale of shape (C, 1, 1).
Where the names depend on the variant, a function of its fields gives the table.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from jaxcnn.weights.names import (
    alexnet,
    densenet,
    resnet,
    resnet_cifar,
    squeezenet,
    vgg,
)

Table = tuple[tuple[str, str] | tuple[str, str, int], ...]

TABLES: dict[tuple[type[nn.Module], str], Table | Callable[[Mapping[str, Any]], Table]] = {}
"""{(module, library): table}; the library is the prefix of the model's name, "" where it has none."""
for _family in (
    alexnet,
    densenet,
    resnet,
    resnet_cifar,
    squeezenet,
    vgg,
):
    TABLES |= _family.TABLES
