"""Figures about a finished run and about a data set, made with matplotlib but without pyplot and its global state.

Text and axes are drawn in INK, which the page replaces by its text color. Areas are colored by opacity, so that figures do not
depend on a white background. The hues are those of Okabe and Ito (2008), which color-blind readers can distinguish.
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
SPLIT_COLORS = {"train": BLUE, "validation": VERMILION, "test": GREEN}

MAX_CLASSES_WITH_COUNTS = 20  # larger confusion matrices have no space for counts
NAMED_BARS = 40  # maximum number of classes whose bars have names
LONGEST_CURVE = 500  # points; a longer curve is drawn as the means of this many intervals


class Curves(NamedTuple):
    """A figure with curves, and its title, such as "Loss and accuracy"."""

    title: str
    figure: "Figure"


def curves(history: Sequence[Mapping[str, Any]], quantities: Sequence[Quantity]) -> Curves:
    """Plots metrics over epochs: training, validation and, if recorded, validation of the EMA weights.

    `history` has the rows of metrics.jsonl. The figure shows at most four metrics: the loss, the one that selects checkpoints,
    and others recorded in training. Values that are missing or not finite are left out.
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
    title = f"{', '.join(first)} and {last}" if first else last
    return Curves(title[0].upper() + title[1:], figure)


def _shown(history: Sequence[Mapping[str, Any]], quantities: Sequence[Quantity]) -> list[Quantity]:
    known = {quantity.name: quantity for quantity in quantities}
    selects = [quantity.name for quantity in quantities if quantity.better]
    trained = [name.removeprefix("train_") for name in dict.fromkeys(itertools.chain(*history)) if name.startswith("train_")]
    names = dict.fromkeys([*(["loss"] if "loss" in {*known, *trained} else []), *selects[:1], *trained])
    return [known.get(name, Quantity(name, name.replace("_", " "))) for name in names][:4]


def _curve(axes: "Axes", history: Sequence[Mapping[str, Any]], quantity: Quantity) -> None:
    percent = quantity.form.endswith("%}")
    style_axes(axes)
    lowest, highest = math.inf, 0.0
    styles: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("train", f"train_{quantity.name}", {"color": BLUE, "linewidth": 1.2}),
        ("validation", f"validation_{quantity.name}", {"color": VERMILION, "linewidth": 1.8}),
        ("validation (EMA)", f"validation_ema_{quantity.name}", {"color": GREEN, "linewidth": 1.8, "linestyle": "--"}),
    )
    for name, key, style in styles:
        epochs, values = _series(history, key)
        if not len(values):
            continue
        # Without a marker, a single evaluation would be invisible.
        marker = "o" if len(values) <= 30 else None
        axes.plot(epochs, (100 if percent else 1) * values, label=name, marker=marker, markersize=3.5, **style)
        lowest, highest = min(lowest, values.min()), max(highest, values.max())
    title = quantity.label[:1].upper() + quantity.label[1:]
    axes.set_title(title + (" (%)" if percent else ""), loc="left", color=INK, fontsize=11)
    axes.set_xlabel("Epoch", color=INK)
    if not percent and lowest > 0 and highest > 30 * lowest:
        axes.set_yscale("log")
    if axes.lines:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    else:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=INK)


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> "Figure":
    """Draws a confusion matrix (K, K) of counts with true classes as rows. Cells are colored by their share of the row.

    For up to MAX_CLASSES_WITH_COUNTS classes, the counts are written into the cells. About 100 classes remain readable.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    num_classes = len(class_names)
    written = num_classes <= MAX_CLASSES_WITH_COUNTS
    side = 2.5 + 0.42 * num_classes if written else 11.0
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    style_axes(axes)
    axes.grid(visible=False)

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # On a square-root scale, as one mistake in a hundred would otherwise be invisible next to the diagonal.
    opacity = LinearSegmentedColormap.from_list("opacity", [(*_rgb(BLUE), a) for a in np.linspace(0, 1, 101) ** 0.5], N=1024)
    cells = axes.imshow(shares, cmap=opacity, vmin=0, vmax=1, interpolation="none")
    bar = figure.colorbar(cells, ax=axes, shrink=0.6, aspect=30, pad=0.02, format=lambda share, _: f"{share:.0%}")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelcolor=INK, labelsize=8)

    size = 9 if written else min(8, 600 / num_classes)
    names = [short(name, 24) for name in class_names]
    upright = not written or max(map(len, names), default=0) > 3
    axes.set_xticks(range(num_classes), names, rotation=90 if upright else 0, fontsize=size, parse_math=False)
    axes.set_yticks(range(num_classes), names, fontsize=size, parse_math=False)
    axes.tick_params(length=0)
    # Lines between the cells help to follow a row of a large matrix to its name.
    axes.set_xticks(np.arange(1, num_classes) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, num_classes) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(visible=True, which="minor", color=INK, alpha=0.12, linewidth=0.5)
    axes.set_xlabel("Predicted class", color=INK)
    axes.set_ylabel("True class", color=INK)
    if written:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = "white" if shares[row, column] > 0.3 else INK
                axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=color)
    return figure


def confident_mistakes(
    images: Sequence[np.ndarray],
    true_names: Sequence[str],
    predicted_names: Sequence[str],
    probabilities: Sequence[float],
) -> "Figure":
    """Draws up to 25 uint8 images (H, W, C), each with "true → predicted" and the probability of the prediction."""
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
            image = image[..., 0]  # the first channel represents images that are not RGB
        if max(image.shape) > 96:  # a photo, reduced to the resolution at which it is shown
            factor = min(1, 256 / max(image.shape))
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
        else:  # "none" embeds the pixels as they are, and the browser enlarges them
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="none")
        true, predicted = short(true_names[index], 24), short(predicted_names[index], 24)
        arrow = " → " if len(true + predicted) <= 22 else " →\n"
        title = f"{true}{arrow}{predicted}\n{probabilities[index]:.1%}"
        axes.set_title(title, fontsize=9, color=INK, parse_math=False)
    return figure


def image_rows(titles: Sequence[str], rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> "Figure":
    """Draws rows of uint8 images (H, W, 3), one column per title, each row with its label on the left."""
    from matplotlib.figure import Figure

    height, width = rows[0][1][0].shape[:2]
    figure = Figure(figsize=(11.5, len(rows) * (11 / len(titles) * height / width + 0.25) + 0.3), layout="constrained")
    for row, (label, images) in enumerate(rows):
        for column, image in enumerate(images):
            axes = figure.add_subplot(len(rows), len(titles), row * len(titles) + column + 1)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=INK, alpha=0.3, linewidth=0.5)
            axes.imshow(image, interpolation="none")
            if row == 0:
                axes.set_title(titles[column], fontsize=9, color=INK)
            if column == 0:
                axes.set_ylabel(label, fontsize=9, color=INK)
    return figure


def resized(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resizes an image (H, W, C) uint8 to (height, width) for a figure: (*size, 3) uint8. Gray images become RGB."""
    import cv2

    image = image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1)
    return cv2.resize(np.ascontiguousarray(image), (size[1], size[0]), interpolation=cv2.INTER_AREA)


