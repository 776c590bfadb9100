"""The suite "compile" of benchmark.py: seconds from the start of a command to its first step, and import times.

Training is started as a user would start it, with experiments/train.py on noise of the usual size, once with an empty
compilation cache and once with the programs that the first start cached. It is stopped when its first step is printed.
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

MODELS = (*(model for model, case in CASES["cpu"].items() if case.task == "classification"), "resnet110", "resnet1202")
AIMS = {"lenet5": 6.0, "resnet18": 15.0}
"""Target: seconds to the first step on 2 cores."""


def run(models: Sequence[str], rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Returns a row for each model, each command and each imported package."""
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
    """Returns the arguments of train.py, the batch size and the image size."""
    case = CASES["cpu"].get(model, Case(224, 16))
    if model.startswith("lenet"):
        return ["--config=configs/lenet5_digits.py"], 64, 32
    if model in ("resnet20", "resnet18", "resnet110", "resnet1202"):
        depth = model.removeprefix("resnet") if model != "resnet18" else "20"
        changes = ["--config.model.name=resnet18", "--config.model.arguments.stem=small"] if model == "resnet18" else []
        batch_size = (
            8 if model == "resnet1202" else 128
        )  # a step is slow on CPU because of its scan, and is not what is measured
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
    """Writes 60,000 images of noise in the format of CIFAR-10. Returns their folder."""
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
    """Writes 64 images of noise per split, 224×224 pixels, 1,000 classes. Returns the .npz file."""
    file, generator = folder / "photos.npz", np.random.default_rng(0)
    if not file.exists():
        arrays = {"class_names": np.arange(1000).astype(str)}
        for part in ("train", "val", "test"):
            arrays[f"{part}_images"] = generator.integers(0, 256, (64, 224, 224, 3), np.uint8)
            arrays[f"{part}_labels"] = generator.integers(0, 1000, 64)
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return file


def _starts(arguments: Sequence[str], folder: Path) -> list[float]:
    """Returns the seconds to the first step with an empty compilation cache, and with the cache of the first start."""
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
        [sys.executable, "experiments/train.py", *arguments], cwd=FOLDER.parent, env=environment | _with_checkout(environment),
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
    """Measures each command's --help, reading a config, and importing packages, in seconds."""
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
                [sys.executable, *command], cwd=FOLDER.parent, env=os.environ | _with_checkout(os.environ), capture_output=True
            )
            measured[name].append(time.perf_counter() - start)
    common: Row = {"suite": "compile", "part": "import"}
    return [common | {"name": name} | figure("seconds", seconds) for name, seconds in measured.items()]


def _with_checkout(environment: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """Returns a PYTHONPATH with which the jaxcnn of this checkout is imported."""
    return {"PYTHONPATH": os.pathsep.join([str(FOLDER.parent), *filter(None, [environment.get("PYTHONPATH")])])}
