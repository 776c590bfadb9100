"""Loads trained networks with their preprocessing from a file, a run's folder or the Hugging Face hub.

    model, variables, preprocessing = jaxcnn.load_pretrained("hf:timm/resnet50.tv_in1k")
    model, variables, preprocessing = jaxcnn.load_pretrained("resnet50.pth", "resnet50", num_classes=10)
    model, variables, preprocessing = jaxcnn.load_pretrained("runs/flowers")

A source is a file (see jaxcnn.weights.read), a run's folder, a folder with a model in timm's format (config.json and
model.safetensors), or "hf:OWNER/NAME[@REVISION]", such a model on the hub. Preprocessing and class names are read from the
metadata that save_pretrained writes, or from a config.json in timm's format in the file's folder.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import flax.linen as nn
import flax.traverse_util
import numpy as np

from jaxcnn import weights
from jaxcnn.data import Preprocessing
from jaxcnn.data.fields import LabelKind
from jaxcnn.errors import UserError, did_you_mean, first_line
from jaxcnn.files import user_path
from jaxcnn.models import create_model, list_models
from jaxcnn.models.registry import find
from jaxcnn.pretrained import published
from jaxcnn.pretrained.adapt import fit, for_channels, outputs_of, stated_names

if TYPE_CHECKING:
    from jaxcnn.train import Trained

Variables = dict[str, Any]


def _is_caffe(name: str) -> bool:
    return published.is_caffe(name)


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A source of weights. If they are in a file, it has not been read yet."""

    source: str
    name: str
    """name of the model, as for create_model"""
    file: Path
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = ()
    """() if the source does not specify them"""
    assumed: str = ""
    """description of the assumed preprocessing, "" if the source specifies it"""
    imagenet: bool = False
    """True if these are known to be published weights, whose classes are ImageNet's if there are 1,000"""
    task: LabelKind | None = None
    arguments: Mapping[str, Any] | None = None
    """arguments of create_model other than num_classes; None if the source does not specify them"""
    run: "Trained | None" = None

    def __str__(self) -> str:
        if not self.run:
            return self.source
        return f"{self.source}, step {self.run.step:,}" + (", averaged" if self.run.config.ema.decay else "")

    def variables(self, **arguments: Any) -> tuple[Variables, int]:
        """Reads the variables {"params", "batch_stats"} of create_model(name, **arguments).

        Returns them with the number of outputs of their head, 0 if they have no head. Raises UserError if the source does not
        have exactly the variables of this model.
        """
        try:
            if self.run:
                flat = flax.traverse_util.flatten_dict(self.run.variables)
                return self._checked(flat, outputs_of(self.task, self.run.class_names), **arguments)
            tensors = weights.read(self.file)
            if any(key.startswith("params/") for key in tensors):
                return self._with_our_names(tensors, **arguments)
            outputs = weights.number_of_classes(self.name, tensors, **arguments)
            found = weights.convert(self.name, tensors, **arguments, num_classes=outputs)
        except UserError as error:
            raise UserError(f"{self.source}: {error}".replace(f"{self.source}: {self.source}", self.source)) from error
        is_bgr = self.arguments is None and _is_caffe(self.name)
        return _to_rgb(found) if is_bgr else found, outputs

    def named(self, outputs: int) -> tuple[str, ...]:
        """Returns the class names for a head with this number of outputs, () if they are not known."""
        names = published.imagenet_names() if self.imagenet and not self.class_names else self.class_names
        return names if outputs == outputs_of(self.task, names) else ()

    def _with_our_names(self, tensors: Mapping[str, np.ndarray], **arguments: Any) -> tuple[Variables, int]:
        try:
            flat = {tuple(key.split("/")): np.asarray(tensor, np.float32) for key, tensor in tensors.items()}
        except (TypeError, ValueError) as error:
            raise UserError(f"it has tensors that are not numeric ({first_line(error)})") from error
        axes = weights.class_axes(self.name, self.preprocessing.input_shape, **arguments)
        outputs = next(
            (flat[path].shape[along[0]] for path, along in axes.items() if path in flat and flat[path].ndim > along[0]), 0
        )
        return self._checked(flat, outputs, **arguments)

    def _checked(self, flat: Mapping[tuple[str, ...], Any], outputs: int, **arguments: Any) -> tuple[Variables, int]:
        shape = self.preprocessing.input_shape
        weights.check_shapes(self.name, flat, shape, **arguments | {"num_classes": outputs})
        return flax.traverse_util.unflatten_dict({path: np.asarray(array) for path, array in flat.items()}), outputs


