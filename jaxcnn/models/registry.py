"""Models by name.

A family's file ends with its table of variants:

    resnet = partial(variant, module=ResNet, flavour=TORCHVISION, image_size=224, paper="arXiv:1512.03385")
    resnet("torchvision/resnet18", depths=(2, 2, 2, 2), block=BasicBlock)
    resnet("keras/ResNet50", flavour=KERAS, depths=(3, 4, 6, 3), block=Bottleneck)

A prefix is the library whose flavour it is, to the parameter; torchvision's is the default one, and has the plain name too.

Of a module's fields, those without a default (`depths`, `block`) are what makes the variant and are given there, once
and for all; those with one (`num_classes`, `stem`) are arguments that create_model takes, except the flavour and what the
class names in `without`. A variant may give such an argument a default of its own. A class of one's own, with defaults
for all its fields, goes by its import path instead: "my_package.my_net:MyNet" (docs/extending.md).
"""

import dataclasses
import functools
import importlib
import pkgutil
import re
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.import_path import import_class
from jaxcnn.models.features import backbone
from jaxcnn.settings import NotNegative, Whole, checked


class Variant(NamedTuple):
    """One line of a family's table."""

    module: type[nn.Module]
    fields: dict[str, Any]
    library: str = ""
    """whose flavour it is: "torchvision", "keras", "timm"; "" where there is no such"""
    image_size: int = 224
    """side in pixels of the images that it is meant for"""
    paper: str = ""
    """which first described it: "arXiv:1512.03385", or "LeCun et al. 1998" where it is not at arXiv"""

    @property
    def year(self) -> int:
        """In which the paper was first published: an arXiv number begins with it, another paper ends with it."""
        number = re.match(r"arXiv:(\d\d)", self.paper)
        return 2000 + int(number[1]) if number else int(self.paper[-4:])


PUBLISHED_NAMES = {
    "dropout": "drop_rate",
    "dropout_rate": "drop_rate",
    "stochastic_depth_prob": "drop_path_rate",
    "drop_connect_rate": "drop_path_rate",
    "drop_path": "drop_path_rate",
}
"""What torchvision and Keras call arguments that all networks of this package have. create_model takes these names too."""

_VARIANTS: dict[str, Variant] = {}  # by `variant`, as the families are imported


@functools.cache
def _variants() -> dict[str, Variant]:
    """All of them. The first call imports all families, each of which declares its variants."""
    package = importlib.import_module("jaxcnn.models")
    for file in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{file.name}")
    return _VARIANTS


def variant(name: str, module: type[nn.Module], *, image_size: int, paper: str, **fields: Any) -> None:
    """Declares a model: `module` with these fields; the side of its images in pixels; and its paper, as of `Variant`."""
    library, _, plain = name.rpartition("/")
    name = plain if library == "torchvision" else name
    assert name not in _VARIANTS, f"two models are named {name}"
    assert re.search(r"^arXiv:\d{4}\.\d{4,5}$| \d{4}$", paper), f"{name}: a paper without a year: {paper}"
    _VARIANTS[name] = Variant(module, fields, library, image_size, paper)


def image_size(name: str) -> int:
    """The side in pixels of the images that a model is meant for."""
    return find(name).image_size


def names() -> list[str]:
    """The names of all models, sorted."""
    return sorted(_variants())


def find(name: str) -> Variant:
    """The variant of this name, or the class "package.module:Class". Raises UserError if there is none."""
    if ":" in name:
        return Variant(_import(name), {})
    plain = name.removeprefix("torchvision/")
    variants = _variants()
    if plain in variants and (plain == name or variants[plain].library == "torchvision"):
        return variants[plain]
    raise UserError(f'model.name: no model "{name}"{did_you_mean(name, variants)}')


def _import(name: str) -> type[nn.Module]:
    """The class at an import path, which has to have what every model has."""
    found = import_class("model.name", name, nn.Module)
    fields = [field for field in dataclasses.fields(found) if field.name not in ("parent", "name")]
    if unset := [field.name for field in fields if field.default is dataclasses.MISSING]:
        raise UserError(f"model.name: {name} has fields without a default: {', '.join(unset)}")
    if lacking := {"num_classes", "dtype"} - {field.name for field in fields}:
        raise UserError(f"model.name: {name} has no field {' and no field '.join(sorted(lacking))}")
    return found


