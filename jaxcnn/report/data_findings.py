"""The findings about a data set as plain values for JSON, and as a few lines of text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxcnn.data.inspect import Inspection, Seen
from jaxcnn.report.data_found import Found
from jaxcnn.report.html import counted


def findings(found: Found) -> dict[str, Any]:
    """Returns the findings as plain values, which `show_data.py --json` writes."""
    inspection, dataset, names = found.inspection, found.dataset, found.dataset.class_names
    labels = [counts for counts in found.counts if counts.field == "label"]
    sizes = [(image.shape[0], image.shape[1]) for image in inspection.readable]
    by_area = sorted(inspection.readable, key=lambda image: image.shape[0] * image.shape[1])
    return {
        "data": found.config.data.name,
        "root": found.config.data.root,
        "notes": list(dataset.notes),
        "images": inspection.sizes,
        "looked_at": len(inspection.seen),
        "class_names": list(names),
        "classes": labels[0].by_name() if labels else {},
        "imbalance": labels[0].imbalance() if labels else "",
        "targets": {
            counts.field: {"counted": counts.units, "classes": counts.by_name(), "imbalance": counts.imbalance()}
            for counts in found.counts
            if counts.field != "label"
        },
        "overlap": {" & ".join(pair): count for pair, count in inspection.overlaps().items()},
        "readable": {part: sum(image.part == part for image in inspection.readable) for part in inspection.sizes},
        "distinct": inspection.distinct(),
        "contradicting": count_contradicting(inspection),
        "identical": [
            [{"part": i.part, "name": i.name, "classes": [names[label] for label in i.labels]} for i in group]
            for group in inspection.identical
        ],
        "unreadable": [{"part": i.part, "name": i.name, "reason": i.problem} for i in inspection.unreadable],
        "sizes": {
            "smallest": _size_and_name(by_area[0]),
            "largest": _size_and_name(by_area[-1]),
            "median": [float(np.median([width for _, width in sizes])), float(np.median([height for height, _ in sizes]))],
            "different": len(set(sizes)),
            "stored": dict(Counter(_stored_as(image) for image in inspection.readable).most_common()),
        }
        if sizes
        else {},
        "mean": list(found.mean),
        "std": list(found.std),
        "seconds": found.seconds,
    }


def as_text(findings: Mapping[str, Any]) -> str:
    """Returns the findings as a few lines of text, problems first."""
    images, sizes = findings["images"], findings["sizes"]
    splits = ", ".join(f"{n:,} {split}" for split, n in images.items())
    lines = [f"{findings['data']}: {counted(sum(images.values()), 'image')} ({splits})"]
    lines += findings["notes"]
    if findings["looked_at"] < sum(images.values()):
        lines.append(f"examined: {findings['looked_at']:,} of them, evenly spaced (--sample)")
    shared = [
        f"{counted(count, 'image')} in both {pair.replace(' & ', ' and ')}" for pair, count in findings["overlap"].items()
    ]
    lines.append("overlap: " + (", ".join(shared) if shared else "none between splits"))
    surplus = {split: findings["readable"][split] - distinct for split, distinct in findings["distinct"].items()}
    copies = [f"{counted(count, 'copy', 'copies')} within {split}" for split, count in surplus.items() if count]
    lines.append("duplicates: " + (", ".join(copies) if copies else "none within a split"))
    if findings["contradicting"]:
        lines[-1] += f"; {counted(findings['contradicting'], 'image')} with different labels"
    unreadable = findings["unreadable"]
    names = "".join(f"\n  {image['name']}: {image['reason']}" for image in unreadable[:10])
    lines.append(f"unreadable: {len(unreadable) or 'none'}{names}")
    if len(unreadable) > 10:
        lines.append(f"  … and {len(unreadable) - 10:,} more")
    if findings["classes"]:
        lines.append(f"classes: {len(findings['class_names'])}; {findings['imbalance']}")
    for field, counts in findings["targets"].items():
        target = {"map": "maps (pixels)", "boxes": "boxes"}[field]
        lines.append(f"classes of {target}: {len(findings['class_names'])}; {counts['imbalance']}")
    if sizes:
        lines.append(
            f"sizes: {width_by_height(sizes['smallest'])}"
            + (f" to {width_by_height(sizes['largest'])}" if sizes["different"] > 1 else "")
            + f" ({kinds_of(sizes['stored'])})"
        )
    lines.append(config_flags(findings["mean"], findings["std"]))
    lines.append(f"{findings['seconds']:.1f} s")
    return "\n".join(lines)


def count_contradicting(inspection: Inspection) -> int:
    """Returns the number of distinct images that occur with different labels."""
    return sum(len({image.labels for image in group}) > 1 for group in inspection.identical)


def _stored_as(image: Seen) -> str:
    return image.stored or counted(image.shape[2], "channel")


def kinds_of(counts: Mapping[str, int]) -> str:
    """Returns the kinds of images with their counts, such as "JPEG, RGB: 3,670; PNG, L: 12"."""
    return "; ".join(f"{kind}: {count:,}" for kind, count in counts.items())


def _size_and_name(image: Seen) -> dict[str, Any]:
    return {"width": image.shape[1], "height": image.shape[0], "part": image.part, "name": image.name}


def width_by_height(size: Mapping[str, Any]) -> str:
    """Returns a size as text, such as 640×480 for a width of 640 pixels."""
    return f"{size['width']}×{size['height']}"


def config_flags(mean: Sequence[float], std: Sequence[float]) -> str:
    """Returns mean and standard deviation as command-line options. Six digits exceed the precision of 8-bit pixels."""
    return " ".join(
        f"--config.data.{name}={','.join(f'{value:.6g}' for value in values)}"
        for name, values in (("mean", mean), ("std", std))
    )