def class_bars(counts: Mapping[str, np.ndarray], class_names: Sequence[str], units: str = "images") -> "Figure":
    """Draws the number of images (or other `units`) per class as bars, stacked by split.

    `counts` has an array (K,) per split. Beyond NAMED_BARS classes, bars are sorted by frequency and have no names.
    """
    from matplotlib.figure import Figure

    num_classes = len(class_names)
    named = num_classes <= NAMED_BARS
    figure = Figure(figsize=(11.5, 1.1 + 0.3 * num_classes if named else 3.6), layout="constrained")
    axes = figure.add_subplot()
    style_axes(axes)
    axes.grid(visible=False, axis="y" if named else "x")
    axes.set_axisbelow(True)
    total = np.sum(list(counts.values()), axis=0)
    order = np.arange(num_classes) if named else np.argsort(-total, kind="stable")
    start = np.zeros(num_classes)
    for split, count in counts.items():
        draw = axes.barh if named else axes.bar
        # Bars without names touch each other, as gaps between hundreds of bars would cause moiré patterns.
        draw(np.arange(num_classes), count[order], 0.72 if named else 1.0, start, color=SPLIT_COLORS[split], label=split)
        start = start + count[order]
    if named:
        axes.set_yticks(range(num_classes), [short(name, 32) for name in class_names], parse_math=False)
        axes.invert_yaxis()
        for row, number in enumerate(total):
            axes.annotate(f"{number:,}", (number, row), (4, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
        axes.set_xlabel(units.capitalize(), color=INK)
        axes.ticklabel_format(axis="x", style="plain")
    else:
        axes.set_xlim(-0.5, num_classes - 0.5)
        axes.set_xlabel("Classes, most frequent first", color=INK)
        axes.set_ylabel(units.capitalize(), color=INK)
        axes.ticklabel_format(axis="y", style="plain")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, labelcolor=INK, fontsize=9
    )
    return figure


def size_scatter(sizes: Sequence[tuple[int, ...]], size: tuple[int, int]) -> "Figure":
    """Draws a scatter plot of image sizes and a histogram of their shorter sides with the side of the network input.

    `sizes` are those of the images, `size` is that of the network input, (height, width) in pixels each. If the input is not
    square, the histogram shows the heights of the largest crops with its aspect ratio instead.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    heights, widths = np.array(sizes).T
    style_axes(left)
    # Rasterized, as 20,000 points would be megabytes of SVG.
    left.scatter(widths, heights, s=8, color=BLUE, alpha=0.25, linewidths=0, rasterized=True)
    left.set_xlabel("Width (pixels)", color=INK)
    left.set_ylabel("Height (pixels)", color=INK)
    style_axes(right)
    height, width = size
    largest = np.minimum(widths * height // width, heights)
    low, high = min(largest.min(), height), max(largest.max(), height)
    margin = max(4, (high - low) // 20)
    step = max(1, (high - low) // 40)
    right.hist(largest, bins=np.arange(low - margin, high + margin + step, step) - 0.5, color=BLUE)
    right.axvline(height, color=VERMILION, linewidth=1.5, label=f"network input: {height} pixels")
    measured = "Shorter side" if height == width else f"Height of the largest crop with aspect ratio {width}:{height}"
    right.set_xlabel(f"{measured} (pixels)", color=INK)
    right.set_ylabel("Images", color=INK)
    right.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, labelcolor=INK, fontsize=9)
    return figure


def style_axes(axes: "Axes") -> None:
    """Removes the frame and ticks and shows a faint grid."""
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0, labelcolor=INK, labelsize=9)
    axes.grid(color=INK, alpha=0.15, linewidth=0.6)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the epochs and the finite values of the rows that have `key`, averaged to at most LONGEST_CURVE points."""
    points = [(row["epoch"], row[key]) for row in history if row.get("epoch") is not None and row.get(key) is not None]
    series = np.array(points, np.float64).reshape(-1, 2)
    series = series[np.isfinite(series).all(axis=1)]
    if len(series) > LONGEST_CURVE:
        series = np.stack([interval.mean(axis=0) for interval in np.array_split(series, LONGEST_CURVE)])
    return series[:, 0], series[:, 1]


def short(name: str, length: int) -> str:
    """Returns a name on one line, shortened to `length` characters."""
    name = " ".join(name.split())
    return name if len(name) <= length else name[: length - 1] + "…"


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
