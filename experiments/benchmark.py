"""Measures speed: python experiments/benchmark.py --suite=data --json=results/benchmarks/data.json.

Prints a table of medians (and ranges); --json=FILE keeps it as a list of rows. --against=torch,tensorflow measures these
in the same run, with the interpreters --torch_python and --tensorflow_python, which need not have JAX. What the rows
mean, and what was found, is in docs/performance.md.
"""

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import benchmark_data
from absl import flags
from ml_collections import ConfigDict

from jaxcnn import command
from jaxcnn.errors import UserError

PARTS = ("jpeg", "cifar", "memory")

_SUITE = flags.DEFINE_enum("suite", "data", ["data"], "what is measured")
_PARTS = flags.DEFINE_list("parts", list(PARTS), f"which parts of it: {', '.join(PARTS)}")
_JSON = flags.DEFINE_string("json", None, "file that keeps the rows")
_AGAINST = flags.DEFINE_list("against", [], "torch, tensorflow: measured too")
_TORCH = flags.DEFINE_string("torch_python", None, "an interpreter with torch, numpy and opencv-python-headless")
_TENSORFLOW = flags.DEFINE_string("tensorflow_python", None, "an interpreter with tensorflow")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "how often the contenders take turns", lower_bound=1)
_IMAGES = flags.DEFINE_integer("images", 200, "different photos that are made", lower_bound=20)
_BATCHES = flags.DEFINE_integer("batches", 16, "batches a turn", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "photos a batch", lower_bound=1)
_THREADS = flags.DEFINE_list("threads", ["1", "2", "4"], "threads that our reader is measured with")
_WORKERS = flags.DEFINE_integer("workers", 2, "processes that it is measured with; 0 = none", lower_bound=0)
_FILES = flags.DEFINE_list("files", ["1000", "50000"], "sizes of the folders of the part memory")
_MODELS = flags.DEFINE_list("models", ["resnet20"], "the model whose step the part cifar is compared with")


def main(arguments: Sequence[str], config: ConfigDict | None) -> None:
    """Measures, prints, keeps."""
    if arguments or config is not None:
        raise UserError("benchmark.py takes flags alone, and no config")
    for part in _PARTS.value:
        if part not in PARTS:
            raise UserError(f"--parts: {part!r} is none of {', '.join(PARTS)}")
    interpreters = {"torch": _TORCH.value, "tensorflow": _TENSORFLOW.value}
    for name in _AGAINST.value:
        if name not in interpreters:
            raise UserError(f"--against: {name!r} is none of {', '.join(interpreters)}")
        if not interpreters[name]:
            raise UserError(f"--against={name}: say with which interpreter, --{name}_python=PATH")
    rows = benchmark_data.run(
        parts=_PARTS.value,
        rounds=_ROUNDS.value,
        images=_IMAGES.value,
        batches=_BATCHES.value,
        batch_size=_BATCH_SIZE.value,
        threads=_integers("threads", _THREADS.value, 1),
        workers=_WORKERS.value,
        files=_integers("files", _FILES.value, 100),
        model=_MODELS.value[0],
        pythons={name: interpreters[name] for name in _AGAINST.value},
    )
    rows.insert(0, {"suite": _SUITE.value, "part": "machine", **_machine()})
    print(table(rows))
    if _JSON.value:
        Path(_JSON.value).parent.mkdir(parents=True, exist_ok=True)
        Path(_JSON.value).write_text(json.dumps(rows, indent=1) + "\n")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown, one table a part, medians with their ranges."""
    columns = {
        "jpeg": ("images_per_second", "images_per_cpu_second", "ratio", "wall_ratio"),
        "cifar": ("seconds", "cpu_seconds", "share", "cpu_share"),
        "memory": ("peak_bytes", "grown_bytes", "load_seconds", "first_batch_seconds", "statistics_seconds"),
    }
    lines = []
    for part, figures in columns.items():
        of_part = [row for row in rows if row["part"] == part]
        if of_part:
            lines += ["", f"| {part} | {' | '.join(figure.replace('_', ' ') for figure in figures)} |"]
            lines += ["|---" * (len(figures) + 1) + "|"]
            lines += [f"| {row['name']} | {' | '.join(_cell(row, figure) for figure in figures)} |" for row in of_part]
    return "\n".join(lines[1:])


def _cell(row: dict[str, Any], figure: str) -> str:
    def number(value: float) -> str:
        if figure.endswith("bytes"):
            return f"{value / 2**20:,.0f} MiB"
        if figure.endswith("share"):
            return f"{value:.1%}"
        return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value * 1000:.2f}e-3"

    low_high = row.get(f"{figure}_range")
    return number(row[figure]) + (f" ({number(low_high[0])} to {number(low_high[1])})" if low_high else "")


def _machine() -> dict[str, Any]:
    """Hardware and versions."""
    names = ("jax", "flax", "grain", "numpy", "opencv-python-headless")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return {
        "name": name,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def _integers(flag: str, texts: Sequence[str], least: int) -> list[int]:
    if not texts or not all(text.isdecimal() and int(text) >= least for text in texts):
        raise UserError(f"--{flag}: {','.join(texts)!r} should be whole numbers, {least} or more, with commas between them")
    return [int(text) for text in texts]


if __name__ == "__main__":
    command.run(main)
