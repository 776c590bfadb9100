"""The program that runs jaxcnn in the suites "cpu" and "gpu" of benchmark.py, or measures the peak that it is compared with.

It runs the compiled steps of training and evaluation (no augmentation, SGD with momentum) on uint8 images in device memory,
which are normalized in the step.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_process import Row, answers, peak_bytes, serve_steps

from jaxcnn.config import default_config, validate
from jaxcnn.data import Batch
from jaxcnn.evaluate import make_predict
from jaxcnn.layers import cpu_convolution
from jaxcnn.models.cost import cost
from jaxcnn.train import experiment
from jaxcnn.train.devices import on_cpu, replicated
from jaxcnn.train.programs import compile_ahead
from jaxcnn.train.state import count_parameters
from jaxcnn.train.steps import jit_loop, jit_steps

STEPS_PER_DISPATCH = 8  # on accelerators, instead of the 32 of training, because batches of 256 photos need much memory


def prepare(spec: Row, examples: int) -> experiment.Experiment:
    """Returns the experiment of `spec` that trains spec["model"] on `examples` images of noise."""
    shape = (spec["image_size"], spec["image_size"], spec["channels"])
    generator = np.random.default_rng(0)
    arrays = {"class_names": np.arange(spec["classes"]).astype(str)}
    arrays["train_images"] = generator.integers(0, 256, (examples, *shape), np.uint8)
    if spec["task"] == "segmentation":
        arrays["train_map"] = generator.integers(0, spec["classes"], (examples, *shape[:2]), np.uint8)
    else:
        arrays["train_labels"] = generator.integers(0, spec["classes"], examples)
    arrays |= {name.replace("train", "test"): values[:2] for name, values in arrays.items() if name.startswith("train_")}
    config = default_config()
    config.task.name = spec["task"]
    config.model.name, config.model.dtype = spec["model"], spec["dtype"]
    config.model.arguments.update(spec["arguments"])
    config.batch_size, config.devices = spec["batch_size"], 1
    config.optimizer.freeze = tuple(spec.get("freeze", ()))
    config.data.validation, config.data.image_size, config.data.resize = 0.0, spec["padded"], "pad"
    config.data.mean, config.data.std = (0.5,) * shape[2], (0.25,) * shape[2]
    with tempfile.TemporaryDirectory() as folder:
        config.data.name, config.data.root = "arrays", str(Path(folder) / "images.npz")
        np.savez(config.data.root, **arrays)  # type: ignore[arg-type]
        return experiment.prepare(validate(config))


def first_batches(prepared: experiment.Experiment, number: int) -> Batch:
    """Returns the first `number` batches, on the device."""
    size = prepared.config.batch_size
    return next(prepared.reader(prepared.dataset.train)(prepared.order(), 0, size, [number]))


def _contend(spec: Row) -> tuple[Row, Callable[[int], Any]]:
    """Returns the row that is sent after compilation, and the function that runs n steps."""
    prepared = prepare(spec, spec["batch_size"])
    costs = cost(*prepared.task.networks()[""])
    per_call = 1 if on_cpu(prepared.mesh) or spec["mode"] == "forward" else STEPS_PER_DISPATCH
    batches, state = first_batches(prepared, per_call), prepared.initial_state()
    start = time.perf_counter()
    steps: Callable[[int], Any]
    counted: Row = {}
    if spec["mode"] == "train":
        jitted = (jit_steps if per_call == 1 else jit_loop)(prepared.train_step(), prepared.mesh)
        number = () if per_call == 1 else (jax.device_put(np.int32(per_call), replicated(prepared.mesh)),)
        train = compile_ahead(jitted, state, *number, batches)
        if not cpu_convolution().startswith("onednn"):  # XLA does not count the FLOPs of oneDNN's convolutions
            counted["step_flops"] = (train.cost_analysis() or {}).get("flops", 0) / per_call

        def steps(count: int) -> None:
            nonlocal state
            for _ in range(count):
                state, metrics = train(state, *number, batches)
            jax.block_until_ready(metrics)

    else:
        images, variables = batches["image"], state.variables
        predict = compile_ahead(make_predict(prepared.task, prepared.mesh), variables, {"image": images})

        def steps(count: int) -> None:
            for _ in range(count):
                logits = predict(variables, {"image": images})
            jax.block_until_ready(logits)

    return {
        "compile_seconds": time.perf_counter() - start,
        "parameters": count_parameters(state.variables["params"]),
        "flops": 2
        * costs.macs
        * (3 if spec["mode"] == "train" else 1),  # per image; the backward pass costs twice the forward pass
        "images_per_call": per_call * spec["batch_size"],
        "device": jax.devices()[0].device_kind,
        **counted,
    }, steps


def _peak(spec: Row) -> tuple[Row, Callable[[int], Any]]:
    """Returns the same for products of square matrices, whose rate is the peak."""
    size = 2048 if jax.devices()[0].platform == "cpu" else 8192
    x = jnp.ones((size, size), spec["dtype"])
    product = jax.jit(jnp.matmul).lower(x, x).compile()

    def steps(count: int) -> None:
        for _ in range(count):
            y = product(x, x)
        y.block_until_ready()

    return {"flops": 2 * size**3, "device": jax.devices()[0].device_kind}, steps


def _peak_of_device() -> int:
    statistics = jax.devices()[0].memory_stats() or {}
    return statistics.get("peak_bytes_in_use") or peak_bytes()


if __name__ == "__main__":
    _out, _spec = answers(), json.loads(sys.argv[1])
    if _spec["device"] == "gpu" and jax.devices()[0].platform != "gpu":
        sys.exit(f"JAX finds no GPU, only {jax.devices()[0].platform}")
    serve_steps(_out, *(_peak if _spec["contender"] == "peak" else _contend)(_spec), _peak_of_device)
