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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import flax.linen as nn
import flax.traverse_util
import numpy as np

from jaxcnn import weights
from jaxcnn.data import Preprocessing
from jaxcnn.errors import UserError, did_you_mean, first_line
from jaxcnn.files import user_path
from jaxcnn.models import create_model, list_models
from jaxcnn.models.registry import find
from jaxcnn.pretrained import published
from jaxcnn.pretrained.adapt import TaskKind, fit, for_channels, has_auxiliary_head, outputs_of, stated_names

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
    published: bool = False
    """True if these are known to be published weights, whose number of outputs determines their classes, see class_names"""
    task: TaskKind | None = None
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
        have exactly the variables of this model. The source decides whether they include an auxiliary head (`aux_loss`).
        """
        try:
            if self.run:
                arguments = self._with_auxiliary(arguments, {})
                flat = flax.traverse_util.flatten_dict(self.run.variables)
                return self._checked(flat, outputs_of(self.task, self.run.class_names), **arguments)
            tensors = weights.read(self.file)
            arguments = self._with_auxiliary(arguments, tensors)
            if any(key.startswith("params/") for key in tensors):
                return self._with_our_names(tensors, **arguments)
            outputs = weights.number_of_classes(self.name, tensors, **arguments)
            found = weights.convert(self.name, tensors, **arguments, **self._head(outputs))
        except UserError as error:
            raise UserError(f"{self.source}: {error}".replace(f"{self.source}: {self.source}", self.source)) from error
        is_bgr = self.arguments is None and _is_caffe(self.name)
        return _to_rgb(found) if is_bgr else found, outputs

    def named(self, outputs: int) -> tuple[str, ...]:
        """Returns the class names for a head with this number of outputs, () if they are not known."""
        names = self.class_names
        if self.published and not names:
            _, names = published.classes(find(self.name).task, outputs)
        return names if outputs == outputs_of(self.task, names) else ()

    def _with_auxiliary(self, arguments: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns the arguments with the source's `aux_loss`, if the model has this argument."""
        module = find(self.name).module
        if not hasattr(module, "aux_loss") or "aux_loss" in getattr(module, "without", ()):
            return arguments
        stated = self.arguments
        has_head = weights.has_layer(self.name, tensors, "aux_logits") if stated is None else stated.get("aux_loss", False)
        return arguments | {"aux_loss": has_head}

    def _head(self, outputs: int) -> dict[str, int]:
        """Returns the argument num_classes. A network for segmentation cannot be created without a head."""
        return {"num_classes": outputs} if outputs or find(self.name).task == "classification" else {}

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
        weights.check_shapes(self.name, flat, shape, **arguments | self._head(outputs))
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
    arguments are those of create_model; their defaults are the source's, if it specifies them. A segmentation network has an
    auxiliary head (`aux_loss`) by default if the source has one.

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
    if has_auxiliary_head(variables):
        arguments.setdefault("aux_loss", True)
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
    return _find(source, (name,) if name else (), say)


def find_start(
    source: str, name: str, arguments: Mapping[str, Any], *, say: Callable[[str], None] = lambda line: None
) -> Pretrained:
    """Finds the weights from which the training of create_model(name, **arguments) starts.

    They are weights of this network or, if it has an encoder, of that classifier. The `name` of the result says which: it is
    `name` or that of the encoder. The source decides: the model that it states, or else the names of its tensors. Otherwise
    like `find_pretrained`.
    """
    encoder = getattr(create_model(name, **arguments), "encoder", None)
    return _find(source, (name, encoder) if isinstance(encoder, str) else (name,), say)


def _find(source: str, names: Sequence[str], say: Callable[[str], None]) -> Pretrained:
    """Finds a source of weights of one of the models `names`: a network and its encoder, one model, or () for any."""
    if source.startswith("hf:"):
        return _from_hub(source, names)
    path = user_path(source)
    if (path / "checkpoints").is_dir():
        return _from_run(source, names, path, say)
    if path.is_dir():
        return _from_folder(source, names, path)
    if metadata := weights.read_metadata(path):
        return _from_metadata(source, names, path, metadata)
    name = _held(source, names, path)
    config = _timm_config(path.parent, name)
    if config and (name or config.get("architecture")):
        return _from_timm(source, (name,) if name else (), config, path)
    if not name:
        raise UserError(f'{source}: the file does not specify its model; name it, for example "resnet50"')
    find(name)
    preprocessing, assumed = published.preprocessing_of_file(path, name)
    return Pretrained(source, name, path, preprocessing, assumed=assumed, published=not assumed)


def class_names(origin: Pretrained, outputs: int, say: Callable[[str], None] = lambda line: None) -> tuple[str, ...]:
    """Returns the source's class names, else those of most networks with this number of outputs, else the outputs' numbers.

    `say` is called with a line if the names are assumed.
    """
    if names := origin.named(outputs):
        return names
    data_set, names = published.classes(find(origin.name).task, outputs)
    if not names or origin.class_names:
        return tuple(map(str, range(outputs)))
    say(
        f"{origin.source}: no class names found; assuming the {outputs:,} classes of {data_set}, because the number is the same"
    )
    return names


