"""Measures speed: python experiments/benchmark.py --suite=cpu --json=results/benchmarks/cpu.json.

    cpu      images a second of nine models, forward and in a train step, in float32
    gpu      the same of five in bfloat16 at batch 256
    compile  seconds from train.py to its first step, with and without the cache of compiled programs; imports
    data     reading photos, augmentation, memory

Prints a table of medians (and ranges); --json=FILE keeps the rows. --against=torch measures PyTorch in the same run, with
the interpreter that `make bench-env` makes (or --torch_python), which need not have JAX. --page renews the tables of
docs/performance.md from results/benchmarks. What the rows mean, and what was found, is there.
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

_SUITE = flags.DEFINE_enum("suite", "cpu", list(ROUNDS), "what is measured")
_JSON = flags.DEFINE_string("json", None, "file that keeps the rows")
_PAGE = flags.DEFINE_bool("page", False, "measure nothing; renew the tables of docs/performance.md")
_MODELS = flags.DEFINE_list(
    "models", None, "which models (all but data; data: whose step is compared with); None = the suite's"
)
_AGAINST = flags.DEFINE_list("against", [], "torch (cpu, gpu, data), tensorflow (data): measured too")
_TORCH = flags.DEFINE_string("torch_python", None, "an interpreter with PyTorch; None = that of `make bench-env`")
_TENSORFLOW = flags.DEFINE_string("tensorflow_python", None, "an interpreter with tensorflow")
_ROUNDS = flags.DEFINE_integer("rounds", None, f"how often the contenders take turns; None = {ROUNDS}", lower_bound=1)
_MODES = flags.DEFINE_list("modes", ["forward", "train"], "cpu, gpu: which of the two")
_DTYPES = flags.DEFINE_list("dtypes", None, "cpu, gpu: float32, bfloat16; None = float32 on cpu, bfloat16 on gpu")
_TURN = flags.DEFINE_float("turn_seconds", 2.0, "cpu, gpu: least seconds of a turn", lower_bound=0.0)
_COMPILED = flags.DEFINE_list("torch_compile", ["train"], "cpu: the modes in which torch.compile is measured beside eager")
_LIMIT = flags.DEFINE_float("compile_limit", 120.0, "cpu: seconds after which torch.compile is given up", lower_bound=1.0)
_FREEZE = flags.DEFINE_list("freeze", [], "cpu, gpu: patterns for optimizer.freeze, with --modes=train")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "images per batch; 0 = each model's own, data: 64", lower_bound=0)
_PARTS = flags.DEFINE_list("parts", list(PARTS), f"data: which parts of it: {', '.join(PARTS)}")
_IMAGES = flags.DEFINE_integer("images", 200, "data: different photos that are made", lower_bound=20)
_BATCHES = flags.DEFINE_integer("batches", 16, "data: batches a turn", lower_bound=1)
_THREADS = flags.DEFINE_list("threads", ["1", "2", "4"], "data: threads that our reader is measured with")
_WORKERS = flags.DEFINE_integer("workers", 2, "data: processes that it is measured with; 0 = none", lower_bound=0)
_FILES = flags.DEFINE_list("files", ["1000", "50000"], "data: sizes of the folders of the part memory")


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Measures, prints, keeps."""
    if arguments or config is not None:
        raise UserError("benchmark.py takes flags alone, and no config")
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
        raise UserError("--freeze: only with --suite=cpu or gpu, --modes=train, and without --against")
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
    settings = benchmark_models.Settings(
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
    """One that has the library: the flag's, or for torch that of `make bench-env`."""
    given = {"torch": _TORCH.value, "tensorflow": _TENSORFLOW.value}[library]
    made = ROOT / ".venv-bench" / "bin" / "python"
    python = given or (str(made) if library == "torch" and made.exists() else None)
    if not python:
        hint = "; `make bench-env` makes one" if library == "torch" else ""
        raise UserError(f"--against={library}: say with which interpreter, --{library}_python=PATH{hint}")
    try:
        done = subprocess.run([python, "-c", f"import {library}"], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--{library}_python: {python} can't be started: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"--{library}_python: {python} has no {library} that can be imported: {said}")
    return python


def _check_choices(flag: str, values: Sequence[str], choices: Sequence[str]) -> None:
    for value in values:
        if value not in choices:
            raise UserError(f"--{flag}: {value!r} is not one of {', '.join(choices) or 'nothing'}")


def _check_writable(file: str | None) -> None:
    """Said before the minutes that measuring takes; nothing is left if they are cut short."""
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
