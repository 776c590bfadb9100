"""The page about a data set, to check it before training: its content, its problems, and examples as training receives them."""

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data.inspect import Seen, stored
from jaxcnn.data.preprocessing import MEASURED
from jaxcnn.data.sources import Resized
from jaxcnn.files import user_path
from jaxcnn.report import figures, overlays
from jaxcnn.report.data_counts import ClassCounts
from jaxcnn.report.data_findings import (
    config_flags,
    count_contradicting,
    findings,
    kinds_of,
    width_by_height,
)
from jaxcnn.report.data_found import TIMES, Found, class_list
from jaxcnn.report.html import Html, command_line, counted, duration, percent, section, svg, table, write_page

LISTED = 1000  # maximum number of listed duplicates and of unreadable files; the JSON has all of them
WITH_IMAGE = 50  # maximum number of listed duplicates that are shown as images
SIDE = 256  # maximum side of an image on the page, in pixels


def write_data_page(path: str | os.PathLike[str], found: Found) -> None:
    """Writes the page to `path` atomically. It loads nothing from the network.

    Raises:
      OSError: the file can't be written.
    """
    values = findings(found)
    root = found.config.data.root
    title = f"{found.config.data.name}: {Path(root).absolute().name}" if root else found.config.data.name
    sections = [
        f"<h1>{escape(title)}</h1>",
        _warnings(found),
        _headline(found),
        _duplicates(found, values),
        _unreadable(found),
        *(_class_section(counts) for counts in found.counts),
        _sizes(found, values),
        _normalization(found),
        _sheet(found),
    ]
    write_page(Path(path), title, sections)


def _warnings(found: Found) -> str:
    """Returns the problems, with overlap between splits first, and a note if only a sample was examined."""
    inspection = found.inspection
    lines = [
        f'<p class="wrong">{counted(count, "image is", "images are")} in both {one} and {other}, '
        f"so results on {other} are too optimistic.</p>"
        for (one, other), count in inspection.overlaps().items()
    ]
    if not lines:
        lines.append(f"<p>No image is in more than one split ({', '.join(inspection.sizes)}).</p>")
    if contradicting := count_contradicting(inspection):
        images = counted(contradicting, "image occurs", "images occur")
        lines.append(f'<p class="wrong">{images} more than once with different labels.</p>')
    if inspection.unreadable:
        files = counted(len(inspection.unreadable), "image")
        lines.append(f'<p class="wrong">{files} can\'t be read.</p>')
    total = sum(inspection.sizes.values())
    if len(inspection.seen) < total:
        lines.append(
            f"<p>Class counts cover all {total:,} images. Everything else on this page is based on {len(inspection.seen):,} of "
            "them, evenly spaced (--sample), so most duplicates are missed.</p>"
        )
    return "".join(lines)


def _headline(found: Found) -> str:
    height, width, channels = found.preprocessing.input_shape
    tiles = {
        "Images": f"{sum(found.inspection.sizes.values()):,}",
        "Classes": f"{len(found.dataset.class_names):,}",
        **{part.capitalize(): f"{size:,}" for part, size in found.inspection.sizes.items()},
        "Input (H×W×C)": f"{height}×{width}×{channels}",
    }
    written = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in tiles.items())
    return f'<dl class="figures">{written}</dl><p>Examined in {duration(found.seconds)}.</p>'


def _duplicates(found: Found, values: Mapping[str, Any]) -> str:
    inspection, content = found.inspection, []
    if inspection.overlapping:
        content.append('<p class="wrong">Images in more than one split:</p>' + _groups(found, inspection.overlapping))
    written = ", ".join(
        f"{split} has {distinct:,} distinct images among {values['readable'][split]:,}"
        for split, distinct in values["distinct"].items()
        if distinct < values["readable"][split]
    )
    content.append(f"<p>{written.capitalize()}.</p>" if written else "<p>No image occurs more than once within a split.</p>")
    if inspection.within_a_part:
        content.append("<p>Images that occur repeatedly in a single split:</p>" + _groups(found, inspection.within_a_part))
    return section("Duplicate images", *content)


