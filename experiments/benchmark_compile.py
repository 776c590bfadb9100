"""The suite "compile" of benchmark.py: seconds from a command to its first step, and to what is imported for it.

Training starts as a person starts it, experiments/train.py on data of the usual size (of noise), with an empty cache of
compiled programs and again with what that left there; it is ended when its first step has been told.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from benchmark_models import CASES, FOLDER, Case
from benchmark_process import Row, WorkerFailed, figure

MODELS = (*CASES["cpu"], "resnet110", "resnet1202")
AIMS = {"lenet5": 6.0, "resnet18": 15.0}
"""Seconds to the first step on 2 cores."""


def run(models: Sequence[str], rounds: int, say: Callable[[str], None]) -> list[Row]:
    """A row for each model, and one for each command and what may be imported."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for number, model in enumerate(models, start=1):
            arguments, batch_size, image_size = _training(model, Path(temporary))
            row: Row = {"suite": "compile", "part": "start", "name": model, "model": model, "mode": "train"}
            row |= {"dtype": "float32", "batch_size": batch_size, "image_size": image_size}
            try:
                cold, cached = zip(*(_starts(arguments, Path(temporary)) for _ in range(rounds)), strict=True)
                row |= figure("cold_seconds", cold) | figure("cached_seconds", cached)
                message = f"{row['cold_seconds']:.1f} s to the first step, {row['cached_seconds']:.1f} s with the cache"
            except WorkerFailed as failure:
                message = str(failure)
                row |= {"cold_seconds": None, "cached_seconds": None, "failed": {"jaxcnn": message}}
            rows.append(row | ({"aim": f"cold_seconds <= {AIMS[model]:g}"} if model in AIMS else {}))
            say(f"[{number}/{len(models)}] {model}: {message}")
    return rows + _imports(rounds)


def _training(model: str, folder: Path) -> tuple[list[str], int, int]:
    """Arguments of train.py, batch size and image size."""
    case = CASES["cpu"].get(model, Case(224, 16))
    if model.startswith("lenet"):
        return ["--config=configs/lenet5_digits.py"], 64, 32
    if model in ("resnet20", "resnet18", "resnet110", "resnet1202"):
        depth = model.removeprefix("resnet") if model != "resnet18" else "20"
        changes = ["--config.model.name=resnet18", "--config.model.arguments.stem=small"] if model == "resnet18" else []
        batch_size = 8 if model == "resnet1202" else 128  # a scan's step is slow on CPU, and is not what is asked about
        changes.append(f"--config.batch_size={batch_size}")
        return (
            [f"--config=configs/resnet_cifar10.py:{depth}", f"--config.data.root={_cifar10(folder)}", *changes],
            batch_size,
            32,
        )
    return [
        "--config=configs/arrays.py", f"--config.data.root={_photos(folder)}", f"--config.model.name={model}",
        f"--config.batch_size={case.batch_size}", "--config.schedule.warmup=0steps",
    ], case.batch_size, 224  # fmt: skip


def _cifar10(folder: Path) -> Path:
    """60,000 images of noise in the form of CIFAR-10's files."""
    folder, generator = folder / "cifar-10-batches-bin", np.random.default_rng(0)
    if not folder.exists():
        folder.mkdir()
        (folder / "batches.meta.txt").write_text("".join(f"class{label}\n" for label in range(10)))
        for name in (*(f"data_batch_{part}" for part in range(1, 6)), "test_batch"):
            records = generator.integers(0, 256, (10_000, 3073), np.uint8)
            records[:, 0] = np.arange(10_000) % 10
            records.tofile(folder / f"{name}.bin")
    return folder


def _photos(folder: Path) -> Path:
    """64 images of 224×224 of noise, of 1,000 classes."""
    file, generator = folder / "photos.npz", np.random.default_rng(0)
    if not file.exists():
        arrays = {"class_names": np.arange(1000).astype(str)}
        for part in ("train", "val", "test"):
            arrays[f"{part}_images"] = generator.integers(0, 256, (64, 224, 224, 3), np.uint8)
            arrays[f"{part}_labels"] = generator.integers(0, 1000, 64)
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return file


def _starts(arguments: Sequence[str], folder: Path) -> list[float]:
    """Seconds to the first step with an empty cache, and with what this left in it."""
    cache, workdir = folder / "xla", folder / "run"
    shutil.rmtree(cache, ignore_errors=True)
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    seconds = []
    for _ in ("cold", "cached"):
        shutil.rmtree(workdir, ignore_errors=True)
        seconds.append(_seconds_to_first_step([*arguments, f"--workdir={workdir}", "--config.log.every=1steps"], environment))
    return seconds


def _seconds_to_first_step(arguments: Sequence[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "experiments/train.py", *arguments], cwd=FOLDER.parent, env=environment | _found(environment),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = ""
        for line in process.stdout:
            if line.split()[:2] == ["step", "1"]:
                return time.perf_counter() - start
        raise WorkerFailed(f"train.py {' '.join(arguments)}: {line.strip()}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _imports(rounds: int) -> list[Row]:
    """Seconds of each command's --help, of a config's reading, and of what may be imported."""
    commands = {
        f"{file.name} --help": [str(file), "--help"]
        for file in sorted(FOLDER.glob("*.py"))
        if file.read_text(encoding="utf-8").endswith("command.run(main)\n")
    }
    parse = ["experiments/train.py", "--config=configs/resnet_cifar10.py:20", "--print_config"]
    commands |= {"train.py --print_config": parse}
    commands |= {f"import {name}": ["-c", f"import {name}"] for name in ("jax", "jaxcnn", "jaxcnn.models", "jaxcnn.train")}
    measured: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, *command], cwd=FOLDER.parent, env=os.environ | _found(os.environ), capture_output=True
            )
            measured[name].append(time.perf_counter() - start)
    common: Row = {"suite": "compile", "part": "import"}
    return [common | {"name": name} | figure("seconds", seconds) for name, seconds in measured.items()]


def _found(environment: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """So that this checkout's jaxcnn is the one that is imported."""
    return {"PYTHONPATH": os.pathsep.join([str(FOLDER.parent), *filter(None, [environment.get("PYTHONPATH")])])}
