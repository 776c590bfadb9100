"""The suites "cpu" and "gpu" of benchmark.py: images a second of models, forward and in a train step, beside PyTorch.

Each contender is a process of its own (benchmark_jaxcnn.py, benchmark_torch.py); they take turns, a few seconds each.
"""

import contextlib
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark_process import Row, Worker, WorkerFailed, figure

from jaxcnn import start
from jaxcnn.errors import UserError

FOLDER = Path(__file__).parent


class Case(NamedTuple):
    """What a model is measured on."""

    image_size: int
    batch_size: int
    arguments: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple's field)
    classes: int = 1000
    channels: int = 3
    padded: int = 0
    """the size that the network sees, where that is more"""


CASES = {
    "cpu": {
        "lenet5": Case(28, 256, classes=10, channels=1, padded=32),
        "resnet20": Case(32, 128, classes=10),
        "resnet18": Case(32, 128, {"stem": "small"}, classes=10),
        "resnet50": Case(224, 16),
        "mobilenet_v2": Case(224, 16),
        "efficientnet_b0": Case(224, 16),
        "convnext_tiny": Case(224, 8),
        "densenet121": Case(224, 8),
        "vgg16": Case(224, 4),
    },
    "gpu": {
        name: Case(224, 256) for name in ("resnet50", "resnet18", "efficientnet_b0", "convnext_tiny", "mobilenet_v2")
    },
}  # fmt: skip


class Settings(NamedTuple):
    """How it is measured."""

    suite: str
    modes: Sequence[str]
    dtypes: Sequence[str]
    batch_size: int  # 0: the case's
    freeze: Sequence[str]  # patterns for optimizer.freeze
    rounds: int
    turn_seconds: float
    threads: int
    torch_python: str | None  # None: not measured
    compiled_modes: Sequence[str]  # on the CPU: those in which torch.compile is measured too
    compile_limit: float  # and the seconds that it may take to compile


def run(models: Sequence[str], settings: Settings, say: Callable[[str], None]) -> list[Row]:
    """A row for each model, mode and dtype. What a contender that failed said is in the row's "failed"."""
    rows = []
    cases = [(m, mode, dtype) for m in models for dtype in settings.dtypes for mode in settings.modes]
    with contextlib.ExitStack() as stack:
        peaks = {
            dtype: stack.enter_context(_ours({"contender": "peak", "dtype": dtype}, settings)) for dtype in settings.dtypes
        }
        try:
            products = {dtype: peak.answer()["flops"] for dtype, peak in peaks.items()}
        except WorkerFailed as failure:
            raise UserError(f"--suite={settings.suite}: {failure.said or failure}") from None
        for number, (model, mode, dtype) in enumerate(cases, start=1):
            row = _measure(_spec(model, mode, dtype, settings), settings, peaks[dtype], products[dtype])
            rows.append(row)
            say(f"[{number}/{len(cases)}] {_told(row)}")
    return rows


def _spec(model: str, mode: str, dtype: str, settings: Settings) -> Row:
    from jaxcnn.models.registry import image_size

    other = Case(image_size(model), {"cpu": 16, "gpu": 256}[settings.suite])
    case = CASES[settings.suite].get(model, other)
    spec = case._asdict() | {"model": model, "mode": mode, "dtype": dtype, "freeze": settings.freeze}
    return spec | {"batch_size": settings.batch_size or case.batch_size, "padded": case.padded or case.image_size}