def load_pretrained(
    source: str,
    name: str | None = None,
    *,
    num_classes: int | None = None,
    channels: int | None = None,
    say: Callable[[str], None] = print,
    **arguments: Any,
) -> tuple[nn.Module, dict[str, Any], Preprocessing]:
    """Loads a trained network. Returns (model, variables, preprocessing).

        images = preprocessing.read("cat.jpg")[None]                                    # (1, H, W, C) uint8
        logits = model.apply(variables, preprocessing(images), train=False)

    `name` is the name of the model, required for a file that does not specify it. If `num_classes` differs from the source, the
    head is newly initialized; 0 removes it, and the model returns the pooled features. If `channels` differs from the source,
    the first convolution is adapted (see weights.adapt_stem). `say` is called with a line that lists these changes. The other
    arguments are those of create_model; their defaults are the source's, if it specifies them.

    The preprocessing is the source's. If the source does not specify it, it is assumed from the library whose names the weights
    have: the preprocessing of the published file of the same name, else of the first file that torchvision or timm published
    for this model. `say` is called with a line that states an assumption.

    Raises:
      UserError: the source or model does not exist, the file is damaged, or the weights belong to another network.
    """
    return load_origin(find_pretrained(source, name, say=say), num_classes=num_classes, channels=channels, say=say, **arguments)


def load_origin(
    origin: Pretrained,
    *,
    num_classes: int | None = None,
    channels: int | None = None,
    say: Callable[[str], None],
    **arguments: Any,
) -> tuple[nn.Module, dict[str, Any], Preprocessing]:
    """Loads the network of a source that `find_pretrained` returned, see `load_pretrained`."""
    arguments = {**(origin.arguments or {}), **arguments}
    variables, outputs = origin.variables(**arguments)
    if not outputs and num_classes is None:
        raise UserError(f"{origin.source}: has no head; num_classes=0 returns the features, another number adds a new head")
    num_classes = outputs if num_classes is None else num_classes
    channels = channels or origin.preprocessing.image_shape[2]
    variables, changes = fit(origin, variables, outputs, num_classes, (*origin.preprocessing.size, channels), **arguments)
    changes += [f"assumed: {origin.assumed}"] if origin.assumed else []
    if changes:
        say(f"{origin.name} from {origin.source}: {'; '.join(changes)}")
    preprocessing = for_channels(origin.preprocessing, channels)
    return create_model(origin.name, num_classes=num_classes, **arguments), variables, preprocessing


def find_pretrained(source: str, name: str | None = None, *, say: Callable[[str], None] = lambda line: None) -> Pretrained:
    """Finds a source of weights. A model on the hub is downloaded unless it is in the cache.

    `say` is called with warnings about damaged checkpoints of a run. Raises UserError if the source does not exist or states
    another model than `name`.
    """
    if source.startswith("hf:"):
        return _from_hub(source, name)
    path = user_path(source)
    if (path / "checkpoints").is_dir():
        return _from_run(source, name, path, say)
    if path.is_dir():
        return _from_folder(source, name, path)
    if metadata := weights.read_metadata(path):
        return _from_metadata(source, name, path, metadata)
    config = _timm_config(path.parent, name)
    if config and (name or config.get("architecture")):
        return _from_timm(source, name, config, path)
    if not name:
        raise UserError(f'{source}: the file does not specify its model; name it, for example "resnet50"')
    find(name)
    preprocessing, assumed = published.preprocessing_of_file(path, name)
    return Pretrained(source, name, path, preprocessing, assumed=assumed, imagenet=not assumed)


def class_names(origin: Pretrained, outputs: int) -> tuple[str, ...]:
    """Returns the source's class names, else ImageNet's for 1,000 outputs, else the numbers of the outputs."""
    names = published.imagenet_names() if outputs == 1000 and not origin.class_names else origin.class_names
    return names if outputs == outputs_of(origin.task, names) else tuple(map(str, range(outputs)))


def _to_rgb(variables: dict[str, Any]) -> dict[str, Any]:
    """Adapts a network for BGR images to RGB images, by reversing the input channels of its first convolution."""
    stem = variables["params"]["stem_conv"]
    reversed_stem = stem | {"kernel": np.ascontiguousarray(stem["kernel"][:, :, ::-1])}
    return variables | {"params": variables["params"] | {"stem_conv": reversed_stem}}


