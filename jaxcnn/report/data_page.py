"""The page about a data set before anything is trained on it: what is in it, what is wrong, how the trainer sees it."""

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
from jaxcnn.report.data_counts import ClassCounts, counted, listed
from jaxcnn.report.data_findings import (
    config_flags,
    count_contradicting,
    findings,
    kinds_of,
    width_by_height,
)
from jaxcnn.report.data_found import Found, class_list
from jaxcnn.report.html import Html, duration, percent, section, svg, table, write_page

LISTED = 1000  # groups of identical images, or unreadable files; the rest is in the JSON
PICTURED = 50  # of them with a picture
TIMES = 5  # that an example is shown augmented
SIDE = 256  # pixels of a picture on the page, at most


def write_data_page(path: str | os.PathLike[str], found: Found) -> None:
    """Writes the page to `path`, whole or not at all. It asks nothing of the network.

    Raises:
      OSError: it can't be written.
    """
    numbers = findings(found)
    where = found.config.data.root
    title = f"{found.config.data.name}: {Path(where).absolute().name}" if where else found.config.data.name
    sections = [
        f"<h1>{escape(title)}</h1>",
        _warnings(found),
        _headline(found),
        _identical(found, numbers),
        _unreadable(found),
        *(_class_section(of) for of in found.counts),
        _sizes(found, numbers),
        _normalization(found),
        _sheet(found),
    ]
    write_page(Path(path), title, sections)


def _warnings(found: Found) -> str:
    """Overlap first, in red; what else is wrong; what was not looked at."""
    inspection = found.inspection
    lines = [
        f'<p class="wrong">{counted(count, "image is", "images are")} in {one} and in {other}: '
        f"what {other} measures is then partly memory.</p>"
        for (one, other), count in inspection.overlaps().items()
    ]
    if not lines:
        lines.append(f"<p>No image is in more than one of {listed(inspection.sizes)}.</p>")
    if contradicting := count_contradicting(inspection):
        said = counted(contradicting, "image is", "images are")
        lines.append(f'<p class="wrong">{said} there more than once, with different labels.</p>')
    if inspection.unreadable:
        files = counted(len(inspection.unreadable), "image")
        lines.append(f'<p class="wrong">{files} can\'t be read.</p>')
    total = sum(inspection.sizes.values())
    if len(inspection.seen) < total:
        lines.append(
            f"<p>Counts are of all {total:,} images; everything else on this page is of {len(inspection.seen):,} of them, "
            "evenly spread, which were read in full (--sample). Most copies of an image are missed then.</p>"
        )
    return "".join(lines)


def _headline(found: Found) -> str:
    height, width, channels = found.preprocessing.input_shape
    tiles = {
        "Images": f"{sum(found.inspection.sizes.values()):,}",
        "Classes": f"{len(found.dataset.class_names):,}",
        **{part.capitalize(): f"{size:,}" for part, size in found.inspection.sizes.items()},
        "Network's input" + ("" if height == width else ", height×width"): f"{height}×{width}×{channels}",
    }
    written = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in tiles.items())
    return f'<dl class="figures">{written}</dl><p>Looked at in {duration(found.seconds)}.</p>'


def _identical(found: Found, numbers: Mapping[str, Any]) -> str:
    inspection, parts = found.inspection, []
    if inspection.overlapping:
        parts.append('<p class="wrong">In more than one part:</p>' + _groups(found, inspection.overlapping))
    copies = {part: numbers["readable"][part] - distinct for part, distinct in numbers["distinct"].items()}
    written = listed(
        f"{part} has {numbers['distinct'][part]:,} different images among {numbers['readable'][part]:,}"
        for part, count in copies.items()
        if count
    )
    parts.append(f"<p>{written.capitalize()}.</p>" if written else "<p>No part holds an image twice.</p>")
    if inspection.within_a_part:
        parts.append("<p>Twice or more in one part, and in no other:</p>" + _groups(found, inspection.within_a_part))
    return section("Identical images", *parts)


