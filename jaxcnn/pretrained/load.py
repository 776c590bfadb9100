"""Trained networks: architecture, weights and preprocessing, from a file, a run's folder or the Hugging Face hub.

    model, variables, preprocessing = jaxcnn.load_pretrained("hf:timm/resnet50.tv_in1k")
    model, variables, preprocessing = jaxcnn.load_pretrained("resnet50.pth", "resnet50", num_classes=10)
    model, variables, preprocessing = jaxcnn.load_pretrained("runs/flowers")

A source is a file (see jaxcnn.weights.read), a run's folder, a folder with a model in timm's form (config.json and
model.safetensors), or "hf:OWNER/NAME[@REVISION]", such a model on the hub. What save_pretrained writes carries its
preprocessing and class names, and so does a file beside which there is a config.json in timm's form.
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
    """Weights that are known to exist; those in a file have not been read yet."""

    source: str
    name: str
    """the model's, as create_model takes it"""
    file: Path
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = ()
    """() where the source does not say"""
    assumed: str = ""
    """what the preprocessing is assumed to be, where the source does not say"""
    imagenet: bool = False
    """whether these are known to be published weights; if they have 1,000 classes, those are ImageNet's"""
    task: LabelKind | None = None
    arguments: Mapping[str, Any] | None = None
    """create_model's, beyond num_classes; None where the source does not say"""
    run: "Trained | None" = None

    def __str__(self) -> str:
        if not self.run:
            return self.source
        return f"{self.source}, step {self.run.step:,}" + (", averaged" if self.run.config.ema.decay else "")

    def variables(self, **arguments: Any) -> tuple[Variables, int]:
        """{"params", "batch_stats"} of create_model(name, **arguments), and how many outputs its head has; 0: no head.

        Raises UserError unless all that this network has is there, and nothing else.
        """
        try:
            if self.run:
                flat = flax.traverse_util.flatten_dict(self.run.variables)
                return self._fitting(flat, outputs_of(self.task, self.run.class_names), **arguments)
            tensors = weights.read(self.file)
            if any(key.startswith("params/") for key in tensors):
                return self._of_own_names(tensors, **arguments)
            outputs = weights.number_of_classes(self.name, tensors, **arguments)
            found = weights.convert(self.name, tensors, **arguments, num_classes=outputs)
        except UserError as error:
            raise UserError(f"{self.source}: {error}".replace(f"{self.source}: {self.source}", self.source)) from error
        published_for_blue_first = self.arguments is None and _is_caffe(self.name)
        return _blue_last(found) if published_for_blue_first else found, outputs

    def named(self, outputs: int) -> tuple[str, ...]:
        """The names of the classes of a head with so many outputs, () where they are not known."""
        names = published.imagenet_names() if self.imagenet and not self.class_names else self.class_names
        return names if outputs == outputs_of(self.task, names) else ()

    def _of_own_names(self, tensors: Mapping[str, np.ndarray], **arguments: Any) -> tuple[Variables, int]:
        try:
            flat = {tuple(key.split("/")): np.asarray(tensor, np.float32) for key, tensor in tensors.items()}
        except (TypeError, ValueError) as error:
            raise UserError(f"it holds tensors that are not numbers ({first_line(error)})") from error
        axes = weights.class_axes(self.name, self.preprocessing.input_shape, **arguments)
        outputs = next((flat[path].shape[of[0]] for path, of in axes.items() if path in flat and flat[path].ndim > of[0]), 0)
        return self._fitting(flat, outputs, **arguments)

    def _fitting(self, flat: Mapping[tuple[str, ...], Any], outputs: int, **arguments: Any) -> tuple[Variables, int]:
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
    """A trained network: (model, variables, preprocessing).

        images = preprocessing.read("cat.jpg")[None]                                    # (1, H, W, C) uint8
        logits = model.apply(variables, preprocessing(images), train=False)

    `name` is the model's, for a file that does not say it. Another `num_classes` than the source's gives a fresh head (0:
    none, and the pooled features), another number of `channels` (None: as the source's preprocessing says, else 3) an adapted
    first convolution (see weights.adapt_stem); `say` is called with a line that names what is not the source's. The other
    arguments are create_model's; their defaults are the source's, where it says them.

    The preprocessing is the source's. For a file without one it is assumed from the library whose names the weights have:
    of this very file where torchvision publishes one of its name, else of the first weights of this model that it or timm
    published; `say` is called with a line that says so.

    Raises:
      UserError: no such source or model, a damaged file, weights of another network.
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
    """`load_pretrained` of a source that was found."""
    arguments = {**(origin.arguments or {}), **arguments}
    variables, outputs = origin.variables(**arguments)
    if not outputs and num_classes is None:
        raise UserError(f"{origin.source}: holds no head; num_classes=0 gives the features, another number a fresh head")
    wanted = outputs if num_classes is None else num_classes
    channels = channels or origin.preprocessing.image_shape[2]
    variables, changes = fit(origin, variables, outputs, wanted, (*origin.preprocessing.size, channels), **arguments)
    changes += [f"assumed: {origin.assumed}"] if origin.assumed else []
    if changes:
        say(f"{origin.name} from {origin.source}: {'; '.join(changes)}")
    preprocessing = for_channels(origin.preprocessing, channels)
    return create_model(origin.name, num_classes=wanted, **arguments), variables, preprocessing


def find_pretrained(source: str, name: str | None = None, *, say: Callable[[str], None] = lambda line: None) -> Pretrained:
    """What `source` is; from the hub it is fetched, or taken from its cache. `say` is told of a run's damaged checkpoints.

    Raises UserError if it says that it is of another model than `name`.
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
        raise UserError(f'{source}: name the model that these weights are of, "resnet50" or so; a file does not say it')
    find(name)
    preprocessing, assumed = published.preprocessing_of_file(path, name)
    return Pretrained(source, name, path, preprocessing, assumed=assumed, imagenet=not assumed)


