import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.child_processes import run
from common.html_page import Page

from jaxcnn.config import Config, changed, declarations, describe, flatten
from jaxcnn.report import as_text, figures, network_section, summarize, write_report
from jaxcnn.report.model_summary import Layer, total_counts
from jaxcnn.tasks.classification import Classification
from jaxcnn.tasks.classification_sections import sections


class ScaledBlock(nn.Module):
    """A block with a parameter in addition to those of its submodules."""

    filters: int

    @nn.compact
    def __call__(self, x, *, train):
        scale = self.param("scale", nn.initializers.ones, (self.filters,))
        x = nn.Conv(self.filters, (3, 3), strides=2)(x)
        return nn.relu(nn.BatchNorm(use_running_average=not train)(x)) * scale.reshape(1, 1, 1, -1)


class Stage(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = ScaledBlock(8)(x, train=train)
        return ScaledBlock(16)(x, train=train)


class Network(nn.Module):
    def setup(self):
        self.stage = Stage()
        self.shared = nn.Dense(16)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Dense(10)

    def __call__(self, images, *, train):
        x = self.features(images, train=train)
        x = self.shared(self.shared(x))
        return self.head(self.dropout(x, deterministic=not train))

    def features(self, images, *, train):
        return self.stage(images, train=train).mean(axis=(1, 2))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_rows_of_the_summary_add_up_to_the_initial_variables():
    layers = summarize(Network(), (9, 12, 3))
    variables = Network().init(jax.random.key(0), jnp.zeros((2, 9, 12, 3)), train=False)
    assert sum(layer.parameters for layer in layers) == count(variables["params"])
    assert sum(layer.statistics for layer in layers) == count(variables["batch_stats"])


def test_summary_has_the_layers_in_call_order_with_their_shapes():
    # convolutions: 3·3·in·out + out; norms: scale, bias and as many statistics; dense layers: in·out + out
    assert summarize(Network(), (9, 12, 3)) == [
        Layer("stage/ScaledBlock_0", "ScaledBlock", (None, 5, 6, 8), 8, 0),
        Layer("stage/ScaledBlock_0/Conv_0", "Conv", (None, 5, 6, 8), 224, 0),
        Layer("stage/ScaledBlock_0/BatchNorm_0", "BatchNorm", (None, 5, 6, 8), 16, 16),
        Layer("stage/ScaledBlock_1", "ScaledBlock", (None, 3, 3, 16), 16, 0),
        Layer("stage/ScaledBlock_1/Conv_0", "Conv", (None, 3, 3, 16), 1168, 0),
        Layer("stage/ScaledBlock_1/BatchNorm_0", "BatchNorm", (None, 3, 3, 16), 32, 32),
        Layer("shared", "Dense", (None, 16), 272, 0),
        Layer("dropout", "Dropout", (None, 16), 0, 0),
        Layer("head", "Dense", (None, 10), 170, 0),
    ]


class Rescaled(nn.Module):
    @nn.compact
    def __call__(self, x):
        return ScaledBlock(8)(x, train=False)


class Lifted(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        def body(block, x, _):
            return block(x), None

        x = nn.remat(Rescaled)()(images)
        repeated = nn.scan(body, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = repeated(nn.Dense(8), x, None)
        return nn.Sequential([nn.Dense(5), nn.relu])(x)


def test_summary_loses_no_parameters_of_lifted_modules():
    layers = summarize(Lifted(), (8, 8, 3))
    variables = jax.eval_shape(lambda: Lifted().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False))
    assert sum(layer.parameters for layer in layers) == count(variables["params"])


def test_summary_as_text_has_every_layer_and_keras_totals():
    layers = summarize(Network(), (8, 8, 3))
    text = as_text(layers)
    header, *rows = text.splitlines()
    assert re.split(r"\s{2,}", header) == ["Layer (type)", "Output Shape", "Param #"]
    assert re.split(r"\s{2,}", rows[3]) == ["stage/ScaledBlock_0/BatchNorm_0 (BatchNorm)", "(None, 4, 4, 8)", "32"]
    assert rows[-3:] == [
        "Total params: 1,954",
        "Trainable params: 1,906",
        "Non-trainable params (batch statistics): 48",
    ]
    assert list(total_counts(layers).values()) == [1954, 1906, 48]


HISTORY = [
    {"step": 1, "epoch": 0.5, "train_loss": 2.0, "train_accuracy": 0.3, "learning_rate": 0.1, "images_per_second": 9.0},
    {"step": 2, "epoch": 1.0, "train_loss": float("nan"), "train_accuracy": None},
    {"step": 2, "epoch": 1.0, "validation_loss": 1.5, "validation_accuracy": 0.6, "validation_ema_loss": 1.6},
    {"step": 4, "epoch": 2.0, "train_loss": float("inf"), "train_accuracy": 0.7},
]
SUMMARY = {
    "test_accuracy": 0.9876,
    "test_loss": float("inf"),
    "test_examples": 40,
    "wall_seconds": 4000.0,
    "compile_seconds": None,
    "images_per_second": float("nan"),
    "params": 61706,
    "versions": {"jax": "0.10.2"},
    "device": "cpu",
    "command": "python train.py --config=<digits>",
}


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(10)(images.reshape(len(images), -1))


def report(path, num_classes=3, names=None, kind="multiclass", **changes):
    rng = np.random.default_rng(0)
    tally = {"label": rng.integers(0, num_classes, 40), "logits": rng.standard_normal((40, num_classes))}
    tally |= {name: changes.pop(name) for name in ("label", "logits") if name in changes}
    image_at = changes.pop("image_at", lambda i: np.full((8, 8, 1), i, np.uint8))
    names = names or [f"class {i}" for i in range(num_classes)]
    network = network_section("", Linear(), (4, 4, 1))
    settings = {
        "summary": SUMMARY,
        "config_text": json.dumps({"model": {"name": "<lenet5>"}, "data": {"root": None}}),
        "history": HISTORY,
        "quantities": Classification.quantities,
        "sections": [*sections(tally, kind, names, image_at), network] if len(tally["label"]) else [],
    }
    write_report(path, **settings | changes)
    page = Page(path.read_text(encoding="utf-8"))
    assert all(load.startswith(("data:", "#")) for load in page.loads)
    return page


def test_page_has_its_figures_tables_and_numbers(tmp_path):
    page = report(tmp_path / "report.html")
    assert page.tags.count("svg") == 3  # curves, confusion matrix, mistakes
    mistakes = int(re.search(r"(\d+) mistakes in 40 examples: true class → predicted class", page.text)[1])
    # one image per mistake, the matrix, and its color bar
    assert sum(load.startswith("data:image/png") for load in page.loads) == mistakes + 2
    for expected in (
        "98.76%",
        "1 h 6 min",
        "61,706",
        "versions.jax",
        "python train.py --config=<digits>",
        "model.name",
        "<lenet5>",
        "Dense_0 (Dense)",
        "(None, 10)",
        "validation (EMA)",
    ):
        assert expected in page.text
    assert page.tags.count("table") == 4  # classes, model, result, settings


def test_class_names_are_escaped_and_not_parsed_as_formulas(tmp_path):
    names = ["<b>& -->", "a$x_{$", "<script>x()</script>"]
    page = report(tmp_path / "report.html", names=names)
    assert "script" not in page.tags
    assert "b" not in page.tags
    for name in names:
        assert page.text.count(name) >= 3  # both sides of the matrix and the table


def test_settings_of_a_run_are_a_table_of_names_values_and_meanings(tmp_path):
    page = report(tmp_path / "r.html", config_text=describe(changed(Config(), {"model.name": "<lenet5>"})))
    assert page.tags.count("table") == 4
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", (tmp_path / "r.html").read_text())
    values = {name: (value, meaning) for name, value, meaning in rows}
    assert values["model.name"] == ("&#x27;&lt;lenet5&gt;&#x27;", declarations()["model.name"].about.meaning)
    assert values.keys() >= flatten(Config()).keys()


def test_settings_in_another_form_are_shown_unchanged(tmp_path):
    assert "the <model> is\n lenet5" in report(tmp_path / "r.html", config_text="the <model> is\n lenet5").text


def test_a_perfect_network_has_no_mistakes(tmp_path):
    page = report(tmp_path / "r.html", label=np.arange(3), logits=np.eye(3))
    assert "No mistakes in 3 examples." in page.text
    assert page.tags.count("svg") == 2


def test_mistakes_are_sorted_by_their_probability(tmp_path):
    shown = []

    def image_at(index):
        shown.append(index)
        return np.zeros((4, 4, 3), np.uint8)

    logits = np.array([[0.0, 3.0], [0.0, 9.0], [5.0, 0.0], [0.0, 6.0]])
    page = report(tmp_path / "r.html", 2, label=np.array([0, 0, 0, 0]), logits=logits, image_at=image_at)
    assert shown == [1, 3, 0]
    assert "100.0%" in page.text
    assert "95.3%" in page.text  # 1 / (1 + e⁻³)


@pytest.mark.slow
@pytest.mark.parametrize(("num_classes", "svgs"), [(20, 3), (21, 3), (101, 2)])
def test_more_classes_than_a_matrix_can_show_become_a_table_of_pairs(tmp_path, num_classes, svgs):
    page = report(tmp_path / "r.html", num_classes)
    assert page.tags.count("svg") == svgs
    assert ("Most frequent confusions" in page.text) == (num_classes > 20)


def test_multilabel_page_has_no_confusion_matrix(tmp_path):
    labels = np.array([[1, 0], [0, 0]])
    logits = np.array([[1.0, 2.0], [-1.0, -1.0]])
    page = report(tmp_path / "r.html", 2, kind="multilabel", label=labels, logits=logits, names=["cat", "dog"])
    assert "Confusion matrix" not in page.text
    assert "no dog → dog" in page.text
    assert "88.1%" in page.text  # the sigmoid of 2


def test_binary_page(tmp_path):
    labels, logits = np.array([1, 1, 1]), np.array([[1.0], [2.0], [-1.0]])
    page = report(tmp_path / "r.html", 2, kind="binary", label=labels, logits=logits, names=["healthy", "ill"])
    assert "ill → healthy" in page.text
    assert "73.1%" in page.text  # the sigmoid of 1


def test_page_of_a_run_that_recorded_nothing(tmp_path):
    page = report(
        tmp_path / "r.html",
        summary={},
        config_text="",
        history=[],
        label=np.zeros(0, int),
        logits=np.zeros((0, 3)),
    )
    assert page.text.count("not recorded") == 2


def test_page_of_a_network_whose_logits_are_nan(tmp_path):
    page = report(tmp_path / "r.html", logits=np.full((40, 3), np.nan))
    assert "nan%" in page.text


def test_a_failed_report_leaves_the_existing_one_unchanged(tmp_path):
    path = tmp_path / "report.html"
    report(path)
    before = path.read_bytes()

    def image_at(index):
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable"):
        report(path, image_at=image_at)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_same_run_gives_the_same_page(tmp_path):
    report(tmp_path / "a.html")
    report(tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_long_history_is_drawn_as_means():
    history = [{"epoch": step / 1000, "train_loss": float(step % 2)} for step in range(100_000)]
    line = figures.curves(history, Classification.quantities).figure.axes[0].lines[0]
    assert len(line.get_xdata()) == figures.LONGEST_CURVE
    np.testing.assert_allclose(line.get_ydata(), 0.5)


def test_large_images_are_reduced_in_the_figure_of_mistakes():
    photo = np.zeros((600, 800, 3), np.uint8)
    sheet = figures.confident_mistakes([photo] * 30, ["a"] * 30, ["b"] * 30, [0.5] * 30)
    images = [image for axes in sheet.axes for image in axes.images]
    assert len(images) == 25
    assert images[0].get_size() == (192, 256)


@pytest.mark.parametrize("shape", [(20, 60, 3), (60, 20, 1), (100, 300, 3)])
def test_rectangular_images_keep_their_proportions_in_the_figure_of_mistakes(shape):
    sheet = figures.confident_mistakes([np.zeros(shape, np.uint8)] * 3, ["a"] * 3, ["b"] * 3, [0.5] * 3)
    sheet.draw_without_rendering()
    for axes in sheet.axes[:3]:
        box = axes.get_window_extent()
        assert box.height / box.width == pytest.approx(shape[0] / shape[1], rel=0.03)


@pytest.mark.process
def test_importing_the_report_does_not_import_matplotlib_or_sklearn():
    modules = "sys, jaxcnn.report, jaxcnn.tasks.classification_metrics"
    code = f"import {modules}; print({{'matplotlib', 'sklearn', 'cv2'}} & set(sys.modules))"
    assert run("-c", code) == (0, "set()\n", "")