def _groups(found: Found, groups: Sequence[Sequence[Seen]]) -> str:
    rows = []
    for number, group in enumerate(groups[:LISTED]):
        first = group[0]
        pixels = stored(found.dataset.parts()[first.part]).read(first.index) if number < WITH_IMAGE else None
        names = "<br>".join(f"{image.part}: {escape(_name(found, image.name))}" for image in group)
        labels = {image.labels for image in group}
        class_names = escape(", ".join(sorted(class_list(found.dataset, classes) for classes in labels)))
        if len(labels) > 1:
            class_names = f'<span class="wrong">labels differ: {class_names}</span>'
        rows.append((Html(_image(pixels, 56) if pixels is not None else ""), Html(names), Html(class_names)))
    return table(("Image", "Location", "Class"), rows) + _remainder(len(groups))


def _remainder(number: int) -> str:
    return f"<p>… and {number - LISTED:,} more, which are in the output of --json</p>" if number > LISTED else ""


def _unreadable(found: Found) -> str:
    unreadable = found.inspection.unreadable
    if not unreadable:
        return ""
    rows = [(image.part, _name(found, image.name), image.problem) for image in unreadable[:LISTED]]
    reaction = "skips them and reports their number" if found.config.data.on_error == "skip" else "stops at the first one"
    note = f"<p>Training {reaction} (data.on_error={escape(found.config.data.on_error)}).</p>"
    return section("Unreadable images", note, table(("Split", "File", "Reason"), rows), _remainder(len(unreadable)))


def _class_section(counts: ClassCounts) -> str:
    total = np.sum(list(counts.splits.values()), axis=0)
    rows = [
        (
            name,
            *(f"{count[k]:,}" for count in counts.splits.values()),
            f"{total[k]:,}",
            percent(counts.splits["train"][k] / max(1, counts.total)),
        )
        for k, name in enumerate(counts.names)
    ]
    header = ("Class", *(split.capitalize() for split in counts.splits), "Total", "Share of train")
    text = counts.imbalance()
    titles = {"label": "Classes", "map": "Classes of segmentation maps, in pixels", "boxes": "Classes of bounding boxes"}
    return section(
        titles[counts.field],
        f"<p>{escape(text[0].upper() + text[1:])}.</p>",
        svg(
            figures.class_bars(counts.splits, counts.names, counts.units),
            "classes" if counts.field == "label" else f"classes of {counts.field}",
        ),
        table(header, rows, numbers=len(header) - 1),
    )


def _sizes(found: Found, values: Mapping[str, Any]) -> str:
    sizes = values["sizes"]
    if not sizes:
        return ""
    kinds = escape(kinds_of(sizes["stored"]))
    if sizes["different"] == 1:
        note = f"All images are {width_by_height(sizes['smallest'])} pixels, width × height ({kinds})."
        return section("Image sizes", f"<p>{note}</p>")
    rows = [
        (which.capitalize(), width_by_height(sizes[which]), f"{sizes[which]['part']}: {_name(found, sizes[which]['name'])}")
        for which in ("smallest", "largest")
    ]
    width, height = sizes["median"]
    rows.insert(1, ("Median width and height", f"{width:g}×{height:g}", ""))
    stored_sizes = [image.shape[:2] for image in found.inspection.readable]
    height, width = found.preprocessing.size
    smaller = sum(h < height or w < width for h, w in stored_sizes)
    note = f"{counted(smaller, 'image is', 'images are')} smaller than the network input ({width}×{height} pixels)."
    return section(
        "Image sizes",
        f"<p>Formats and Pillow modes (L: gray, P: palette): {kinds}.</p>",
        f"<p>{note}</p>" if smaller else "",
        table(("", "Width × height", "File"), rows),
        svg(figures.size_scatter(stored_sizes, (height, width)), "sizes"),
    )


def _normalization(found: Found) -> str:
    preprocessing, train = found.preprocessing, found.dataset.train
    rows = [
        (name, ", ".join(f"{v:.6g}" for v in measured), ", ".join(f"{v:.6g}" for v in used))
        for name, measured, used in (
            ("Mean", found.mean, preprocessing.mean),
            ("Standard deviation", found.std, preprocessing.std),
        )
    ]
    sample = f"{min(MEASURED, len(train)):,} training images resized to the network input"
    return section(
        "Mean and standard deviation",
        f"<p>Per channel, for pixel values in 0…1, measured on {sample if isinstance(train, Resized) else 'the training set'}. "
        "Training uses them unless data.mean and data.std are set:</p>",
        f"<pre>{command_line(config_flags(found.mean, found.std))}</pre>",
        table(("", "Measured", "Used in training"), rows),
    )