def class_names(origin: Pretrained, outputs: int) -> tuple[str, ...]:
    """The source's; ImageNet's for 1,000 classes; else their numbers."""
    names = published.imagenet_names() if outputs == 1000 and not origin.class_names else origin.class_names
    return names if outputs == outputs_of(origin.task, names) else tuple(map(str, range(outputs)))


def _blue_last(variables: dict[str, Any]) -> dict[str, Any]:
    """The network for RGB whose own images have blue first: its first convolution's channels, turned around."""
    stem = variables["params"]["stem_conv"]
    turned = stem | {"kernel": np.ascontiguousarray(stem["kernel"][:, :, ::-1])}
    return variables | {"params": variables["params"] | {"stem_conv": turned}}


# ── Sources ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_run(source: str, name: str | None, path: Path, say: Callable[[str], None]) -> Pretrained:
    from jaxcnn.tasks.classification import Classification  # not above: these import this module
    from jaxcnn.train.trained import load_trained

    try:
        run = load_trained(path, warn=say)
    except UserError as error:
        raise UserError(str(error).removeprefix("--workdir: ")) from error
    if not isinstance(run.task, Classification):
        raise UserError(f"{source}: holds a run of the task {run.config.task.name}, not of a classifier")
    _check_model(source, name, run.config.model.name)
    names = stated_names(run.config.data.name, run.class_names)
    arguments = run.config.model.arguments | {"dtype": run.config.model.dtype}
    name = name or run.config.model.name
    return Pretrained(source, name, path, run.preprocessing, names, task=run.task.kind, arguments=arguments, run=run)


def _from_metadata(source: str, name: str | None, file: Path, metadata: Mapping[str, Any]) -> Pretrained:
    """A file that save_pretrained wrote."""
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
        right = find(stored) == find(name or stored)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    if not right:
        raise UserError(f"{source}: holds weights of {stored}, but model.name is {name}")


def _from_folder(source: str, name: str | None, path: Path) -> Pretrained:
    config, file = _timm_config(path), path / "model.safetensors"
    if not (config and file.is_file()):
        raise UserError(
            f"{source}: a folder that holds neither a run (checkpoints/) nor a model in timm's form (config.json and "
            "model.safetensors)"
        )
    return _from_timm(source, name, config, file)


def _timm_config(folder: Path, name: str | None = None) -> dict[str, Any]:
    """The config.json in `folder`; {} if there is none, it is none of a model's, or of another architecture than `name`."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = weights.parse_json(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {first_line(error)}") from error
    known = {"architecture", "pretrained_cfg", "label_names", "id2label"} & config.keys()
    of_another = name and config.get("architecture", name.rpartition("/")[2]) != name.rpartition("/")[2]
    return config if known and not of_another else {}


def _from_timm(source: str, name: str | None, config: Mapping[str, Any], file: Path) -> Pretrained:
    """Weights beside a config.json of timm's form; perhaps they are save_pretrained's, and say the same."""
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
        raise UserError(f'{source}: write it as hf:OWNER/NAME or hf:OWNER/NAME@REVISION, "hf:timm/resnet50.tv_in1k"')
    path = weights.fetch(source, match[1], match[2], "config.json")
    config = weights.parse_json(Path(source), path.read_text(encoding="utf-8"))
    if not config.get("architecture"):
        raise UserError(f"{source}: its config.json is not one of timm's (it has no architecture)")
    name = name or _architecture(source, str(config["architecture"]))
    return _from_timm(source, name, config, weights.fetch(source, match[1], match[2], "model.safetensors"))


def _architecture(source: str, architecture: str) -> str:
    """The model of this name: in timm's flavour, or else in torchvision's."""
    for name in (f"timm/{architecture}", f"torchvision/{architecture}", architecture):
        try:
            find(name)
        except UserError:
            continue
        return name
    hint = did_you_mean(f"timm/{architecture}", list_models()) or did_you_mean(architecture, list_models())
    raise UserError(f'{source}: no model "{architecture}" here{hint}')
