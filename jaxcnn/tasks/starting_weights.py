"""Initial weights of a network from the setting model.pretrained."""

from collections.abc import Callable

from jaxcnn.errors import UserError
from jaxcnn.pretrained import (
    Pretrained,
    TaskKind,
    as_encoder,
    class_difference,
    find_start,
    fit,
    head_order,
    known_differences,
    other_preprocessing,
    outputs_of,
    stated_names,
    stem_channels,
)
from jaxcnn.tasks.task import Setup, Variables


def starting_variables(setup: Setup, kind: TaskKind, say: Callable[[str], None], *, new_head: bool) -> Variables:
    """Returns the weights in model.pretrained for the network of the settings `model.*`, with a new head for other classes.

    If they are weights of the classifier that is the network's encoder, all other layers are newly initialized. `say` is called
    with lines that describe the weights and how they were changed.

    Raises:
      UserError: the weights do not exist, or are for another network or number of channels, or are for other classes or the
        encoder alone and `new_head` is False.
    """
    config, arguments = setup.config.model, setup.model_arguments
    origin = find_start(config.pretrained, config.name, arguments, say=say)
    start = _network if origin.name == config.name else _encoder
    variables, changes = start(setup, origin, kind, new_head=new_head)
    measured = not (setup.config.data.mean or setup.config.data.std)
    if measured:
        mean, std = (", ".join(f"{v:.3g}" for v in values) for values in (setup.preprocessing.mean, setup.preprocessing.std))
        changes.append(f"pixels normalized as it expects, mean {mean}, std {std}")
    if origin.name == config.name:
        changes += other_preprocessing(origin, setup.preprocessing)
    say(f"starts from {origin}" + "".join(f"; {change}" for change in changes))
    if measured and origin.assumed:
        say(f"assumed: {origin.assumed}; --config.data.mean and --config.data.std change it")
    return {"batch_stats": {}, **variables}


def _network(setup: Setup, origin: Pretrained, kind: TaskKind, *, new_head: bool) -> tuple[Variables, list[str]]:
    """Returns the variables from weights of the same network, and a description of each change."""
    source, arguments = setup.config.model.pretrained, setup.model_arguments
    variables, old_outputs = origin.variables(**arguments)
    outputs = outputs_of(kind, setup.class_names)
    if old_outputs != outputs and not new_head:
        raise UserError(f"model.pretrained: {source} has {old_outputs} classes, but the data set has {outputs}")
    names = stated_names(setup.config.data.name, setup.class_names)
    keeps_head = head_order(origin, old_outputs, outputs, names) is not None
    if not keeps_head and not new_head:
        difference = class_difference(origin.named(old_outputs), names)
        raise UserError(f"model.pretrained: {source} has other classes than the data set: {difference}")
    _check_channels(setup, origin, variables)
    shape, seed = setup.preprocessing.input_shape, setup.config.seed
    variables, changes = fit(origin, variables, old_outputs, outputs, shape, names, seed=seed, **arguments)
    return variables, changes + (known_differences(origin, kind, arguments, old_outputs, names) if keeps_head else [])


def _encoder(setup: Setup, origin: Pretrained, kind: TaskKind, *, new_head: bool) -> tuple[Variables, list[str]]:
    """Returns the variables from weights of the network's encoder, and a description of each change."""
    config = setup.config.model
    if not new_head:
        raise UserError(
            f"model.pretrained: {config.pretrained} has weights of {origin.name}, the encoder of {config.name}; expected those "
            "of the entire network"
        )
    try:
        variables, _ = origin.variables(**(origin.arguments or {}))
    except UserError as error:
        raise UserError(f"model.pretrained: the encoder of {config.name} is {origin.name}; {error}") from error
    _check_channels(setup, origin, variables)
    outputs, shape = outputs_of(kind, setup.class_names), setup.preprocessing.input_shape
    return as_encoder(origin, variables, config.name, outputs, shape, seed=setup.config.seed, **setup.model_arguments)


def _check_channels(setup: Setup, origin: Pretrained, variables: Variables) -> None:
    """Raises UserError if the weights are for images of another number of channels and model.adapt_stem is not set."""
    old_channels, channels = stem_channels(origin, variables), setup.preprocessing.input_shape[2]
    if old_channels != channels and not setup.config.model.adapt_stem:
        change_data = (
            f"--config.data.channels={old_channels} changes the images, " if {old_channels, channels} == {1, 3} else ""
        )
        raise UserError(
            f"model.pretrained: {setup.config.model.pretrained} is for images of {old_channels} channels, but these have "
            f"{channels}; {change_data}--config.model.adapt_stem=True adapts its first convolution"
        )