def _measure(spec: Row, settings: Settings, peak: Worker, product: float) -> Row:
    names = ["jaxcnn"]
    if settings.torch_python:  # on a GPU nobody trains without torch.compile
        compiled = ["torch_compile"] * (spec["mode"] in settings.compiled_modes)
        names += ["torch", *compiled] if settings.suite == "cpu" else ["torch_compile"]
    row = {name: spec[name] for name in ("model", "mode", "dtype", "batch_size", "image_size", "freeze")} | {
        "suite": settings.suite
    }
    failed: Row = {}
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        ready: dict[str, Row | None] = {}

        def attempt(name: str, action: Callable[[], Any]) -> Any:
            try:
                return action()
            except WorkerFailed as failure:
                failed[name] = str(failure)
                workers.pop(name, None)
                return None

        for name in names:
            workers[name] = stack.enter_context((_ours if name == "jaxcnn" else _torch)(spec | {"contender": name}, settings))
            if name == "jaxcnn":
                ready[name] = attempt(name, workers[name].answer)  # alone: what it takes to compile is one of the figures
        for name in names[1:]:
            limit = settings.compile_limit if name == "torch_compile" and settings.suite == "cpu" else None
            ready[name] = attempt(name, lambda name=name, limit=limit: workers[name].answer(limit))  # type: ignore[misc]
        turns: dict[str, list[Row]] = {name: [] for name in names}
        products = []
        for turn in range(settings.rounds):  # to and fro, so that nobody always comes after the same
            for name in list(workers)[:: -1 if turn % 2 else 1]:
                ask = {"seconds": settings.turn_seconds, "least": 1}
                if answer := attempt(name, lambda name=name, ask=ask: workers[name].ask(ask)):  # type: ignore[misc]
                    turns[name].append(answer)
            answer = peak.ask({"seconds": settings.turn_seconds / 4, "least": 1})
            products.append(answer["steps"] * product / answer["seconds"])
    row |= _figures(turns, ready, failed, statistics.median(products))
    if row["freeze"]:
        row["peak_share"] = None  # it would count the gradients that are not computed
    return row | ({"failed": failed} if failed else {})


def _figures(turns: dict[str, list[Row]], ready: dict[str, Row | None], failed: Row, peak: float) -> Row:
    """The row's figures: ours, PyTorch's, and their ratio, which is taken within a round."""
    row: Row = dict.fromkeys(("images_per_second", "peak_share", "peak_bytes", "compile_seconds"))
    row |= {"torch_images_per_second": None, "ratio": None, "peak_flops": peak}
    ours, rates = ready.get("jaxcnn"), {}
    prefixes = ("", "torch_", "torch_compile_")
    for name, prefix in zip(turns, prefixes, strict=False):  # torch_… is eager on the CPU, torch.compile on a GPU
        answer = ready[name]
        if answer and ours and answer["parameters"] != ours["parameters"]:
            failed[name] = f"{name}: another network, of {answer['parameters']:,} parameters; ours has {ours['parameters']:,}"
        if not answer or name in failed:
            continue
        rates[name] = [turn["steps"] * answer["images_a_step"] / turn["seconds"] for turn in turns[name]]
        row |= figure(f"{prefix}images_per_second", rates[name])
        row[f"{prefix}images_per_second_best"] = max(rates[name])
        row[f"{prefix}peak_bytes"] = max(turn["peak_bytes"] for turn in turns[name])
        row[f"{prefix}compile_seconds"] = answer["compile_seconds"]
        row |= {key: answer[key] for key in ("parameters", "flops", "step_flops", "device", "versions") if key in answer}
        if prefix and "jaxcnn" in rates:
            ratios = [us / them for us, them in zip(rates["jaxcnn"], rates[name], strict=True)]
            row |= figure(f"{prefix.removeprefix('torch_')}ratio", ratios)
    if "jaxcnn" in rates:
        row["peak_share"] = row["images_per_second"] * row["flops"] / peak
    return row


def _told(row: Row) -> str:
    """A row in one line, for whoever waits."""
    figures = [f"{row['images_per_second']:,.1f} images/s" if row["images_per_second"] else "failed"]
    if row.get("step_flops"):
        figures.append(f"{row['step_flops'] / 1e9:.2f} GFLOP a step by XLA's count")
    if row["ratio"]:
        figures.append(f"{row['ratio']:.2f} × PyTorch")
    if row.get("compile_ratio"):
        figures.append(f"{row['compile_ratio']:.2f} × torch.compile")
    return f"{row['model']} {row['mode']} {row['dtype']}: " + ", ".join([*figures, *row.get("failed", {}).values()])


def _ours(spec: Row, settings: Settings) -> Worker:
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": "",  # what compiling takes is one of the figures
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # PyTorch is on the same card
        "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return _worker("benchmark_jaxcnn.py", spec, settings, sys.executable, environment)


def _torch(spec: Row, settings: Settings) -> Worker:
    return _worker("benchmark_torch.py", spec, settings, settings.torch_python, start.without_our_huge_pages(os.environ))


def _worker(program: str, spec: Row, settings: Settings, python: str | None, environment: dict[str, str]) -> Worker:
    spec = spec | {"device": settings.suite, "threads": settings.threads}
    title = " ".join(str(spec.get(name, "")) for name in ("contender", "model", "mode", "dtype"))
    return Worker(str(FOLDER / program), spec, title=" ".join(title.split()), python=python, environment=environment)