def create_model(
    name: str,
    /,
    *,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    taps: Sequence[str] | None = None,
    **arguments: Any,
) -> nn.Module:
    """The model `name` as a flax.linen.Module: images (N, H, W, C) float -> logits (N, num_classes) float32.

        model = create_model("resnet50", num_classes=10, dtype=jnp.bfloat16)
        variables = model.init(key, images, train=False)  # {"params", "batch_stats"}, float32
        logits = model.apply(variables, images, train=False)

    With `features_only` it is a Backbone (jaxcnn/models/features.py): images -> a list of feature maps, one per stride: the
    deepest of the stem and the stages. `out_indices` chooses among them, from the end where negative, and gives their order;
    `taps` names layers by their path in `params` instead, or parts of the network.

        backbone = create_model("resnet50", features_only=True, out_indices=(1, 2, 3, -1))  # strides 4, 8, 16, 32
        backbone = create_model("mobilenet_v2", features_only=True, taps=("stage5_block1/expand_norm", "last"))

    All take `num_classes` (0: the pooled features instead of logits) and `dtype`, the type to compute in (a dtype or
    its name); the others are the module's fields, also by the names that libraries have for them (PUBLISHED_NAMES).
    Raises UserError if there is no such model, no such argument, or an argument has a wrong type or value.
    """
    module, fields, *_ = find(name)
    if features_only:
        if "num_classes" in arguments:
            raise UserError(f"{name}: num_classes has no effect with features_only: leave it out")
        return backbone(name, create_model(name, num_classes=0, **arguments), out_indices, taps)
    for argument, value in (("out_indices", out_indices), ("taps", taps)):
        if value is not None:
            raise UserError(f"{name}: {argument} has no effect without features_only=True")
    types = {f.name: f.type for f in dataclasses.fields(module) if _is_argument(f)}
    for argument in getattr(module, "without", ()):
        del types[argument]
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    for argument, value in arguments.items():
        field = argument if argument in types else PUBLISHED_NAMES.get(argument, argument)
        if field not in types:
            valid = ", ".join(sorted(types))
            raise UserError(f'{name}: no argument "{argument}"{did_you_mean(argument, types)}; it takes {valid}')
        if field in values:
            raise UserError(f"{name}: {given[field]} and {argument} are two names of one argument: leave one out")
        _check(f"{name}: {argument}", value, types[field])
        values[field], given[field] = value, argument
    dtype = _dtype(name, values.get("dtype", jnp.float32))
    return module(**{**fields, **values, "dtype": dtype})


def check_images(model: nn.Module, images: jax.Array, *, at_least: int = 1) -> None:
    """Refuses, with a UserError, what is not (N, H, W, C) or is smaller than at_least×at_least."""
    if images.ndim != 4:
        raise UserError(f"{name_of(model)}: images of shape {images.shape} instead of (N, H, W, C)")
    height, width = images.shape[1:3]
    if min(height, width) < at_least:
        raise UserError(f"{height}×{width} is too small for {name_of(model)}: at least {at_least}×{at_least}")


def name_of(model: nn.Module) -> str:
    """The name of its variant, or of its class. Of variants that differ in arguments alone, the one with these arguments."""
    arguments = {field.name for field in dataclasses.fields(model) if _is_argument(field)}
    for passed_over in (set(), arguments):
        for name, (module, fields, *_) in _VARIANTS.items():
            if type(model) is module and all(getattr(model, field) == fields[field] for field in fields.keys() - passed_over):
                return name
    return type(model).__name__


def _is_argument(field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING and field.name not in ("parent", "name", "flavour")


def _check(where: str, value: Any, hint: Any) -> None:
    """Refuses what does not fit the annotation of a field. Fields of types that a config can't hold are not checked."""
    hint = {int: Whole, float: NotNegative}.get(hint, hint)  # no size, number or rate in an architecture is negative
    if _is_plain(hint):
        checked(where, value, hint)


def _is_plain(hint: Any) -> bool:
    """Whether all values of an annotation can be in a config."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _is_plain(hint.__origin__)
    if origin in (tuple, dict, Union, types.UnionType):
        return all(part is Ellipsis or _is_plain(part) for part in get_args(hint))
    return origin is Literal or hint in (bool, int, float, str, tuple, dict, type(None))


def _dtype(name: str, dtype: Any) -> jnp.dtype:
    try:
        known = jnp.dtype(dtype)
    except TypeError:
        known = None
    if known is None or not jnp.issubdtype(known, jnp.floating):
        hint = did_you_mean(dtype, ("float32", "bfloat16", "float16"))
        raise UserError(f"{name}: dtype: {dtype!r} is not a float type{hint}; float32, bfloat16 or float16")
    return known