# ── Sources ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_run(source: str, name: str | None, path: Path, say: Callable[[str], None]) -> Pretrained:
    from jaxcnn.tasks.classification import Classification  # here because these modules import this one
    from jaxcnn.train.trained import load_trained

    try:
        run = load_trained(path, warn=say)
    except UserError as error:
        raise UserError(str(error).removeprefix("--workdir: ")) from error
    if not isinstance(run.task, Classification):
        raise UserError(f"{source}: holds a run of the task {run.config.task.name}, not of a classification task")
    _check_model(source, name, run.config.model.name)
    names = stated_names(run.config.data.name, run.class_names)
    arguments = run.config.model.arguments | {"dtype": run.config.model.dtype}
    name = name or run.config.model.name
    return Pretrained(source, name, path, run.preprocessing, names, task=run.task.kind, arguments=arguments, run=run)


def _from_metadata(source: str, name: str | None, file: Path, metadata: Mapping[str, Any]) -> Pretrained:
    """Returns the source for a file that save_pretrained wrote, from the file's metadata."""
    try:
        model, task, names = metadata["model"], metadata["task"], tuple(map(str, metadata["class_names"]))
        preprocessing = Preprocessing.from_json(metadata["preprocessing"])
        preprocessing = published.checked(f"{source}: its metadata", preprocessing)
        arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in model["arguments"].items()}
        if task not in get_args(LabelKind):
            raise ValueError(f"unknown task {task!r}")
        stored = str(model["name"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{source}: its metadata are damaged ({first_line(error)[:200]})") from error
    _check_model(source, name, stored)
    return Pretrained(source, name or stored, file, preprocessing, names, task=task, arguments=arguments)


def _check_model(source: str, name: str | None, stored: str) -> None:
    try:
        is_same = find(stored) == find(name or stored)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    if not is_same:
        raise UserError(f"{source}: holds weights of {stored}, but model.name is {name}")


def _from_folder(source: str, name: str | None, path: Path) -> Pretrained:
    config, file = _timm_config(path), path / "model.safetensors"
    if not (config and file.is_file()):
        raise UserError(
            f"{source}: this folder holds neither a run (checkpoints/) nor a model in timm's format (config.json and "
            "model.safetensors)"
        )
    return _from_timm(source, name, config, file)


def _timm_config(folder: Path, name: str | None = None) -> dict[str, Any]:
    """Returns the config.json in `folder`, {} if it is missing, does not describe a model, or describes another than `name`."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = weights.parse_json(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {first_line(error)}") from error
    is_timm = {"architecture", "pretrained_cfg", "label_names", "id2label"} & config.keys()
    is_other = name and config.get("architecture", name.rpartition("/")[2]) != name.rpartition("/")[2]
    return config if is_timm and not is_other else {}


def _from_timm(source: str, name: str | None, config: Mapping[str, Any], file: Path) -> Pretrained:
    """Returns the source for weights with a config.json in timm's format, which must agree with any metadata in the weights."""
    preprocessing, names, assumed = published.from_timm(source, config)
    if metadata := weights.read_metadata(file):
        origin = _from_metadata(source, name, file, metadata)
        if different := published.differences(config, origin.preprocessing, origin.class_names):
            raise UserError(
                f"{source}: config.json and the metadata of {file.name} differ in {', '.join(different)}; write both again"
            )
        return origin
    name = name or _architecture(source, str(config.get("architecture")))
    find(name)
    return Pretrained(source, name, file, preprocessing, names, assumed, imagenet=True)


def _from_hub(source: str, name: str | None) -> Pretrained:
    if not (match := re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source)):
        raise UserError(f"{source}: write it as hf:OWNER/NAME or hf:OWNER/NAME@REVISION, for example hf:timm/resnet50.tv_in1k")
    path = weights.fetch(source, match[1], match[2], "config.json")
    config = weights.parse_json(Path(source), path.read_text(encoding="utf-8"))
    if not config.get("architecture"):
        raise UserError(f"{source}: its config.json is not in timm's format (it has no architecture)")
    name = name or _architecture(source, str(config["architecture"]))
    return _from_timm(source, name, config, weights.fetch(source, match[1], match[2], "model.safetensors"))


def _architecture(source: str, architecture: str) -> str:
    """Returns the name of the model with this architecture: timm's variant, else torchvision's, else without a prefix."""
    for name in (f"timm/{architecture}", f"torchvision/{architecture}", architecture):
        try:
            find(name)
        except UserError:
            continue
        return name
    hint = did_you_mean(f"timm/{architecture}", list_models()) or did_you_mean(architecture, list_models())
    raise UserError(f'{source}: no model "{architecture}"{hint}')
