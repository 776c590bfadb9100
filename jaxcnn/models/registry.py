"""Models by name.

A family's file ends with its table of variants:

    variant("torchvision/resnet18", ResNet, depths=(2, 2, 2, 2), block=BasicBlock)
    variant("keras/ResNet50", ResNet, depths=(3, 4, 6, 3), block=KerasBottleneck)
    variant("highway19", Highway, depth=19)

A prefix is the library whose flavour it is, to the parameter; torchvision's is the default one, and has the plain name too.

Of a module's fields, those without a default (`depths`, `block`) are what makes the variant and are given there, once
and for all; those with one (`num_classes`, `stem`) are arguments that create_model takes. A variant may give such an
argument a default of its own. A class of one's own, with defaults for all its fields, goes by its import path instead:
"my_package.my_net:MyNet" (docs/extending.md).
"""

import dataclasses
import fnmatch
import functools
import importlib
import pkgutil
import types
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.import_path import import_class
from jaxcnn.settings import NotNegative, Whole, checked


class Variant(NamedTuple):
    """One line of a family's table."""

    module: type[nn.Module]
    fields: dict[str, Any]
    library: str = ""
    """whose flavour it is: "torchvision", "keras", "timm"; "" where there is no such"""


_VARIANTS: dict[str, Variant] = {}  # by `variant`, as the families are imported


@functools.cache
def _variants() -> dict[str, Variant]:
    """All of them. The first call imports all families, each of which declares its variants."""
    package = importlib.import_module("jaxcnn.models")
    for file in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{file.name}")
    return _VARIANTS


def variant(name: str, module: type[nn.Module], **fields: Any) -> None:
    """Declares a model: `module` with these fields."""
    library, _, plain = name.rpartition("/")
    name = plain if library == "torchvision" else name
    assert name not in _VARIANTS, f"two models are named {name}"
    _VARIANTS[name] = Variant(module, fields, library)


def image_size(name: str) -> int:
    """The side in pixels of the images that a model is meant for."""
    return next(size for pattern, size in _IMAGE_SIZES if fnmatch.fnmatchcase(name, pattern))


_IMAGE_SIZES = (
    ("lenet*", 32), ("*_cifar", 32), ("resnet20", 32), ("resnet32", 32), ("resnet44", 32), ("resnet56", 32), ("resnet110", 32),
    ("resnet1202", 32), ("preact_resnet*", 32), ("wrn_*", 32), ("resnext29_*", 32), ("densenet40_*", 32), ("densenet_bc*", 32),
    ("all_cnn_*", 32), ("nin", 32), ("highway*", 32), ("fractalnet*", 32), ("airbench*", 32),
    ("efficientnet_b2", 288), ("regnet_y_128gf", 384), ("*convnextv2_huge", 384), ("*nfnet_f0", 192), ("*nfnet_f2", 256),
    ("*nfnet_f3", 320), ("*nfnet_f4", 384), ("*nfnet_f5", 416), ("*nfnet_f6", 448), ("*/nf_resnet50", 256),
    ("*/ecaresnet26t", 256), ("*/resnet101d", 256), ("*/resnet152d", 256), ("*/resnet200d", 256), ("*50x3_bit", 448),
    ("*101x?_bit", 448), ("*mobilenetv4_conv_large", 384), ("*mobilenetv4_conv_medium", 256), ("*tinynet_a", 192),
    ("*tinynet_b", 188), ("*efficientnet_lite1", 240), ("*efficientnet_lite2", 260), ("*efficientnet_lite3", 300),
    ("*efficientnet_lite4", 380), ("*tf_efficientnetv2_b[01]", 192), ("*tf_efficientnetv2_b2", 208),
    ("*tf_efficientnetv2_b3", 240), ("*tf_efficientnetv2_s", 300), ("*tf_efficientnetv2_[ml]", 384),
    ("*inception_v[34]*", 299), ("*inception_resnet*", 299), ("*InceptionV3", 299), ("*InceptionResNetV2", 299),
    ("*[xX]ception*", 299), ("*NASNetLarge", 331), ("*nasnetalarge*", 331), ("*fficient*[bB]1", 240), ("*fficient*[bB]2", 260),
    ("*fficient*[bB]3", 300), ("*fficient*[bB]4", 380), ("*fficient*[bB]5", 456), ("*fficient*[bB]6", 528),
    ("*fficient*[bB]7", 600), ("*efficientnet_v2_s", 384), ("*efficientnet_v2_[ml]", 480), ("*EfficientNetV2S", 384),
    ("*EfficientNetV2[ML]", 480), ("*", 224),
)  # fmt: skip
"""The first pattern that matches decides."""


def list_models(pattern: str = "*") -> list[str]:
    """The names of all models, or of those that match a shell pattern ("resnet*"), sorted."""
    return sorted(fnmatch.filter(_variants(), pattern))


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
    if unset := [field.name for field in fields if not _is_argument(field)]:
        raise UserError(f"model.name: {name} has fields without a default: {', '.join(unset)}")
    if lacking := {"num_classes", "dtype"} - {field.name for field in fields}:
        raise UserError(f"model.name: {name} has no field {' and no field '.join(sorted(lacking))}")
    return found


def create_model(name: str, /, **arguments: Any) -> nn.Module:
    """The model `name` as a flax.linen.Module: images (N, H, W, C) float -> logits (N, num_classes) float32.

        model = create_model("resnet50", num_classes=10, dtype=jnp.bfloat16)
        variables = model.init(key, images, train=False)  # {"params", "batch_stats"}, float32
        logits = model.apply(variables, images, train=False)

    All take `num_classes` (0: the pooled features instead of logits) and `dtype`, the type to compute in (a dtype or
    its name); the others are the module's fields. Raises UserError if there is no such model, no such argument, or an
    argument has a wrong type or value.
    """
    module, fields, *_ = find(name)
    types = {f.name: f.type for f in dataclasses.fields(module) if _is_argument(f)}
    for argument, value in arguments.items():
        if argument not in types:
            valid = ", ".join(sorted(types))
            raise UserError(f'{name}: no argument "{argument}"{did_you_mean(argument, types)}; it takes {valid}')
        _check(f"{name}: {argument}", value, types[argument])
    dtype = _dtype(name, arguments.get("dtype", jnp.float32))
    return module(**{**fields, **arguments, "dtype": dtype})


def check_images(model: nn.Module, images: jax.Array, *, at_least: int = 1) -> None:
    """Refuses, with a UserError, what is not (N, H, W, C) or is smaller than at_least×at_least."""
    if images.ndim != 4:
        raise UserError(f"{_name_of(model)}: images of shape {images.shape} instead of (N, H, W, C)")
    height, width = images.shape[1:3]
    if min(height, width) < at_least:
        raise UserError(f"{height}×{width} is too small for {_name_of(model)}: at least {at_least}×{at_least}")


def _name_of(model: nn.Module) -> str:
    for name, (module, fields, *_) in _VARIANTS.items():
        if type(model) is module and all(getattr(model, field) == value for field, value in fields.items()):
            return name
    return type(model).__name__


def _is_argument(field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING and field.name not in ("parent", "name")


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
        raise UserError(f"{name}: dtype: {dtype!r} is no float type{hint}; float32, bfloat16 or float16")
    return known
