"""Pictures of a finished run and of a data set, each a matplotlib Figure of its own; pyplot and its global state are not used.

Text and axes are drawn in INK, which the page replaces by its own colour, and nothing relies on a white ground: areas
are coloured by opacity. The hues are those of Okabe and Ito (2008), which colour-blind readers can tell apart.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxcnn.report.quantity import Quantity

if TYPE_CHECKING:  # matplotlib takes longer to import than all of jaxcnn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2328"
BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
PARTS = {"train": BLUE, "validation": VERMILION, "test": GREEN}

WRITTEN_CLASSES = 20  # up to here a confusion matrix has room for its counts
NAMED_BARS = 40  # classes; of more, the bars have no names
LONGEST_CURVE = 500  # points; a longer one is drawn as the means of that many stretches


class Curves(NamedTuple):
    """The figure, and the names of what it shows: "Loss and accuracy"."""

    title: str
    figure: "Figure"


def curves(history: Sequence[Mapping[str, Any]], quantities: Sequence[Quantity]) -> Curves:
    """Quantities against epochs: training, validation and, where there is one, validation of the EMA weights.

    `history` has the rows of metrics.jsonl. The loss and the quantity that selects checkpoints are shown, and what else
    training records, four at most. What is missing or not finite leaves a gap.
    """
    from matplotlib.figure import Figure

    shown = _shown(history, quantities)
    rows = math.ceil(len(shown) / 2)
    figure = Figure(figsize=(11.5, 3.8 * rows), layout="constrained")
    for axes, quantity in zip(figure.subplots(rows, 2, squeeze=False).flat, [*shown, None], strict=False):
        if quantity is None:
            axes.set_axis_off()
        else:
            _curve(axes, history, quantity)
    *first, last = [quantity.label for quantity in shown]
    return Curves((f"{', '.join(first)} and {last}" if first else last).capitalize(), figure)


def _shown(history: Sequence[Mapping[str, Any]], quantities: Sequence[Quantity]) -> list[Quantity]:
    known = {quantity.name: quantity for quantity in quantities}
    selects = [quantity.name for quantity in quantities if quantity.better]
    trained = [name.removeprefix("train_") for name in dict.fromkeys(itertools.chain(*history)) if name.startswith("train_")]
    names = dict.fromkeys([*(["loss"] if "loss" in {*known, *trained} else []), *selects[:1], *trained])
    return [known.get(name, Quantity(name, name.replace("_", " "))) for name in names][:4]


def _curve(axes: "Axes", history: Sequence[Mapping[str, Any]], quantity: Quantity) -> None:
    percent = quantity.form.endswith("%}")
    plain(axes)
    lowest, highest = math.inf, 0.0
    styles: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("train", f"train_{quantity.name}", {"color": BLUE, "linewidth": 1.2}),
        ("validation", f"validation_{quantity.name}", {"color": VERMILION, "linewidth": 1.8}),
        ("validation, EMA", f"validation_ema_{quantity.name}", {"color": GREEN, "linewidth": 1.8, "linestyle": "--"}),
    )
    for name, key, style in styles:
        epochs, values = _series(history, key)
        if not len(values):
            continue
        # A single evaluation would be a line of no length.
        marker = "o" if len(values) <= 30 else None
        axes.plot(epochs, (100 if percent else 1) * values, label=name, marker=marker, markersize=3.5, **style)
        lowest, highest = min(lowest, values.min()), max(highest, values.max())
    title = quantity.label[:1].upper() + quantity.label[1:]
    axes.set_title(title + (" (%)" if percent else ""), loc="left", color=INK, fontsize=11)
    axes.set_xlabel("epoch", color=INK)
    if not percent and lowest > 0 and highest > 30 * lowest:
        axes.set_yscale("log")
    if axes.lines:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    else:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=INK)


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> "Figure":
    """The confusion matrix (K, K), row the label, column the prediction, coloured by the share of the row.

    Up to 20 classes have their counts written in; about 100 classes are the most that can be read.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    num_classes = len(class_names)
    written = num_classes <= WRITTEN_CLASSES
    side = 2.5 + 0.42 * num_classes if written else 11.0
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    plain(axes)
    axes.grid(visible=False)

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # By the square root, as one mistake in a hundred would otherwise not be seen beside the diagonal.
    opacity = LinearSegmentedColormap.from_list("opacity", [(*_rgb(BLUE), a) for a in np.linspace(0, 1, 101) ** 0.5], N=1024)
    picture = axes.imshow(shares, cmap=opacity, vmin=0, vmax=1, interpolation="none")
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, aspect=30, pad=0.02, format=lambda share, _: f"{share:.0%}")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelcolor=INK, labelsize=8)

    size = 9 if written else min(8, 600 / num_classes)
    names = [short(name, 24) for name in class_names]
    upright = not written or max(map(len, names), default=0) > 3
    axes.set_xticks(range(num_classes), names, rotation=90 if upright else 0, fontsize=size, parse_math=False)
    axes.set_yticks(range(num_classes), names, fontsize=size, parse_math=False)
    axes.tick_params(length=0)
    # Lines between the cells, so that a row of a hundred can be followed to its name.
    axes.set_xticks(np.arange(1, num_classes) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, num_classes) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(visible=True, which="minor", color=INK, alpha=0.12, linewidth=0.5)
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("label", color=INK)
    if written:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = "white" if shares[row, column] > 0.3 else INK
                axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=color)
    return figure


