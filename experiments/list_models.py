"""All architectures: python experiments/list_models.py ["resnet*" …] [--out=docs/models.md].

Prints a table: name, parameters, multiply-accumulates and input size of the default form, the paper, and whose weights it
takes. All of them take some minutes (every network is traced, none is compiled).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxcnn import command
from jaxcnn.config import Config
from jaxcnn.errors import UserError, did_you_mean

_OUT = flags.DEFINE_string("out", None, "a file for the table, in Markdown")
_HEAD = """# Models

`jaxcnn.create_model(name, num_classes=…)`. This page is made by `python experiments/list_models.py --out=docs/models.md`.
MACs: multiply-accumulates of convolutions and matrix products, for one image of the size beside. Weights: the libraries whose
state dicts `jaxcnn.weights.convert` takes, under the names that they give the layers.

"""


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Prints the table, a line as soon as it is known."""
    if config is not None:
        raise UserError("list_models.py takes patterns of names, and no config")
    if _OUT.value and not Path(_OUT.value).absolute().parent.is_dir():
        raise UserError(f'--out: no folder "{Path(_OUT.value).parent}" to write into')

    from jaxcnn.models import list_models

    names = list(dict.fromkeys(name for pattern in arguments or ["*"] for name in list_models(pattern)))
    if not names:
        raise UserError(f"no model matches {' '.join(arguments)}{did_you_mean(arguments[0], list_models())}")
    lines = ["| name | parameters | MACs | size | paper | weights |", "|---|---|---|---|---|---|"]
    print("\n".join(lines))
    for name in names:
        lines.append(row(name))
        print(lines[-1], flush=True)
    if _OUT.value:
        Path(_OUT.value).write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def row(name: str) -> str:
    """A line of the table."""
    from jaxcnn.models import create_model
    from jaxcnn.models.cost import cost
    from jaxcnn.models.registry import find
    from jaxcnn.weights.names import TABLES

    variant = find(name)
    size = variant.image_size
    parameters, macs = cost(create_model(name), (size, size, 3))
    millions = f"{macs / 1e6:,.0f}" if macs >= 1e7 else f"{macs / 1e6:.2g}"
    weights = (variant.library or "yes") if (variant.module, variant.library) in TABLES else ""
    paper = re.sub(r"^arXiv:(.*)", r"[\g<0>](https://arxiv.org/abs/\1)", variant.paper)
    return f"| `{name}` | {parameters:,} | {millions} M | {size} | {paper} | {weights} |"


if __name__ == "__main__":
    command.run(main)
