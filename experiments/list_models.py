"""Lists architectures: python experiments/list_models.py ["resnet*" …] [--max_parameters=5e6] [--since=2018] [--weights=timm].

Prints a table with name, parameters, multiply-accumulates and input size of the default variant, the paper with its year, and
the library whose weights it accepts. --update counts them again and writes docs/models.md and jaxcnn/models/costs.csv, which
takes some minutes because every network is traced (none is compiled).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from jaxcnn import command
from jaxcnn.config import Config
from jaxcnn.errors import UserError, did_you_mean

_TASKS = ("classification", "segmentation")
_MAX_PARAMETERS = flags.DEFINE_float("max_parameters", None, "only networks with at most this number of parameters")
_MAX_MACS = flags.DEFINE_float("max_macs", None, "only networks with at most this number of multiply-accumulates per image")
_SINCE = flags.DEFINE_integer("since", None, "only networks whose paper was first published in this year or later")
_TASK = flags.DEFINE_enum("task", "classification", _TASKS, "the task of the networks")
_WEIGHTS = flags.DEFINE_string("weights", None, "only networks that accept weights of torchvision, keras, timm, other, or any")
_UPDATE = flags.DEFINE_bool("update", False, "count all networks again and write docs/models.md and jaxcnn/models/costs.csv")
PAGE = Path(__file__).parents[1] / "docs/models.md"
_HEAD = """# Models

`jaxcnn.create_model(name, num_classes=…)` creates a network. `python experiments/list_models.py --update` generates this page.

- MACs: multiply-accumulates of convolutions and matrix products, for one image of the listed size.
- Year: of the paper's first publication.
- Weights: the library whose weights the network accepts ([pretrained weights](pretrained.md)); "other": weights of another
  publisher, see `jaxcnn/weights/names/`.

"""


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Prints the table of the networks that match the patterns and limits, or writes it for all networks."""
    if config is not None:
        raise UserError("list_models.py accepts patterns of names, but no --config")
    limits: dict[str, Any] = {
        "task": _TASK.value,
        "max_parameters": _MAX_PARAMETERS.value,
        "max_macs": _MAX_MACS.value,
        "since": _SINCE.value,
        "weights": _WEIGHTS.value,
    }
    from jaxcnn.models import list_models

    if _UPDATE.value:
        if arguments or any(limit is not None for name, limit in limits.items() if name != "task"):
            raise UserError("--update counts all networks and accepts no patterns or limits")
        _update()
        return
    for pattern in arguments:
        if not list_models(pattern, task=_TASK.value):
            similar = did_you_mean(pattern, list_models(task=_TASK.value))
            raise UserError(f"no model for {_TASK.value} matches {pattern}{similar}")
    names = list(dict.fromkeys(name for pattern in arguments or ["*"] for name in list_models(pattern, **limits)))
    if not names:
        raise UserError("no model is within these limits")
    print(table(names), end="")


def page() -> str:
    """Returns the content of docs/models.md."""
    from jaxcnn.models import list_models

    tables = (
        "## Image classification",
        table(list_models()),
        "## Semantic segmentation",
        table(list_models(task="segmentation")),
    )
    return _HEAD + "\n\n".join(part.rstrip("\n") for part in tables) + "\n"


def table(names: Sequence[str]) -> str:
    """Returns the table of some networks in Markdown."""
    lines = ["| name | parameters | MACs | size | paper | year | weights |", "|---|---|---|---|---|---|---|", *map(_row, names)]
    return "\n".join(lines) + "\n"


def _row(name: str) -> str:
    from jaxcnn.models.listing import costs
    from jaxcnn.models.registry import find

    variant = find(name)
    _, parameters, macs, weights = costs(name)
    millions = f"{macs / 1e6:,.0f}" if macs >= 1e7 else f"{macs / 1e6:.2g}"
    paper = re.sub(r"^arXiv:(.*)", r"[\g<0>](https://arxiv.org/abs/\1)", variant.paper)
    return f"| `{name}` | {parameters:,} | {millions} M | {variant.image_size} | {paper} | {variant.year} | {weights} |"


def _update() -> None:
    from jaxcnn.models import list_models
    from jaxcnn.models.listing import Costs, write_costs

    lines = []
    for name in (name for task in _TASKS for name in list_models(task=task)):
        lines.append(Costs(*counted(name)))
        print(*lines[-1], flush=True)
    write_costs(lines)
    PAGE.write_text(page(), encoding="utf-8")


def counted(name: str) -> tuple[str, int, int, str]:
    """Counts the costs of a network. Returns its line of costs.csv."""
    from jaxcnn.models import create_model
    from jaxcnn.models.cost import cost
    from jaxcnn.models.registry import find

    size = find(name).image_size
    return name, *cost(create_model(name), (size, size, 3)), weights_of(name)


def weights_of(name: str) -> str:
    """Returns the library whose weights a model accepts, "other", or "" if there are none, as in costs.csv."""
    from jaxcnn import weights

    try:
        return weights.library(name) or "other"
    except UserError:  # no weights to convert
        return ""


if __name__ == "__main__":
    command.run(main)