def _legend(found: Found) -> str:
    """Returns the legend of class colors, or "" if no maps are drawn."""
    if not any("map" in targets for example in found.examples for targets in example.targets):
        return ""
    names = found.dataset.class_names
    colors = overlays.class_colors(len(names), found.dataset.class_colors).tolist()
    swatches = (
        f'<span style="display:inline-block;margin-right:1em"><span style="background:rgb({red},{green},{blue})">&emsp;</span> '
        f"{escape(name)}</span>"
        for name, (red, green, blue) in zip(names, colors, strict=True)
    )
    return f"<p>{' '.join(swatches)}</p>"


def _sheet(found: Found) -> str:
    with_stored = any(example.stored.shape != example.evaluated.shape for example in found.examples)
    header = ("", *(["As stored"] if with_stored else []), "Evaluation", *(f"Training {time + 1}" for time in range(TIMES)))
    rows = []
    for example in found.examples:
        label = f'{escape(figures.short(example.label, 40))}<br><small title="{escape(example.name)}">'
        name = Path(example.name).name  # its end distinguishes it from others: a number or a record of a file
        label += f"{escape(name if len(name) <= 18 else '…' + name[-17:])}</small>"
        shown = list(zip([example.stored, example.evaluated, *example.trained], example.targets, strict=True))
        cells = [label, *(_annotated(found, image, targets) for image, targets in (shown if with_stored else shown[1:]))]
        rows.append([Html(cell) for cell in cells])
    settings = found.config.data
    applied = ", ".join(f"data.{name}={value!r}" for name in ("random_crop", "augment") if (value := getattr(settings, name)))
    note = (
        f"Network inputs before normalization, in evaluation and the first {TIMES} times in training "
        f"(seed {found.config.seed}, batches of {found.config.batch_size:,}). "
        + ("Images are mixed with others of this table only. " if found.mixes else "")
        + (f"Augmentation: {applied}." if applied else "No augmentation: data.augment and data.random_crop are empty.")
    )
    return section(
        "Examples before and after augmentation",
        f"<p>{escape(note)}</p>",
        _legend(found),
        f'<div class="sheet">{table(header, rows)}</div>',
    )


def _annotated(found: Found, image: np.ndarray, targets: Mapping[str, np.ndarray]) -> str:
    """Returns an example as an <img>, with its maps and boxes drawn at the size of the page, so that names are readable."""
    import cv2

    if not targets:
        return _image(image, 112)
    scale = SIDE / max(image.shape[:2])
    size = tuple(max(1, round(length * scale)) for length in image.shape[1::-1])
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    image = image.reshape(*image.shape[:2], -1)
    if "map" in targets:
        shown = cv2.resize(targets["map"], size, interpolation=cv2.INTER_NEAREST)
        colors = overlays.class_colors(len(found.dataset.class_names), found.dataset.class_colors)
        image = overlays.draw_map(image, shown, colors)
    if "boxes" in targets:
        image = overlays.draw_boxes(image, targets["boxes"] * scale, targets["classes"], found.dataset.class_names)
    return _image(image, 145)


def _image(image: np.ndarray, side: int) -> str:
    """Returns an <img> of at most `side` CSS pixels in height and width. Images up to 96 pixels are embedded losslessly."""
    import cv2

    height, width = image.shape[:2]
    image = image if image.shape[-1] == 3 else image[..., :1]  # the first channel represents images that are not RGB
    is_photo = max(height, width) > 96
    if max(height, width) > SIDE:
        scale = SIDE / max(height, width)
        image = cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
        image = image.reshape(*image.shape[:2], -1)
    kind = "jpeg" if is_photo else "png"
    encoded = cv2.imencode(".jpg" if is_photo else ".png", image[..., ::-1])[1].tobytes()
    width, height = (max(1, round(length * side / max(height, width))) for length in (width, height))
    source = f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
    return f'<img{"" if is_photo else " class=pixels"} width="{width}" height="{height}" alt="" src="{source}">'


def _name(found: Found, name: str) -> str:
    """Returns a path relative to data.root."""
    root = user_path(found.config.data.root)
    root = root if root.is_dir() else root.parent
    return name.removeprefix(f"{root}{os.sep}") if found.config.data.root else name
