"""docs/models.md and its content: costs, papers and weights of all networks."""

import ast
import csv
import functools
import re
import sys
from pathlib import Path

import pytest
from common.kinds import KINDS

from jaxcnn.models import list_models, listing
from jaxcnn.models.listing import COSTS, costs
from jaxcnn.models.registry import find

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "experiments"))
import list_models as command  # noqa: E402
from list_models import PAGE, counted, page, weights_of  # noqa: E402

FAMILIES = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "jaxcnn/models").rglob("*.py")]
DOCSTRINGS = " ".join(ast.get_docstring(family) or "" for family in FAMILIES)
ALL = [*list_models(), *list_models(task="segmentation")]
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


def test_page_is_what_its_command_writes():
    assert PAGE.read_text(encoding="utf-8") == page()


def test_update_writes_both_files(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "counted", costs)  # counting takes minutes
    monkeypatch.setattr(command, "PAGE", tmp_path / "models.md")
    monkeypatch.setattr(listing, "COSTS", tmp_path / "costs.csv")
    command._update()
    assert (tmp_path / "models.md").read_bytes() == PAGE.read_bytes()
    assert (tmp_path / "costs.csv").read_bytes() == COSTS.read_bytes()


def test_costs_are_of_all_networks_and_no_others():
    names = [line["name"] for line in csv.DictReader(COSTS.read_text(encoding="utf-8").splitlines())]
    assert names == ALL


@pytest.mark.parametrize("name", [name if name in KINDS else slow(name) for name in ALL])
def test_costs_are_those_of_the_network(name):
    assert costs(name) == counted(name)


@pytest.mark.parametrize("name", ALL)
def test_weights_are_those_that_are_converted(name):
    assert costs(name).weights == weights_of(name)


@pytest.mark.parametrize("name", ALL)
def test_paper_is_one_that_a_family_s_docstring_names(name):
    assert re.search(r"arXiv:\d{4}\.\d{4,5}$|^\w+", find(name).paper)[0] in DOCSTRINGS


@pytest.mark.parametrize(
    ("name", "found"),
    [("mnasnet0_5", "1807.11626"), ("keras/NASNetLarge", "1707.07012"), ("timm/seresnext50_32x4d", "1709.01507"),
     ("timm/tf_efficientnetv2_s", "2104.00298"), ("timm/tf_efficientnet_b0", "1905.11946"), ("wrn_28_10", "1605.07146"),
     ("resnext29_8x64d", "1611.05431"), ("timm/resnetv2_50x1_bit", "1912.11370"), ("keras/ResNet50V2", "1603.05027"),
     ("keras/ResNet50", "1512.03385"), ("timm/resnet18d", "1812.01187"), ("alexnet_2012", "Krizhevsky"), ("lenet1", "1989")],
)  # fmt: skip
def test_paper_is_of_the_network_and_not_of_its_neighbor(name, found):
    assert found in find(name).paper


@pytest.mark.parametrize(("name", "year"), [("resnet50", 2015), ("alexnet", 2014), ("alexnet_2012", 2012), ("lenet1", 1989)])
def test_year_is_that_of_the_paper_s_first_publication(name, year):
    assert find(name).year == year
