"""What a run says of itself before the first step."""

from jaxcnn.train.experiment import Experiment
from jaxcnn.train.state import TrainState, count_parameters


def introduction(experiment: Experiment, state: TrainState, convolutions: str) -> list[str]:
    """Lines: the network, the data, the devices; and how the data were understood."""
    config, dataset, step = experiment.config, experiment.dataset, int(state.step)
    device = experiment.mesh.devices.flat[0]
    sizes = ", ".join(f"{len(source):,} {part}" for part, source in dataset.parts().items())
    what = (
        f"{_networks(experiment)}, {count_parameters(state.variables['params']):,} parameters, on {config.data.name} "
        f"({sizes}), {experiment.total_steps:,} steps of {config.batch_size} on {experiment.mesh.size} × {device.device_kind}"
        + (f", convolutions by {convolutions}" if convolutions else "")
        + (f"; resumed at step {step:,}" if step else "")
    )
    names, seen = dataset.class_names, experiment.preprocessing
    height, width, channels = seen.image_shape
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (seen.mean, seen.std))
    images = (
        f"{len(names)} classes: {', '.join(names[:10])}{', …' if names[10:] else ''}; images of {height}×{width} pixels"
        + (f", resized to {seen.size[0]}×{seen.size[1]}," if seen.size != (height, width) else "")
        + f" with {channels} channel{'s' if channels > 1 else ''}, mean {mean}, standard deviation {std}"
    )
    return [what, images, *dataset.notes]


def _networks(experiment: Experiment) -> str:
    """What is trained, by name."""
    config, task = experiment.config, experiment.task
    model = [config.model.name] if task.takes_model else [name for name in task.networks() if name]
    return ", ".join(([] if config.task.name == "classification" else [config.task.name]) + model)
