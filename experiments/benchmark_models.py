"""The suites "cpu" and "gpu" of benchmark.py: images per second of models in the forward pass and the train step.

jaxcnn and PyTorch run in separate processes (benchmark_jaxcnn.py, benchmark_torch.py), measured alternately for some seconds.
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
    """The input and the arguments with which a model is measured."""

    image_size: int
    batch_size: int
    arguments: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple's field)
    classes: int = 1000
    channels: int = 3
    padded: int = 0
    """size of the network's input after zero padding; 0 = image_size"""
    task: str = "classification"


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
        "fcn_resnet50": Case(224, 4, classes=21, task="segmentation"),
    },
    "gpu": {
        name: Case(224, 256) for name in ("resnet50", "resnet18", "efficientnet_b0", "convnext_tiny", "mobilenet_v2")
    },
}  # fmt: skip


class BenchmarkSettings(NamedTuple):
    """What is measured and for how long, from the flags of benchmark.py."""

    suite: str
    modes: Sequence[str]
    dtypes: Sequence[str]
    batch_size: int  # 0: that of the model's case
    freeze: Sequence[str]  # patterns for optimizer.freeze
    rounds: int
    turn_seconds: float
    threads: int
    torch_python: str | None  # None: PyTorch is not measured
    compiled_modes: Sequence[str]  # on the CPU: modes in which torch.compile is measured too
    compile_limit: float  # on the CPU: seconds after which torch.compile is stopped


def run(models: Sequence[str], settings: BenchmarkSettings, say: Callable[[str], None]) -> list[Row]:
    """Returns a row for each model, mode and dtype. The row's "failed" has the messages of contenders that failed."""
    rows = []
    cases = [(m, mode, dtype) for m in models for dtype in settings.dtypes for mode in settings.modes]
    with contextlib.ExitStack() as stack:
        peaks = {
            dtype: stack.enter_context(_jaxcnn({"contender": "peak", "dtype": dtype}, settings)) for dtype in settings.dtypes
        }
        try:
            products = {dtype: peak.answer()["flops"] for dtype, peak in peaks.items()}
        except WorkerFailed as failure:
            raise UserError(f"--suite={settings.suite}: {failure.last_line or failure}") from None
        for number, (model, mode, dtype) in enumerate(cases, start=1):
            row = _measure(_spec(model, mode, dtype, settings), settings, peaks[dtype], products[dtype])
            rows.append(row)
            say(f"[{number}/{len(cases)}] {_summary(row)}")
    return rows


def _spec(model: str, mode: str, dtype: str, settings: BenchmarkSettings) -> Row:
    from jaxcnn.models.registry import find

    found, classes = find(model), {"classification": 1000, "segmentation": 21}
    batch_size = {"cpu": 16, "gpu": 256}[settings.suite]
    default = Case(found.image_size, batch_size, classes=classes[found.task], task=found.task)
    case = CASES[settings.suite].get(model.removeprefix("torchvision/"), default)
    spec = case._asdict() | {"model": model, "mode": mode, "dtype": dtype, "freeze": settings.freeze}
    return spec | {"batch_size": settings.batch_size or case.batch_size, "padded": case.padded or case.image_size}


def _measure(spec: Row, settings: BenchmarkSettings, peak: Worker, product: float) -> Row:
    names = ["jaxcnn"]
    if settings.torch_python:  # on a GPU only with torch.compile, as it is commonly used
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
            workers[name] = stack.enter_context((_jaxcnn if name == "jaxcnn" else _torch)(spec | {"contender": name}, settings))
            if name == "jaxcnn":
                ready[name] = attempt(name, workers[name].answer)  # while no other one runs: compile time is a metric
        for name in names[1:]:
            limit = settings.compile_limit if name == "torch_compile" and settings.suite == "cpu" else None
            ready[name] = attempt(name, lambda name=name, limit=limit: workers[name].answer(limit))  # type: ignore[misc]
        turns: dict[str, list[Row]] = {name: [] for name in names}
        products = []
        for turn in range(settings.rounds):  # forward and backward, so that no contender always follows the same one
            for name in list(workers)[:: -1 if turn % 2 else 1]:
                ask = {"seconds": settings.turn_seconds, "least": 1}
                if answer := attempt(name, lambda name=name, ask=ask: workers[name].ask(ask)):  # type: ignore[misc]
                    turns[name].append(answer)
            answer = peak.ask({"seconds": settings.turn_seconds / 4, "least": 1})
            products.append(answer["steps"] * product / answer["seconds"])
    row |= _figures(turns, ready, failed, statistics.median(products))
    if row["freeze"]:
        row["peak_share"] = None  # its FLOPs would include gradients that are not computed
    return row | ({"failed": failed} if failed else {})


