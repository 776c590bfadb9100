"""The report page's sections about a segmentation: per-class metrics, confusion matrix, worst images."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxcnn.report import figures
from jaxcnn.report.html import counted, escape, percent, section, svg, table
from jaxcnn.report.overlays import draw_map
from jaxcnn.tasks.segmentation_metrics import class_rows, iou_intervals, segmentation_metrics

LARGEST_MATRIX = 40  # classes; a larger confusion matrix is unreadable
WORST = 5


def sections(
    tally: Mapping[str, np.ndarray], class_names: Sequence[str], colors: np.ndarray, image_at: Callable[[int], np.ndarray]
) -> list[str]:
    """Returns the sections as HTML.

    Args:
      tally: "counts" (N, K, K) int, "small_map" and "small_prediction" (N, h, w) uint8.
      class_names: K names.
      colors: the colors of the classes, (K, 3) uint8 RGB.
      image_at: returns the image (H, W, C) uint8 of an example. It is called only for the images that are shown.
    """
    counts = tally["counts"].sum(axis=0)
    matrix = [_confusion(counts, class_names)] if len(class_names) <= LARGEST_MATRIX else []
    return [_classes(tally["counts"], class_names), *matrix, _worst(tally, class_names, colors, image_at)]


def _classes(counts: np.ndarray, class_names: Sequence[str]) -> str:
    intervals = iou_intervals(counts, seed=0)

    def interval(low: float, high: float) -> str:
        return "–" if np.isnan(low) else f"{percent(low)} to {percent(high)}"

    rows = [
        (row["name"], _percent(row["iou"]), interval(low, high), _percent(row["dice"]), _percent(row["precision"]),
         _percent(row["recall"]), f"{row['pixels']:,}")
        for row, (low, high) in zip(class_rows(counts.sum(axis=0), class_names), intervals.classes, strict=True)
    ]  # fmt: skip
    mean = percent(segmentation_metrics(counts.sum(axis=0))["mean_iou"])
    caption = (
        f"<p>Mean IoU {mean}; 95% interval {interval(*intervals.mean)}, by resampling the {counted(len(counts), 'image')}. "
        "Void pixels are not counted.</p>"
    )
    header = ("Class", "IoU", "95% interval", "Dice", "Precision", "Recall", "Pixels")
    return section("Per-class IoU", caption, table(header, rows, numbers=6))


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else percent(share)


def _confusion(counts: np.ndarray, class_names: Sequence[str]) -> str:
    shares = np.round(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(int)
    caption = "<p>Percentages of the pixels of the true class, rounded; the color is on a square-root scale.</p>"
    return section("Confusion matrix", caption, svg(figures.confusion(shares, class_names), "confusion"))


def _worst(
    tally: Mapping[str, np.ndarray], class_names: Sequence[str], colors: np.ndarray, image_at: Callable[[int], np.ndarray]
) -> str:
    """Returns the images with the lowest mean IoU: the image, the true and the predicted classes."""
    ious = np.array([segmentation_metrics(counts)["mean_iou"] for counts in tally["counts"]])
    worst = np.argsort(ious, kind="stable")[:WORST]  # NaN, an image with only void pixels, is sorted to the end
    rows = []
    for index in worst:
        true, predicted = tally["small_map"][index], tally["small_prediction"][index]
        image = figures.resized(image_at(int(index)), true.shape)
        shown = (image, draw_map(image, true, colors), draw_map(image, predicted, colors))
        rows.append((f"{_percent(ious[index])} mean IoU", shown))
    sheet = figures.image_rows(("Image", "True classes", "Predicted classes"), rows)
    names = " ".join(f"{_swatch(*color)} {escape(name)}" for name, color in zip(class_names, colors.tolist(), strict=True))
    caption = f"<p>The {counted(len(worst), 'image')} with the lowest mean IoU.</p><p>{names}</p>"
    return section("Worst images", caption, svg(sheet, "worst"))


def _swatch(red: int, green: int, blue: int) -> str:
    color = f"rgb({red},{green},{blue})"
    return f'<svg width="12" height="12" style="display: inline"><rect width="12" height="12" fill="{color}"/></svg>'
