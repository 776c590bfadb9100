"""Measures speed: python experiments/benchmark.py --suite=cpu --json=results/benchmarks/cpu.json.

    cpu      images per second of ten models, for the forward pass and the train step, in float32
    gpu      the same for five models in bfloat16 at batch size 256
    compile  seconds from the start of train.py to its first step, with and without the compilation cache; import times
    data     reading photos, augmentation, memory

Prints a table of medians (and ranges); --json=FILE saves the rows. --against=torch measures PyTorch in the same run, with the
interpreter that `make bench-env` installs (or --torch_python), which does not need JAX. --page updates the tables of
docs/performance.md, which explains the rows and the results, from results/benchmarks.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from benchmark_process import Row
from benchmark_tables import PAGE, ROOT, page, table

from jaxcnn import command
from jaxcnn.config import Config
from jaxcnn.errors import UserError

PARTS = ("jpeg", "cifar", "memory")
ROUNDS = {"cpu": 3, "gpu": 5, "compile": 2, "data": 5}

_SUITE = flags.DEFINE_enum("suite", "cpu", list(ROUNDS), "what to measure")
_JSON = flags.DEFINE_string("json", None, "JSON file for the rows")
_PAGE = flags.DEFINE_bool("page", False, "update the tables of docs/performance.md instead of measuring")
_MODELS = flags.DEFINE_list(
    "models", None, "models to measure (data: the model whose train step is the reference); None = those of the suite"
)
_AGAINST = flags.DEFINE_list("against", [], "libraries to compare with: torch (cpu, gpu, data), tensorflow (data)")
_TORCH = flags.DEFINE_string("torch_python", None, "Python interpreter with PyTorch; None = that of `make bench-env`")
_TENSORFLOW = flags.DEFINE_string("tensorflow_python", None, "Python interpreter with TensorFlow")
_ROUNDS = flags.DEFINE_integer(
    "rounds", None, f"number of rounds, in each of which every contender is measured once; None = {ROUNDS}", lower_bound=1
)
_MODES = flags.DEFINE_list("modes", ["forward", "train"], "cpu, gpu: forward (pass), train (step)")
_DTYPES = flags.DEFINE_list("dtypes", None, "cpu, gpu: float32, bfloat16; None = float32 on cpu, bfloat16 on gpu")
_TURN = flags.DEFINE_float("turn_seconds", 2.0, "cpu, gpu: minimum seconds per measurement", lower_bound=0.0)
_COMPILED = flags.DEFINE_list("torch_compile", ["train"], "cpu: modes in which torch.compile is measured in addition to eager")
_LIMIT = flags.DEFINE_float("compile_limit", 120.0, "cpu: seconds after which torch.compile is stopped", lower_bound=1.0)
_FREEZE = flags.DEFINE_list("freeze", [], "cpu, gpu: patterns for optimizer.freeze, with --modes=train")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "images per batch; 0 = that of each model's case, data: 64", lower_bound=0)
_PARTS = flags.DEFINE_list("parts", list(PARTS), f"data: what to measure: {', '.join(PARTS)}")
_IMAGES = flags.DEFINE_integer("images", 200, "data: number of different photos to generate", lower_bound=20)
_BATCHES = flags.DEFINE_integer("batches", 16, "data: batches per measurement", lower_bound=1)
_THREADS = flags.DEFINE_list("threads", ["1", "2", "4"], "data: numbers of threads with which jaxcnn's reader is measured")
_WORKERS = flags.DEFINE_integer(
    "workers", 2, "data: number of processes with which jaxcnn's reader is measured; 0 = none", lower_bound=0
)
_FILES = flags.DEFINE_list("files", ["1000", "50000"], "data: numbers of files in the folders for memory")


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Measures, prints the table and saves the rows; with --page, updates the tables of docs/performance.md."""
    if arguments or config is not None:
        raise UserError("benchmark.py accepts only flags, and no --config")
    if _PAGE.value:
        text, made = page(PAGE.read_text(encoding="utf-8"))
        PAGE.write_text(text, encoding="utf-8")
        print(f"docs/performance.md: tables of {', '.join(made)}")
        return
    _check_choices("parts", _PARTS.value, PARTS)
    _check_choices("modes", _MODES.value, ("forward", "train"))
    _check_choices("torch_compile", _COMPILED.value, ("forward", "train"))
    _check_choices("dtypes", _DTYPES.value or [], ("float32", "bfloat16"))
    _check_choices("against", _AGAINST.value, {"data": ("torch", "tensorflow"), "compile": ()}.get(_SUITE.value, ("torch",)))
    if _FREEZE.value and (_SUITE.value not in ("cpu", "gpu") or _MODES.value != ["train"] or _AGAINST.value):
        raise UserError("--freeze: requires --suite=cpu or gpu and --modes=train, without --against")
    pythons = {name: _interpreter(name) for name in _AGAINST.value}
    _check_writable(_JSON.value)
    machine = _machine()
    if _SUITE.value == "data":
        rows = [{"suite": "data", "part": "machine", **machine}, *_data(pythons)]
    else:
        rows = [{**row, "machine": machine} for row in _models(pythons)]
    print(table(rows))
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(rows, indent=1) + "\n")