def _to_rgb(variables: dict[str, Any]) -> dict[str, Any]:
    """Adapts a network for BGR images to RGB images, by reversing the input channels of its first convolution."""
    stem = variables["params"]["stem_conv"]
    reversed_stem = stem | {"kernel": np.ascontiguousarray(stem["kernel"][:, :, ::-1])}
    return variables | {"params": variables["params"] | {"stem_conv": reversed_stem}}


# ── Sources ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_run(source: str, names: Sequence[str], path: Path, say: Callable[[str], None]) -> Pretrained:
    from jaxcnn.tasks.classification import Classification  # here because these modules import this one
    from jaxcnn.tasks.segmentation import Segmentation
    from jaxcnn.train.trained import load_trained

    try:
        run = load_trained(path, warn=say)
    except UserError as error:
        raise UserError(str(error).removeprefix("--workdir: ")) from error
    task: TaskKind
    if isinstance(run.task, Classification):
        task = run.task.kind
    elif isinstance(run.task, Segmentation):
        task = "segmentation"
    else:
        raise UserError(f"{source}: holds a run of the task {run.config.task.name}, not of classification or segmentation")
    name = _stated(source, names, run.config.model.name)
    classes = stated_names(run.config.data.name, run.class_names)
    arguments = run.config.model.arguments | {"dtype": run.config.model.dtype}
    return Pretrained(source, name, path, run.preprocessing, classes, task=task, arguments=arguments, run=run)


def _from_metadata(source: str, names: Sequence[str], file: Path, metadata: Mapping[str, Any]) -> Pretrained:
    """Returns the source for a file that save_pretrained wrote, from the file's metadata."""
    try:
        model, task, classes = metadata["model"], metadata["task"], tuple(map(str, metadata["class_names"]))
        preprocessing = Preprocessing.from_json(metadata["preprocessing"])
        preprocessing = published.checked(f"{source}: its metadata", preprocessing)
        arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in model["arguments"].items()}
        if task not in get_args(TaskKind):
            raise ValueError(f"unknown task {task!r}")
        stored = str(model["name"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{source}: its metadata are damaged ({first_line(error)[:200]})") from error
    name = _stated(source, names, stored)
    return Pretrained(source, name, file, preprocessing, classes, task=task, arguments=arguments)


def _stated(source: str, names: Sequence[str], stored: str) -> str:
    """Returns the one of `names` that is the model `stored`, which the source states; `stored` if there are no names."""
    try:
        same = [name for name in names or (stored,) if find(name) == find(stored)]
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    if not same:
        network, *encoder = names
        expected = f"the encoder of {network} is {encoder[0]}" if encoder else f"model.name is {network}"
        raise UserError(f"{source}: holds weights of {stored}, but {expected}")
    return same[0]


def _held(source: str, names: Sequence[str], file: Path) -> str | None:
    """Returns the one of `names` whose first convolution is in the file; None if there are no names.

    Only a network and its encoder are compared: weights of a single model are compared when they are read.
    """
    if len(names) < 2:
        return next(iter(names), None)
    tensors = weights.read(file)
    if found := [name for name in names if weights.has_layer(name, tensors)]:
        return found[0]
    network, encoder = names
    first = next(iter(tensors), "missing")
    raise UserError(f"{source}: weights of neither {network} nor its encoder {encoder}; its first tensor is {first}")


def _from_folder(source: str, names: Sequence[str], path: Path) -> Pretrained:
    config, file = _timm_config(path), path / "model.safetensors"
    if not (config and file.is_file()):
        raise UserError(
            f"{source}: this folder holds neither a run (checkpoints/) nor a model in timm's format (config.json and "
            "model.safetensors)"
        )
    return _from_timm(source, names, config, file)


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


def _from_timm(source: str, names: Sequence[str], config: Mapping[str, Any], file: Path) -> Pretrained:
    """Returns the source for weights with a config.json in timm's format, which must agree with any metadata in the weights."""
    preprocessing, classes, assumed = published.from_timm(source, config)
    if metadata := weights.read_metadata(file):
        origin = _from_metadata(source, names, file, metadata)
        if different := published.differences(config, origin.preprocessing, origin.class_names):
            raise UserError(
                f"{source}: config.json and the metadata of {file.name} differ in {', '.join(different)}; write both again"
            )
        return origin
    name = _held(source, names, file) or _architecture(source, str(config.get("architecture")))
    find(name)
    return Pretrained(source, name, file, preprocessing, classes, assumed, published=True)


def _from_hub(source: str, names: Sequence[str]) -> Pretrained:
    if not (match := re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source)):
        raise UserError(f"{source}: write it as hf:OWNER/NAME or hf:OWNER/NAME@REVISION, for example hf:timm/resnet50.tv_in1k")
    path = weights.fetch(source, match[1], match[2], "config.json")
    config = weights.parse_json(Path(source), path.read_text(encoding="utf-8"))
    if not config.get("architecture"):
        raise UserError(f"{source}: its config.json is not in timm's format (it has no architecture)")
    names = names or (_architecture(source, str(config["architecture"])),)
    return _from_timm(source, names, config, weights.fetch(source, match[1], match[2], "model.safetensors"))


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
