"""Initial weights of a classifier from the setting model.pretrained."""

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
    """Returns the weights in model.pretrained for the network of the settings `model.*`, with a new head for other classes.

    `say` is called with lines that describe the weights and how they were changed.

    Raises:
      UserError: the weights do not exist, or are for another network or number of channels, or are for other classes and
        `new_head` is False.
    """
    config, arguments, channels = setup.config.model, setup.model_arguments, setup.preprocessing.input_shape[2]
    origin = find_pretrained(config.pretrained, config.name, say=say)
    variables, old_outputs = origin.variables(**arguments)
    outputs, old_channels = num_outputs(kind, len(setup.class_names)), stem_channels(origin, variables)
    if old_outputs != outputs and not new_head:
        raise UserError(f"model.pretrained: {config.pretrained} has {old_outputs} classes, but the data set has {outputs}")
    names = stated_names(setup.config.data.name, setup.class_names)
    keeps_head = head_order(origin, old_outputs, outputs, names) is not None
    if not keeps_head and not new_head:
        difference = class_difference(origin.named(old_outputs), names)
        raise UserError(f"model.pretrained: {config.pretrained} has other classes than the data set: {difference}")
    if old_channels != channels and not config.adapt_stem:
        change_data = (
            f"--config.data.channels={old_channels} changes the images, " if {old_channels, channels} == {1, 3} else ""
        )
        raise UserError(
            f"model.pretrained: {config.pretrained} is for images of {old_channels} channels, but these have {channels}; "
            f"{change_data}--config.model.adapt_stem=True adapts its first convolution"
        )
    variables, changes = fit(origin, variables, old_outputs, outputs, setup.preprocessing.input_shape, names, **arguments)
    changes += known_differences(origin, kind, arguments, old_outputs, names) if keeps_head else []
    measured = not (setup.config.data.mean or setup.config.data.std)
    if measured:
        mean, std = (", ".join(f"{v:.3g}" for v in values) for values in (setup.preprocessing.mean, setup.preprocessing.std))
        changes.append(f"pixels normalized as it expects, mean {mean}, std {std}")
    changes += other_preprocessing(origin, setup.preprocessing)
    say(f"starts from {origin}" + "".join(f"; {change}" for change in changes))
    if measured and origin.assumed:
        say(f"assumed: {origin.assumed}; --config.data.mean and --config.data.std change it")
    return {"batch_stats": {}, **variables}
