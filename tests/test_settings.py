"""Validation of values against type hints, as used for settings and for arguments of models and operations."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from msgspec import Meta

import jaxcnn
from jaxcnn.data.settings import DataSettings
from jaxcnn.durations import Duration
from jaxcnn.errors import UserError
from jaxcnn.settings import Count, LowHigh, NotNegative, Section, Setting, Share, checked, declarations, flatten, with_changes

Pair = Annotated[tuple[Share, Share], LowHigh()]
Size = Count | tuple[Count, Count]


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, 3),
        (3, float, 3.0),
        (np.int64(3), int, 3),
        (np.float32(0.5), float, 0.5),
        (np.float64(2), NotNegative, 2.0),
        ([1, [2, 3]], tuple[Any, ...], (1, (2, 3))),
        ([0, 1], Pair, (0.0, 1.0)),
        (5, Size, 5),
        ([5, 6], Size, (5, 6)),
        (((1, 2), 3), tuple[Size, ...], ((1, 2), 3)),
        ((), tuple[float, float] | tuple[()], ()),
        ({"a": [1, {"b": [2]}]}, dict[str, Any], {"a": (1, {"b": (2,)})}),
        ("sgd", Literal["sgd", "adam"], "sgd"),
        (math.inf, Any, math.inf),
    ],
)
def test_valid_value_is_converted_to_the_type_of_the_annotation(value, hint, expected):
    found = checked("it", value, hint)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        (3.5, int, "expected an int, got 3.5"),
        (True, int, "expected an int, got True"),
        (1, bool, "expected True or False, got 1"),
        ("3", int, "expected an int, got '3'"),
        (None, str, "expected a string, got None"),
        ({1}, tuple[int, ...], "expected a list, each item an int, got {1}"),
        ((1, {2}), tuple[Any, ...], "expected a list, got (1, {2})"),
        (math.nan, float, "expected a finite number, got nan"),
        (math.inf, NotNegative, "expected a finite number of at least 0, got inf"),
        ((0.5, math.nan), tuple[float, ...], "expected a list, each item a finite number, got (0.5, nan)"),
        (10**400, float, f"expected a finite number, got {10**400}"),
        (-1, Annotated[float, Meta(gt=-1, lt=2)], "expected a finite number above -1 and below 2, got -1"),
        ((0.5, 0.25), Pair, "expected (low, high), each a finite number from 0 to 1, got (0.5, 0.25)"),
        ((0.5,), Pair, "expected (low, high), each a finite number from 0 to 1, got (0.5,)"),
        ((5, 0), Size, "expected an int of at least 1 or (an int of at least 1, an int of at least 1), got (5, 0)"),
        ("sgdd", Literal["sgd", "adam"], "expected one of sgd, adam; got 'sgdd' (did you mean \"sgd\"?)"),
        ("10", Duration, "expected a duration such as 5000steps, 10epochs or 1_000_000examples, got '10'"),
    ],
)
def test_invalid_value_is_refused_with_what_was_expected(value, hint, message):
    with pytest.raises(UserError) as mistake:
        checked("a.b", value, hint)
    assert str(mistake.value) == f"a.b: {message}"


@dataclasses.dataclass(frozen=True)
class Inner(Section, section="inner"):
    width: Annotated[Count, Setting("how wide")] = 3


@dataclasses.dataclass(frozen=True)
class Outer(Section):
    inner: Inner = dataclasses.field(default_factory=Inner)
    ratios: Annotated[tuple[float, ...], Setting("of what", changes_result=False)] = ()


def test_section_is_checked_when_it_is_created_and_when_it_is_changed():
    with pytest.raises(UserError, match=r"^inner\.width: expected an int of at least 1, got 0$"):
        Inner(width=0)
    with pytest.raises(UserError, match=r"^inner\.width: expected"):
        dataclasses.replace(Inner(), width=0.5)
    with pytest.raises(UserError, match=r"^ratios: expected"):
        with_changes(Outer(), {"ratios": 1})
    with pytest.raises(UserError, match=r"no setting 'inner\.widht' .did you mean \"inner.width\""):
        with_changes(Outer(), {"inner.widht": 1})
    with pytest.raises(dataclasses.FrozenInstanceError):
        Inner().width = 5


def test_unvalidated_config_in_place_of_a_section_is_refused():
    with pytest.raises(TypeError, match=r"expected settings such as jaxcnn.config.validate.config..data, got a ConfigDict"):
        jaxcnn.data.load(jaxcnn.config.default_config().data, seed=0)


def test_names_contain_the_section():
    changed = with_changes(Outer(), {"inner.width": 5, "ratios": [1]})
    assert changed == Outer(Inner(5), (1.0,))
    assert flatten(changed) == {"inner.width": 5, "ratios": (1.0,)}
    assert [(e.name, e.default, e.about.meaning, e.about.changes_result) for e in declarations(Outer).values()] == [
        ("inner.width", 3, "how wide", True), ("ratios", (), "of what", False),
    ]  # fmt: skip


def test_square_size_is_one_number():
    assert DataSettings(image_size=(64, 64)) == DataSettings(image_size=64)
    assert DataSettings(image_size=(64, 48)).image_size == (64, 48)


# ── Packages that import lazily ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["data", "evaluate", "models", "tasks", "train", ""])
def test_every_name_of_a_package_can_be_used_and_completed(name):
    package = getattr(jaxcnn, name) if name else jaxcnn
    assert package.__all__
    for exported in package.__all__:
        assert getattr(package, exported) is not None
    assert {*package.__all__} <= {*dir(package)}
    with pytest.raises(AttributeError, match="attribute laod"):
        package.laod  # noqa: B018


def test_functions_are_not_hidden_by_modules_of_the_same_name():
    for package in (jaxcnn.data, jaxcnn.evaluate, jaxcnn.models, jaxcnn.tasks, jaxcnn.train):
        modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
        assert modules.isdisjoint(package.__all__), package
