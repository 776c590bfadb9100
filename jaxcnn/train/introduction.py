"""The lines that a run prints before the first step."""

from jaxcnn.train.experiment import Experiment
from jaxcnn.train.state import TrainState, count_parameters


def introduction(experiment: Experiment, state: TrainState, convolutions: str) -> list[str]:
    """Returns lines that describe the network, the data set, the devices, and how the data are interpreted."""
    config, dataset, step = experiment.config, experiment.dataset, int(state.step)
    device = experiment.mesh.devices.flat[0]
    sizes = ", ".join(f"{len(source):,} {part}" for part, source in dataset.parts().items())
    overview = (
        f"{_networks(experiment)} ({count_parameters(state.variables['params']):,} parameters) on {config.data.name} ({sizes} "
        f"examples): {experiment.total_steps:,} steps, batch size {config.batch_size}, {experiment.mesh.size} × "
        f"{device.device_kind}"
        + (f", convolutions by {convolutions}" if convolutions else "")
        + (f"; resumed at step {step:,}" if step else "")
    )
    names, preprocessing = dataset.class_names, experiment.preprocessing
    height, width, channels = preprocessing.image_shape
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    resized = preprocessing.size != (height, width)
    images = (
        f"{len(names)} classes: {', '.join(names[:10])}{', …' if names[10:] else ''}; images of {height}×{width} pixels"
        + (f", resized to {preprocessing.size[0]}×{preprocessing.size[1]}," if resized else "")
        + f" with {channels} channel{'s' if channels > 1 else ''}, mean {mean}, standard deviation {std}"
    )
    return [overview, images, *dataset.notes]


def _networks(experiment: Experiment) -> str:
    """Returns the names of the task (unless it is classification) and of its networks."""
    config, task = experiment.config, experiment.task
    model = [config.model.name] if task.takes_model else [name for name in task.networks() if name]
    return ", ".join(([] if config.task.name == "classification" else [config.task.name]) + model)
