"""All architectures: python experiments/list_models.py ["resnet*" …] [--out=docs/models.md].

Prints a table: name, parameters, multiply-accumulates and input size of the default form, the paper, and whose weights it
takes. All of them take some minutes (every network is traced, none is compiled).
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatch
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
PAPERS = {  # the first pattern that fits
    "airbench94": "2404.00498",
    "alexnet": "1404.5997",
    "alexnet_2012": "Krizhevsky et al. 2012",
    "all_cnn_*": "1412.6806",
    "cbam_*": "1807.06521",
    "*convnextv2_*": "2301.00808",
    "*convnext*": "2201.03545",
    "*densenet*": "1608.06993",
    "*efficientnet*v2*": "2104.00298",
    "*efficientnet*": "1905.11946",
    "*fbnetc_*": "1812.03443",
    "fractalnet*": "1605.07648",
    "googlenet": "1409.4842",
    "highway*": "1507.06228",
    "inception_bn": "1502.03167",
    "*inception*v3": "1512.00567",
    "*inception*": "1602.07261",
    "*lcnet_*": "2109.15099",
    "lenet1": "LeCun et al. 1989",
    "lenet*": "LeCun et al. 1998",
    "*mixnet_*": "1907.09595",
    "*mnasnet*": "1807.11626",
    "*mobilenet*v4*": "2404.10518",
    "*mobilenet*v3*": "1905.02244",
    "*mobilenet*v2*": "1801.04381",
    "*mobilenet*": "1704.04861",
    "*dm_nfnet_*": "2102.06171",
    "*nasnet*": "1707.07012",
    "*nf_resnet*": "2101.08692",
    "nin": "1312.4400",
    "*regnet*": "2003.13678",
    "*repvgg_*": "2101.03697",
    "*seresne*": "1709.01507",
    "*ecaresnet*": "1910.03151",
    "*resnetblur*": "1904.11486",
    "*resnetv2_*_bit": "1912.11370",
    "*resnet*v2*": "1603.05027",
    "preact_resnet*": "1603.05027",
    "*/resnet*d": "1812.01187",
    "*resnext*": "1611.05431",
    "wide_resnet*": "1605.07146",
    "wrn_*": "1605.07146",
    "*resnet*": "1512.03385",
    "shufflenet_v1_*": "1707.01083",
    "shufflenet_v2_*": "1807.11164",
    "squeezenet*": "1602.07360",
    "*tinynet_*": "2010.14819",
    "*vgg*": "1409.1556",
    "timm/xception*": "1802.02611",
    "*xception*": "1610.02357",
}


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
    from jaxcnn.models.registry import find, image_size
    from jaxcnn.weights.names import TABLES

    variant = find(name)
    size = image_size(name)
    parameters, macs = cost(create_model(name), (size, size, 3))
    millions = f"{macs / 1e6:,.0f}" if macs >= 1e7 else f"{macs / 1e6:.2g}"
    weights = (variant.library or "yes") if (variant.module, variant.library) in TABLES else ""
    return f"| `{name}` | {parameters:,} | {millions} M | {size} | {paper(name)} | {weights} |"


def paper(name: str) -> str:
    """The paper that first described the network, as a link where it is at arXiv."""
    found = next((papers for pattern, papers in PAPERS.items() if fnmatch(name.lower(), pattern)), "")
    return re.sub(r"\d{4}\.\d{4,5}", lambda number: f"[arXiv:{number[0]}](https://arxiv.org/abs/{number[0]})", found)


if __name__ == "__main__":
    command.run(main)
