"""docs/models.md and the papers in it."""

import re
import sys
from pathlib import Path

import pytest

from jaxcnn.models import list_models

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "experiments"))
from list_models import paper  # noqa: E402

PAGE = dict(
    re.findall(r"^\| `(\S+)` \|.*\| (.*) \|[^|]*\|$", (ROOT / "docs/models.md").read_text(encoding="utf-8"), re.MULTILINE)
)
SOURCES = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "jaxcnn/models").glob("*.py"))


@pytest.mark.parametrize("name", list_models())
def test_page_has_the_paper_that_the_code_names(name):
    assert PAGE[name] == paper(name)
    author_or_number = re.search(r"\d{4}\.\d{4,5}|^\w+", paper(name))[0]
    assert author_or_number in SOURCES


def test_page_has_no_other_networks():
    assert sorted(PAGE) == list_models()


@pytest.mark.parametrize(
    ("name", "found"),
    [("mnasnet0_5", "1807.11626"), ("keras/NASNetLarge", "1707.07012"), ("timm/seresnext50_32x4d", "1709.01507"),
     ("timm/tf_efficientnetv2_s", "2104.00298"), ("timm/tf_efficientnet_b0", "1905.11946"), ("wrn_28_10", "1605.07146"),
     ("resnext29_8x64d", "1611.05431"), ("timm/resnetv2_50x1_bit", "1912.11370"), ("keras/ResNet50V2", "1603.05027"),
     ("keras/ResNet50", "1512.03385"), ("timm/resnet18d", "1812.01187"), ("alexnet_2012", "Krizhevsky"), ("lenet1", "1989")],
)  # fmt: skip
def test_paper_is_of_the_network_and_not_of_its_neighbour(name, found):
    assert found in paper(name)
