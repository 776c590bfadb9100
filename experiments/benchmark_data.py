"""The suite "data" of benchmark.py: reading photos, augmenting CIFAR, memory and startup time for large folders.

Every contender runs in a separate process (benchmark_contenders.py); the contenders are measured alternately.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import benchmark_contenders
import numpy as np
from benchmark_contenders import HEIGHT, SIZE, WIDTH
from benchmark_process import Row, Worker, figure

from jaxcnn import data

# By default glibc returns the memory of a freed photo to the system, and every page of the next photo causes a page fault:
# 254 per photo, a third of the time.
KEEP = {"MALLOC_TRIM_THRESHOLD_": str(2**26), "MALLOC_MMAP_THRESHOLD_": str(2**26)}


def run(
    *,
    parts: Sequence[str] = ("jpeg", "cifar", "memory"),
    rounds: int = 5,
    images: int = 200,
    batches: int = 16,
    batch_size: int = 64,
    threads: Sequence[int] = (1, 2, 4),
    workers: int = 2,
    files: Sequence[int] = (1_000, 50_000),
    model: str = "resnet20",
    pythons: dict[str, str] | None = None,
) -> list[Row]:
    """Returns the rows of `parts`. `pythons` maps "torch" and "tensorflow" to their interpreters, if they are measured."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        photos = _make_photos(root / "photos", images)
        common = {"root": str(root / "photos"), "batch_size": batch_size, "batches": batches}
        if "jpeg" in parts:
            rows += _jpeg(common, rounds, threads, workers, pythons or {})
        if "cifar" in parts:
            rows += _child({"contender": "cifar", "root": temporary, "rounds": 4 * rounds, "model": model})
        if "memory" in parts:
            for count in files:
                _make_links(root / f"{count}", photos, count)
            rows += _memory(root, common, min(rounds, 3), files)
    return [{"suite": "data", **row} for row in rows]


def _make_photos(root: Path, count: int) -> list[Path]:
    """Writes JPEGs of 400×500 pixels in two folders, cut out of scikit-learn's two photos. Returns their paths."""
    import cv2
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    paths = []
    originals = load_sample_images().images
    for index in range(count):
        photo = originals[index % 2]
        height = int(generator.integers(240, photo.shape[0]))
        width = height * WIDTH // HEIGHT
        top, left = (int(generator.integers(n)) for n in (photo.shape[0] - height, photo.shape[1] - width))
        part = cv2.resize(photo[top : top + height, left : left + width], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        paths.append(root / f"class{index % 2}" / f"{index}.jpg")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(paths[-1]), part[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def _make_links(root: Path, photos: Sequence[Path], count: int, classes: int = 50) -> None:
    for index in range(count):
        link = root / f"class{index % min(classes, count // 50)}" / f"{index}.jpg"
        if index < classes:
            link.parent.mkdir(parents=True, exist_ok=True)
        os.link(photos[index % len(photos)], link)


def _jpeg(common: Row, rounds: int, threads: Sequence[int], workers: int, pythons: dict[str, str]) -> list[Row]:
    """Measures images per second and per CPU-second, and their ratios to the plain decoder in the same round."""
    cores = data.cores()
    bare: Row = {"contender": "bare", "workers": 0}
    specs: list[Row] = [bare | {"threads": 1, "keep": True}, bare | {"threads": cores, "keep": True}, bare | {"threads": 1}]
    specs += [{"contender": "jaxcnn", "threads": n, "workers": 0} for n in threads]
    specs += [{"contender": "jaxcnn", "threads": threads[-1], "workers": 0, "keep": True}]
    specs += [{"contender": "jaxcnn", "threads": 1, "workers": workers}] * bool(workers)
    if "torch" in pythons:
        specs.append({"contender": "torch", "threads": 0, "workers": cores})
    if "tensorflow" in pythons:
        specs += [
            {"contender": "tensorflow", "threads": cores, "workers": 0, "whole": full_photo} for full_photo in (False, True)
        ]
    with contextlib.ExitStack() as stack:
        contenders = [stack.enter_context(_contender(common | spec, pythons)) for spec in specs]
        measured = []
        for turn in range(rounds):  # forward and backward, so that no contender always follows the same one
            results = [contender.ask() for contender in contenders[:: -1 if turn % 2 else 1]]
            measured.append(results[:: -1 if turn % 2 else 1])
    number = common["batches"] * common["batch_size"]
    rows = []
    for index, spec in enumerate(specs):
        seconds, cpu = zip(*(turn[index] for turn in measured), strict=True)
        row: Row = {"part": "jpeg", "name": _title(spec), **spec, "image_size": SIZE, "batch_size": common["batch_size"]}
        row |= figure("images_per_second", [number / s for s in seconds])
        row |= figure("images_per_cpu_second", [number / c for c in cpu])
        row |= figure("ratio", [turn[0][1] / turn[index][1] for turn in measured])  # to OpenCV with one thread
        row |= figure("wall_ratio", [turn[1][0] / turn[index][0] for turn in measured])  # to OpenCV on all cores
        rows.append(row | ({"aim": "ratio >= 0.9"} if spec["contender"] == "jaxcnn" else {}))
    return rows


def _contender(spec: Row, pythons: dict[str, str]) -> Worker:
    return Worker(
        benchmark_contenders.__file__, spec, title=_title(spec), python=pythons.get(spec["contender"]),
        environment=os.environ | (KEEP if spec.get("keep") else {}),
    )  # fmt: skip


def _title(spec: Row) -> str:
    number, kind = (spec["workers"], "process") if spec["workers"] else (spec["threads"], "thread")
    plural = "" if number == 1 else "es" if kind == "process" else "s"
    named = {"bare": "OpenCV alone", "torch": "DataLoader with OpenCV", "tensorflow": "tf.data"}
    decoded = ", whole photos decoded" if spec.get("whole") else ""
    keep = ", memory kept" if spec.get("keep") else ""
    return f"{named.get(spec['contender'], spec['contender'])}{decoded}, {number} {kind}{plural}{keep}"


def _memory(root: Path, common: Row, rounds: int, files: Sequence[int]) -> list[Row]:
    """Measures peak memory and seconds to the first batch, each time in a new process."""
    measured: dict[int, list[Row]] = {count: [] for count in files}
    for _, count in itertools.product(range(rounds), files):
        measured[count].append(_child(common | {"contender": "memory", "root": str(root / str(count))}))
    rows = []
    for count, turns in measured.items():
        row = {"part": "memory", "name": f"{count:,} files", "files": count, "batch_size": common["batch_size"]}
        for name in turns[0]:
            row |= figure(name, [turn[name] for turn in turns])
        rows.append(row | {"aim": "first_batch_seconds <= 3, peak_bytes flat"})
    return rows


def _child(spec: Row) -> Any:
    """Runs a process that measures once. Returns its result."""
    process = subprocess.run(
        [sys.executable, benchmark_contenders.__file__, json.dumps(spec)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(process.stdout)
