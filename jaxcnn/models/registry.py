"""The registry of models: declares variants and creates models by name.

The file of a family ends with its table of variants:

    resnet = partial(variant, module=ResNet, flavor=TORCHVISION, image_size=224, paper="arXiv:1512.03385")
    resnet("torchvision/resnet18", depths=(2, 2, 2, 2), block=BasicBlock)
    resnet("keras/ResNet50", flavor=KERAS, depths=(3, 4, 6, 3), block=Bottleneck)

The prefix names the library whose published weights the variant matches, parameter by parameter. A variant of torchvision
is registered without the prefix; `create_model` accepts both names.

Fields of the module without a default (`depths`, `block`) define the variant and are set in the table. Fields with a default
(`num_classes`, `stem`) are arguments of `create_model`, except `flavor` and those that the class lists in `without`; the table
may set another default for them. A class outside this package is named by its import path, "my_package.my_net:MyNet", and needs
defaults for all of its fields (docs/extending.md).
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
    """A row of a family's table of variants."""

    module: type[nn.Module]
    fields: dict[str, Any]
    """the fields of the module that differ from their defaults, by name"""
    library: str = ""
    """the library that it matches: "torchvision", "keras", "timm"; "" if none"""
    image_size: int = 224
    """height and width in pixels of the images that it was designed for"""
    paper: str = ""
    """the paper that first described it: "arXiv:1512.03385", or "LeCun et al. 1998" if it is not on arXiv"""

    @property
    def task(self) -> str:
        """What the network predicts: "classification" or "segmentation"."""
        return getattr(self.module, "task", "classification")

    @property
    def year(self) -> int:
        """The year of the paper's first publication: the first digits of an arXiv number, or the end of another citation."""
        number = re.match(r"arXiv:(\d\d)", self.paper)
        return 2000 + int(number[1]) if number else int(self.paper[-4:])


PUBLISHED_NAMES = {
    "dropout": "drop_rate",
    "dropout_rate": "drop_rate",
    "stochastic_depth_prob": "drop_path_rate",
    "drop_connect_rate": "drop_path_rate",
    "drop_path": "drop_path_rate",
}
"""The names that torchvision and Keras give to arguments of `Network`. create_model accepts them too."""

_VARIANTS: dict[str, Variant] = {}  # filled by `variant` when a family is imported


@functools.cache
def _variants() -> dict[str, Variant]:
    """Returns all variants by name. The first call imports all families, which declare their variants."""
    package = importlib.import_module("jaxcnn.models")
    for file in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(file.name)
    return _VARIANTS


def variant(name: str, module: type[nn.Module], *, image_size: int, paper: str, **fields: Any) -> None:
    """Registers a variant of a network: `module` with `fields`.

        variant("keras/ResNet50", ResNet, flavor=KERAS, depths=(3, 4, 6, 3), image_size=224, paper="arXiv:1512.03385")

    The prefix of `name` is the library that the variant matches; for the other arguments see `Variant`.
    """
    library, _, plain = name.rpartition("/")
    name = plain if library == "torchvision" else name
    assert name not in _VARIANTS, f"two models have the name {name}"
    assert re.search(r"^arXiv:\d{4}\.\d{4,5}$| \d{4}$", paper), (
        f"{name}: expected paper='arXiv:…' or a year at its end, got {paper!r}"
    )
    _VARIANTS[name] = Variant(module, fields, library, image_size, paper)


def image_size(name: str) -> int:
    """Returns the height and width in pixels of the images that a model was designed for."""
    return find(name).image_size


def names() -> list[str]:
    """Returns the names of all models, sorted."""
    return sorted(_variants())


def find(name: str) -> Variant:
    """Returns the variant with this name, or one for the class at the import path "package.module:Class".

    Raises:
      UserError: there is no such model, or the class cannot serve as one.
    """
    if ":" in name:
        return Variant(_import(name), {})
    plain = name.removeprefix("torchvision/")
    variants = _variants()
    if plain in variants and (plain == name or variants[plain].library == "torchvision"):
        return variants[plain]
    raise UserError(f'model.name: no model "{name}"{did_you_mean(name, variants)}')


