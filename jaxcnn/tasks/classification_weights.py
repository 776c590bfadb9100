"""Weights that a classifier starts from: the setting model.pretrained."""

from collections.abc import Callable

from jaxcnn.data.fields import LabelKind
from jaxcnn.errors import UserError
from jaxcnn.pretrained import (
    class_difference,
    find_pretrained,
    fit,
    head_order,
    known_differences,
    other_preprocessing,
    stated_names,
    stem_channels,
)
from jaxcnn.tasks.losses import num_outputs
from jaxcnn.tasks.task import Setup, Variables


def starting_variables(setup: Setup, kind: LabelKind, say: Callable[[str], None], *, new_head: bool) -> Variables:
    """The weights in model.pretrained for the network of the settings `model.*`, with a fresh head for other classes.

    `say` is called with lines that tell what was changed.

    Raises:
      UserError: no such weights; weights of another network, number of channels, or, unless `new_head`, other classes.
    """
    config, arguments, channels = setup.config.model, setup.model_arguments, setup.preprocessing.input_shape[2]
    origin = find_pretrained(config.pretrained, config.name, say=say)
    variables, its_outputs = origin.variables(**arguments)
    outputs, its_channels = num_outputs(kind, len(setup.class_names)), stem_channels(origin, variables)
    if its_outputs != outputs and not new_head:
        raise UserError(f"model.pretrained: {config.pretrained} has {its_outputs} classes, but the data set has {outputs}")
    names = stated_names(setup.config.data.name, setup.class_names)
    kept = head_order(origin, its_outputs, outputs, names) is not None
    if not kept and not new_head:
        difference = class_difference(origin.named(its_outputs), names)
        raise UserError(f"model.pretrained: {config.pretrained} has other classes than the data set: {difference}")
    if its_channels != channels and not config.adapt_stem:
        change_data = (
            f"--config.data.channels={its_channels} changes the images, " if {its_channels, channels} == {1, 3} else ""
        )
        raise UserError(
            f"model.pretrained: {config.pretrained} is for images of {its_channels} channels, but these have {channels}; "
            f"{change_data}--config.model.adapt_stem=True adapts its first convolution"
        )
    variables, changes = fit(origin, variables, its_outputs, outputs, setup.preprocessing.input_shape, names, **arguments)
    changes += known_differences(origin, kind, arguments, its_outputs, names) if kept else []
    measured = not (setup.config.data.mean or setup.config.data.std)
    if measured:
        mean, std = (", ".join(f"{v:.3g}" for v in values) for values in (setup.preprocessing.mean, setup.preprocessing.std))
        changes.append(f"pixels as it takes them, mean {mean}, std {std}")
    changes += other_preprocessing(origin, setup.preprocessing)
    say(f"starts from {origin}" + "".join(f"; {change}" for change in changes))
    if measured and origin.assumed:
        say(f"assumed: {origin.assumed}; --config.data.mean and --config.data.std change it")
    return {"batch_stats": {}, **variables}
