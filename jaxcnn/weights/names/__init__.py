"""Tables of the names that other libraries give the layers of our models: one file per family, one table per library.

A table consists of lines (our layer, the library's layer). In our name {x} stands for a number and {X} for a word. The
library's name may contain {x} and {X}, or a shifted number such as {x-1}. The first line is the model's first convolution.
The names of a layer's arrays ("weight" and "bias" in PyTorch; "kernel", "gamma" and "beta" in Keras) follow from their kind. A
line may instead name a single array on both sides, such as "block{b}/layer_scale".
A third entry is the number of trailing axes of length 1 that only the library's array has: 2 for a scale of shape (C, 1, 1).
If the names depend on the variant, the table is a function of the variant's fields (and its "name").
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

Table = tuple[tuple[str, str] | tuple[str, str, int], ...]

TABLES: dict[tuple[type[nn.Module], str], Table | Callable[[Mapping[str, Any]], Table]] = {}
"""Tables by (module, library). The library is the prefix of the model's name, "" if it has no prefix."""
FORMS: dict[tuple[type[nn.Module], str], str] = {}
"""The library whose tables apply to models without a prefix whose weights were published in that library's format."""
for _file in pkgutil.iter_modules(__path__):
    _family = importlib.import_module(f"{__name__}.{_file.name}")
    TABLES |= getattr(_family, "TABLES", {})
    FORMS |= getattr(_family, "FORMS", {})