def _import(name: str) -> type[nn.Module]:
    """Imports a class and checks that it has the fields that every model needs."""
    module = import_class("model.name", name, nn.Module)
    fields = [field for field in dataclasses.fields(module) if field.name not in ("parent", "name")]
    if unset := [field.name for field in fields if field.default is dataclasses.MISSING]:
        raise UserError(f"model.name: {name} has fields without a default: {', '.join(unset)}")
    if missing := {"num_classes", "dtype"} - {field.name for field in fields}:
        raise UserError(f"model.name: {name} has no field {' and no field '.join(sorted(missing))}")
    return module


def create_model(
    name: str,
    /,
    *,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    taps: Sequence[str] | None = None,
    **arguments: Any,
) -> nn.Module:
    """Creates the model `name` as a flax.linen.Module: images (N, H, W, C) float -> logits (N, num_classes) float32.

        model = create_model("resnet50", num_classes=10, dtype=jnp.bfloat16)
        variables = model.init(key, images, train=False)  # {"params", "batch_stats"}, float32
        logits = model.apply(variables, images, train=False)

    With `features_only` it returns a Backbone (jaxcnn/models/features.py): images -> a list of feature maps, the deepest one of
    each stride among the outputs of the stem and the stages. `out_indices` selects from that list, in the given order; negative
    indices count from the end. `taps` selects layers by their paths in `params`, or the stem and stages by name, instead.

        backbone = create_model("resnet50", features_only=True, out_indices=(1, 2, 3, -1))  # strides 4, 8, 16, 32
        backbone = create_model("mobilenet_v2", features_only=True, taps=("stage5_block1/expand_norm", "last"))

    Every model accepts `num_classes` (0: it returns pooled features instead of logits) and `dtype`, the compute type (a dtype
    or its name). Further arguments are the fields of the module, for which the names in PUBLISHED_NAMES are accepted too.

    Raises:
      UserError: there is no such model or argument, or an argument has a wrong type or value.
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
            raise UserError(f'{name}: no argument "{argument}"{did_you_mean(argument, types)}; its arguments are {valid}')
        if field in values:
            raise UserError(f"{name}: {given[field]} and {argument} are two names of the same argument: leave one out")
        _check(f"{name}: {argument}", value, types[field])
        values[field], given[field] = value, argument
    dtype = _dtype(name, values.get("dtype", jnp.float32))
    return module(**{**fields, **values, "dtype": dtype})


def check_images(model: nn.Module, images: jax.Array, *, at_least: int = 1) -> None:
    """Raises UserError if the images do not have the form (N, H, W, C), or are smaller than at_least×at_least pixels."""
    if images.ndim != 4:
        raise UserError(f"{name_of(model)}: expected images of shape (N, H, W, C), got {images.shape}")
    height, width = images.shape[1:3]
    if min(height, width) < at_least:
        raise UserError(f"{height}×{width} is too small for {name_of(model)}: at least {at_least}×{at_least}")


def name_of(model: nn.Module) -> str:
    """Returns the name of the model's variant, or of its class if it has none.

    If variants differ only in arguments of create_model, the one with the model's values is preferred.
    """
    arguments = {field.name for field in dataclasses.fields(model) if _is_argument(field)}
    for ignored in (set(), arguments):
        for name, (module, fields, *_) in _VARIANTS.items():
            if type(model) is module and all(getattr(model, field) == fields[field] for field in fields.keys() - ignored):
                return name
    return type(model).__name__


def _is_argument(field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING and field.name not in ("parent", "name", "flavor")


def _check(where: str, value: Any, hint: Any) -> None:
    """Raises UserError if a value does not fit a field's annotation. Types that no config can hold are not checked."""
    hint = {int: Whole, float: NotNegative}.get(hint, hint)  # sizes, counts and rates of an architecture are not negative
    if _is_plain(hint):
        checked(where, value, hint)


def _is_plain(hint: Any) -> bool:
    """Returns whether a config can hold all values of this type."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _is_plain(hint.__origin__)
    if origin in (tuple, dict, Union, types.UnionType):
        return all(argument is Ellipsis or _is_plain(argument) for argument in get_args(hint))
    return origin is Literal or hint in (bool, int, float, str, tuple, dict, type(None))


def _dtype(name: str, dtype: Any) -> jnp.dtype:
    try:
        parsed = jnp.dtype(dtype)
    except TypeError:
        parsed = None
    if parsed is None or not jnp.issubdtype(parsed, jnp.floating):
        hint = did_you_mean(dtype, ("float32", "bfloat16", "float16"))
        raise UserError(f"{name}: dtype: {dtype!r} is not a floating-point type{hint}; expected float32, bfloat16 or float16")
    return parsed