def worst_mistakes(
    images: Sequence[np.ndarray],
    true_names: Sequence[str],
    predicted_names: Sequence[str],
    probabilities: Sequence[float],
) -> "Figure":
    """A sheet of up to 25 uint8 images (H, W, 1 or 3), with "true → predicted" and the prediction's probability."""
    import cv2
    from matplotlib.figure import Figure

    columns = 5
    shown = min(len(images), 25)
    rows = max(1, math.ceil(shown / columns))
    tallest = max((image.shape[0] / image.shape[1] for image in images[:shown]), default=1)
    figure = Figure(figsize=(11.5, rows * (2.2 * min(tallest, 2) + 0.6)), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04, hspace=0.06)  # type: ignore[union-attr, call-arg]
    for index, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        if index >= shown:
            axes.set_axis_off()
            continue
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=INK, alpha=0.3, linewidth=0.5)
        image = images[index]
        if image.shape[-1] != 3:
            image = image[..., 0]  # of other numbers of channels, the first is shown
        if max(image.shape) > 96:  # a photo: reduced to what the sheet can show
            reduced = min(1, 256 / max(image.shape))
            image = cv2.resize(image, None, fx=reduced, fy=reduced, interpolation=cv2.INTER_AREA)
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
        else:  # "none" leaves the enlarging, by nearest neighbour, to the page
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="none")
        true, predicted = short(true_names[index], 24), short(predicted_names[index], 24)
        arrow = " → " if len(true + predicted) <= 22 else " →\n"
        title = f"{true}{arrow}{predicted}\n{100 * probabilities[index]:.1f} %"
        axes.set_title(title, fontsize=9, color=INK, parse_math=False)
    return figure


def class_bars(counts: Mapping[str, np.ndarray], class_names: Sequence[str], units: str = "images") -> "Figure":
    """Images (or other `units`) a class, stacked by part; of more than 40 classes the commonest first and without names."""
    from matplotlib.figure import Figure

    many = len(class_names)
    named = many <= NAMED_BARS
    figure = Figure(figsize=(11.5, 1.1 + 0.3 * many if named else 3.6), layout="constrained")
    axes = figure.add_subplot()
    plain(axes)
    axes.grid(visible=False, axis="y" if named else "x")
    axes.set_axisbelow(True)
    total = np.sum(list(counts.values()), axis=0)
    order = np.arange(many) if named else np.argsort(-total, kind="stable")
    start = np.zeros(many)
    for part, count in counts.items():
        draw = axes.barh if named else axes.bar
        # Without names, bars that touch: gaps between hundreds of them would shimmer.
        draw(np.arange(many), count[order], 0.72 if named else 1.0, start, color=PARTS[part], label=part)
        start = start + count[order]
    if named:
        axes.set_yticks(range(many), [short(name, 32) for name in class_names], parse_math=False)
        axes.invert_yaxis()
        for place, number in enumerate(total):
            axes.annotate(
                f"{number:,}", (number, place), (4, 0), textcoords="offset points", va="center", fontsize=8, color=INK
            )
        axes.set_xlabel(units, color=INK)
        axes.ticklabel_format(axis="x", style="plain")
    else:
        axes.set_xlim(-0.5, many - 0.5)
        axes.set_xlabel("classes, the commonest first", color=INK)
        axes.set_ylabel(units, color=INK)
        axes.ticklabel_format(axis="y", style="plain")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, labelcolor=INK, fontsize=9
    )
    return figure


def size_scatter(sizes: Sequence[tuple[int, ...]], size: tuple[int, int]) -> "Figure":
    """Widths against heights, and the shorter sides beside the network's input side; all (height, width) in pixels.

    Where the input is no square, the heights of the largest parts in its proportions take the shorter sides' place.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    heights, widths = np.array(sizes).T
    plain(left)
    # As pixels: twenty thousand points of SVG would be megabytes.
    left.scatter(widths, heights, s=8, color=BLUE, alpha=0.25, linewidths=0, rasterized=True)
    left.set_xlabel("width", color=INK)
    left.set_ylabel("height", color=INK)
    plain(right)
    height, width = size
    largest = np.minimum(widths * height // width, heights)
    low, high = min(largest.min(), height), max(largest.max(), height)
    margin = max(4, (high - low) // 20)
    step = max(1, (high - low) // 40)
    right.hist(largest, bins=np.arange(low - margin, high + margin + step, step) - 0.5, color=BLUE)
    right.axvline(height, color=VERMILION, linewidth=1.5, label=f"the network's input, {height}")
    right.set_xlabel("shorter side" if height == width else f"height of the largest part of {width}:{height}", color=INK)
    right.set_ylabel("images", color=INK)
    right.legend(frameon=False, labelcolor=INK, fontsize=9)
    return figure


def plain(axes: "Axes") -> None:
    """No frame and no ticks, only a faint grid."""
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0, labelcolor=INK, labelsize=9)
    axes.grid(color=INK, alpha=0.15, linewidth=0.6)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and finite values of the rows that have `key`, at most LONGEST_CURVE of each."""
    points = [(row["epoch"], row[key]) for row in history if row.get("epoch") is not None and row.get(key) is not None]
    series = np.array(points, np.float64).reshape(-1, 2)
    series = series[np.isfinite(series).all(axis=1)]
    if len(series) > LONGEST_CURVE:
        series = np.stack([stretch.mean(axis=0) for stretch in np.array_split(series, LONGEST_CURVE)])
    return series[:, 0], series[:, 1]


def short(name: str, length: int) -> str:
    """A name on one line, cut to `length` letters."""
    name = " ".join(name.split())
    return name if len(name) <= length else name[: length - 1] + "…"


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