def _groups(found: Found, groups: Sequence[Sequence[Seen]]) -> str:
    rows = []
    for number, group in enumerate(groups[:LISTED]):
        one = group[0]
        image = stored(found.dataset.parts()[one.part]).read(one.index) if number < PICTURED else None
        names = "<br>".join(f"{image.part}: {escape(_name(found, image.name))}" for image in group)
        labels = {image.labels for image in group}
        said = escape(listed(sorted(class_list(found.dataset, classes) for classes in labels)))
        if len(labels) > 1:
            said = f'<span class="wrong">labels differ: {said}</span>'
        rows.append((Html(_picture(image, 56) if image is not None else ""), Html(names), Html(said)))
    more = f"<p>… and {len(groups) - LISTED:,} more (--json has them all)</p>" if len(groups) > LISTED else ""
    return table(("Image", "Where", "Class"), rows) + more


def _unreadable(found: Found) -> str:
    unreadable = found.inspection.unreadable
    if not unreadable:
        return ""
    rows = [(image.part, _name(found, image.name), image.problem) for image in unreadable[:LISTED]]
    more = f"<p>… and {len(unreadable) - LISTED:,} more (--json has them all)</p>" if len(unreadable) > LISTED else ""
    skipped = "leaves them out and counts them" if found.config.data.on_error == "skip" else "stops at the first of them"
    said = f"<p>Training {skipped} (data.on_error={escape(found.config.data.on_error)}).</p>"
    return section("Images that can't be read", said, table(("Part", "File", "Reason"), rows), more)


def _class_section(of: ClassCounts) -> str:
    total = np.sum(list(of.parts.values()), axis=0)
    rows = [
        (
            name,
            *(f"{count[k]:,}" for count in of.parts.values()),
            f"{total[k]:,}",
            percent(of.parts["train"][k] / max(1, of.of)),
        )
        for k, name in enumerate(of.names)
    ]
    header = ("Class", *(part.capitalize() for part in of.parts), "Together", "Share of train")
    said = of.imbalance()
    return section(
        {"label": "Classes", "map": "Classes in maps, by pixels", "boxes": "Classes of boxes"}[of.field],
        f"<p>{escape(said[0].upper() + said[1:])}.</p>",
        svg(figures.class_bars(of.parts, of.names, of.units), "classes" if of.field == "label" else f"classes of {of.field}"),
        table(header, rows, numbers=len(header) - 1),
    )


def _sizes(found: Found, numbers: Mapping[str, Any]) -> str:
    sizes = numbers["sizes"]
    if not sizes:
        return ""
    kinds = escape(kinds_of(sizes["stored"]))
    if sizes["different"] == 1:
        said = f"All are {width_by_height(sizes['smallest'])} pixels, width by height ({kinds})."
        return section("Sizes", f"<p>{said}</p>")
    rows = [
        (which.capitalize(), width_by_height(sizes[which]), f"{sizes[which]['part']}: {_name(found, sizes[which]['name'])}")
        for which in ("smallest", "largest")
    ]
    width, height = sizes["median"]
    rows.insert(1, ("Median of widths, of heights", f"{width:g}×{height:g}", ""))
    stored_sizes = [image.shape[:2] for image in found.inspection.readable]
    height, width = found.preprocessing.size
    smaller = sum(h < height or w < width for h, w in stored_sizes)
    pixels = f"{height} pixels" if height == width else f"{width}×{height} pixels"
    said = f"{counted(smaller, 'image is', 'images are')} smaller than the {pixels} that the network sees, and enlarged."
    return section(
        "Sizes",
        f"<p>{kinds} (format, and Pillow's mode: L is grey, P a palette).</p>",
        f"<p>{said}</p>" if smaller else "",
        table(("", "Width × height", "File"), rows),
        svg(figures.size_scatter(stored_sizes, (height, width)), "sizes"),
    )


def _normalization(found: Found) -> str:
    used, train = found.preprocessing, found.dataset.train
    rows = [
        (name, ", ".join(f"{v:.6g}" for v in measured), ", ".join(f"{v:.6g}" for v in taken))
        for name, measured, taken in (("Mean", found.mean, used.mean), ("Std", found.std, used.std))
    ]
    return section(
        "Mean and standard deviation",
        "<p>A channel each, of pixels in 0…1, as training measures them where data.mean and data.std are not given"
        + (f" (from {min(MEASURED, len(train)):,} training images at the network's size)" if isinstance(train, Resized) else "")
        + ":</p>",
        f"<pre>{escape(config_flags(found.mean, found.std))}</pre>",
        table(("", "Measured", "Used in training"), rows),
    )