def _models(pythons: dict[str, str]) -> list[Row]:
    import benchmark_compile
    import benchmark_models

    from jaxcnn.data import cores
    from jaxcnn.models.registry import find

    suite, rounds = _SUITE.value, _ROUNDS.value or ROUNDS[_SUITE.value]
    models = _MODELS.value or (benchmark_compile.MODELS if suite == "compile" else tuple(benchmark_models.CASES[suite]))
    for model in models:
        try:
            find(model)
        except UserError as mistake:
            raise UserError(str(mistake).replace("model.name", "--models", 1)) from None

    def say(line: str) -> None:
        print(line, flush=True)

    if suite == "compile":
        return benchmark_compile.run(models, rounds, say)
    settings = benchmark_models.BenchmarkSettings(
        suite=suite,
        modes=_MODES.value,
        dtypes=_DTYPES.value or ["float32" if suite == "cpu" else "bfloat16"],
        batch_size=_BATCH_SIZE.value,
        freeze=_FREEZE.value,
        rounds=rounds,
        turn_seconds=_TURN.value,
        threads=cores(),
        torch_python=pythons.get("torch"),
        compiled_modes=_COMPILED.value,
        compile_limit=_LIMIT.value,
    )
    return benchmark_models.run(models, settings, say)


def _data(pythons: dict[str, str]) -> list[Row]:
    import benchmark_data

    return benchmark_data.run(
        parts=_PARTS.value,
        rounds=_ROUNDS.value or ROUNDS["data"],
        images=_IMAGES.value,
        batches=_BATCHES.value,
        batch_size=_BATCH_SIZE.value or 64,
        threads=_integers("threads", _THREADS.value, 1),
        workers=_WORKERS.value,
        files=_integers("files", _FILES.value, 100),
        model=(_MODELS.value or ["resnet20"])[0],
        pythons=pythons,
    )


def _interpreter(library: str) -> str:
    """Returns an interpreter that has the library: that of the flag, or for torch that of `make bench-env`."""
    stated = {"torch": _TORCH.value, "tensorflow": _TENSORFLOW.value}[library]
    installed = ROOT / ".venv-bench" / "bin" / "python"
    python = stated or (str(installed) if library == "torch" and installed.exists() else None)
    if not python:
        hint = ", or run `make bench-env`" if library == "torch" else ""
        raise UserError(f"--against={library}: set the interpreter with --{library}_python=PATH{hint}")
    try:
        done = subprocess.run([python, "-c", f"import {library}"], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--{library}_python: {python} can't be started: {error.strerror}") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"--{library}_python: {python} can't import {library}: {reason}")
    return python


def _check_choices(flag: str, values: Sequence[str], choices: Sequence[str]) -> None:
    for value in values:
        if value not in choices:
            raise UserError(f"--{flag}: {value!r} is not one of {', '.join(choices) or 'nothing'}")


def _check_writable(file: str | None) -> None:
    """Raises UserError if the file cannot be written, before the minutes of measuring. Leaves no empty file behind."""
    if file:
        path = Path(file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            existed = path.exists()
            path.open("a").close()
            if not existed:
                path.unlink()
        except OSError as error:
            raise UserError(f"--json: {file} can't be written: {error.strerror}") from None


def _machine() -> dict[str, Any]:
    """Returns the hardware and the versions of Python and the libraries."""
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
        raise UserError(f"--{flag}: {','.join(texts)!r} is not a comma-separated list of integers of at least {least}")
    return [int(text) for text in texts]


if __name__ == "__main__":
    command.run(main)