def _figures(turns: dict[str, list[Row]], ready: dict[str, Row | None], failed: Row, peak: float) -> Row:
    """Returns the row's metrics: jaxcnn's, PyTorch's, and their ratio, computed per round."""
    row: Row = dict.fromkeys(("images_per_second", "peak_share", "peak_bytes", "compile_seconds"))
    row |= {"torch_images_per_second": None, "ratio": None, "peak_flops": peak}
    jaxcnn, rates = ready.get("jaxcnn"), {}
    prefixes = ("", "torch_", "torch_compile_")
    for name, prefix in zip(turns, prefixes, strict=False):  # torch_… is eager on the CPU, torch.compile on a GPU
        answer = ready[name]
        if answer and jaxcnn and answer["parameters"] != jaxcnn["parameters"]:
            parameters = f"{answer['parameters']:,} parameters, but jaxcnn's has {jaxcnn['parameters']:,}"
            failed[name] = f"{name}: the networks differ: {name}'s has {parameters}"
        if not answer or name in failed:
            continue
        rates[name] = [turn["steps"] * answer["images_per_call"] / turn["seconds"] for turn in turns[name]]
        row |= figure(f"{prefix}images_per_second", rates[name])
        row[f"{prefix}images_per_second_best"] = max(rates[name])
        row[f"{prefix}peak_bytes"] = max(turn["peak_bytes"] for turn in turns[name])
        row[f"{prefix}compile_seconds"] = answer["compile_seconds"]
        row |= {key: answer[key] for key in ("parameters", "flops", "step_flops", "device", "versions") if key in answer}
        if prefix and "jaxcnn" in rates:
            ratios = [rate / torch_rate for rate, torch_rate in zip(rates["jaxcnn"], rates[name], strict=True)]
            row |= figure(f"{prefix.removeprefix('torch_')}ratio", ratios)
    if "jaxcnn" in rates:
        row["peak_share"] = row["images_per_second"] * row["flops"] / peak
    return row


def _summary(row: Row) -> str:
    """Returns a row as one line, for the terminal."""
    metrics = [f"{row['images_per_second']:,.1f} images/s" if row["images_per_second"] else "failed"]
    if row.get("step_flops"):
        metrics.append(f"{row['step_flops'] / 1e9:.2f} GFLOP per step by XLA's count")
    if row["ratio"]:
        metrics.append(f"{row['ratio']:.2f} × PyTorch")
    if row.get("compile_ratio"):
        metrics.append(f"{row['compile_ratio']:.2f} × torch.compile")
    return f"{row['model']} {row['mode']} {row['dtype']}: " + ", ".join([*metrics, *row.get("failed", {}).values()])


def _jaxcnn(spec: Row, settings: BenchmarkSettings) -> Worker:
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": "",  # compile time is a metric
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # PyTorch uses the same GPU
        "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return _worker("benchmark_jaxcnn.py", spec, settings, sys.executable, environment)


def _torch(spec: Row, settings: BenchmarkSettings) -> Worker:
    return _worker("benchmark_torch.py", spec, settings, settings.torch_python, start.without_our_huge_pages(os.environ))


def _worker(program: str, spec: Row, settings: BenchmarkSettings, python: str | None, environment: dict[str, str]) -> Worker:
    spec = spec | {"device": settings.suite, "threads": settings.threads}
    title = " ".join(str(spec.get(name, "")) for name in ("contender", "model", "mode", "dtype"))
    return Worker(str(FOLDER / program), spec, title=" ".join(title.split()), python=python, environment=environment)