def _legend(found: Found) -> str:
    """The colours of the classes, where maps are drawn."""
    if not any("map" in targets for example in found.examples for targets in example.targets):
        return ""
    names = found.dataset.class_names
    colors = overlays.class_colors(len(names)).tolist()
    swatches = (
        f'<span style="display:inline-block;margin-right:1em"><span style="background:rgb({red},{green},{blue})">&emsp;</span> '
        f"{escape(name)}</span>"
        for name, (red, green, blue) in zip(names, colors, strict=True)
    )
    return f"<p>{' '.join(swatches)}</p>"


def _sheet(found: Found) -> str:
    with_stored = any(example.stored.shape != example.evaluated.shape for example in found.examples)
    header = ("", *(["As stored"] if with_stored else []), "Evaluation", *(f"Training, {time + 1}" for time in range(TIMES)))
    rows = []
    for example in found.examples:
        label = f'{escape(figures.short(example.label, 40))}<br><small title="{escape(example.name)}">'
        name = Path(example.name).name  # its end tells it from others: a number, a record of a file
        label += f"{escape(name if len(name) <= 18 else '…' + name[-17:])}</small>"
        shown = list(zip([example.stored, example.evaluated, *example.trained], example.targets, strict=True))
        cells = [label, *(_annotated(found, *one) for one in (shown if with_stored else shown[1:]))]
        rows.append([Html(cell) for cell in cells])
    settings = found.config.data
    done = ", ".join(f"data.{name}={value!r}" for name in ("random_crop", "augment") if (value := getattr(settings, name)))
    said = (
        "As the network gets them (normalisation undone): in evaluation, and the first times that training comes to them, "
        f"at their places in the order of seed {found.config.seed} and batches of {found.config.batch_size:,}. "
        + ("What is mixed is mixed with other images of this sheet. " if found.mixes else "")
        + (f"{done}." if done else "Nothing is augmented: data.augment and data.random_crop are empty.")
    )
    return section(
        "Before and after augmentation",
        f"<p>{escape(said)}</p>",
        _legend(found),
        f'<div class="sheet">{table(header, rows)}</div>',
    )


def _annotated(found: Found, image: np.ndarray, targets: Mapping[str, np.ndarray]) -> str:
    """A picture of the sheet with its maps and boxes, drawn at the size of the page, so that names can be read."""
    import cv2

    if not targets:
        return _picture(image, 112)
    scale = SIDE / max(image.shape[:2])
    size = tuple(max(1, round(length * scale)) for length in image.shape[1::-1])
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    image = image.reshape(*image.shape[:2], -1)
    if "map" in targets:
        shown = cv2.resize(targets["map"], size, interpolation=cv2.INTER_NEAREST)
        image = overlays.draw_map(image, shown, len(found.dataset.class_names))
    if "boxes" in targets:
        image = overlays.draw_boxes(image, targets["boxes"] * scale, targets["classes"], found.dataset.class_names)
    return _picture(image, 165)


def _picture(image: np.ndarray, side: int) -> str:
    """An <img> at most `side` CSS pixels high and wide; what is small stays exact to the pixel."""
    import cv2

    height, width = image.shape[:2]
    image = image if image.shape[-1] == 3 else image[..., :1]  # of other numbers of channels, the first is shown
    photo = max(height, width) > 96
    if max(height, width) > SIDE:
        scale = SIDE / max(height, width)
        image = cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
        image = image.reshape(*image.shape[:2], -1)
    kind = "jpeg" if photo else "png"
    encoded = cv2.imencode(".jpg" if photo else ".png", image[..., ::-1])[1].tobytes()
    width, height = (max(1, round(length * side / max(height, width))) for length in (width, height))
    source = f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
    return f'<img{"" if photo else " class=pixels"} width="{width}" height="{height}" alt="" src="{source}">'


def _name(found: Found, name: str) -> str:
    """A path as it is seen from data.root."""
    root = user_path(found.config.data.root)
    root = root if root.is_dir() else root.parent
    return name.removeprefix(f"{root}{os.sep}") if found.config.data.root else name
