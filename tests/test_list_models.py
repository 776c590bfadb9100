"""docs/models.md and the papers in it."""

import ast
import re
from pathlib import Path

import pytest

from jaxcnn.models import list_models
from jaxcnn.models.registry import find

ROOT = Path(__file__).parents[1]
PAGE = dict(
    re.findall(r"^\| `(\S+)` \|.*\| (.*) \|[^|]*\|$", (ROOT / "docs/models.md").read_text(encoding="utf-8"), re.MULTILINE)
)
FAMILIES = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "jaxcnn/models").glob("*.py")]
DOCSTRINGS = " ".join(ast.get_docstring(family) or "" for family in FAMILIES)


@pytest.mark.parametrize("name", list_models())
def test_page_has_the_paper_that_the_family_s_docstring_names(name):
    paper = find(name).paper
    assert paper in PAGE[name]
    assert re.search(r"arXiv:\d{4}\.\d{4,5}$|^\w+", paper)[0] in DOCSTRINGS


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
    assert found in find(name).paper


@pytest.mark.parametrize(("name", "year"), [("resnet50", 2015), ("alexnet", 2014), ("alexnet_2012", 2012), ("lenet1", 1989)])
def test_year_is_that_of_the_paper_s_first_publication(name, year):
    assert find(name).year == year
