"""The program that runs PyTorch in the suites "cpu" and "gpu" of benchmark.py. It needs no JAX.

The networks are those of torchvision or timm, or else of benchmark_torch_models.py. It uses channels_last, SGD with momentum,
cross entropy (of each pixel in segmentation), and autocast for bfloat16, in eager mode or with torch.compile of the model.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import benchmark_torch_models
import torch
from benchmark_process import Row, answers, peak_bytes, serve_steps


def _contend(spec: Row) -> tuple[Row, Callable[[int], Any]]:
    """Returns the row that is sent after the first step, and the function that runs n steps."""
    device, train = ("cuda" if spec["device"] == "gpu" else "cpu"), spec["mode"] == "train"
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    if device == "cpu":
        torch.set_num_threads(spec["threads"])
    model = benchmark_torch_models.create(spec["model"], spec["classes"], spec["arguments"])
    model = model.to(device, memory_format=torch.channels_last).train(train)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shape = (spec["batch_size"], spec["channels"], spec["image_size"], spec["image_size"])
    images = torch.rand(shape).to(device, memory_format=torch.channels_last)
    per_pixel = spec["task"] == "segmentation"
    labels = torch.randint(0, spec["classes"], shape[:1] + shape[2:] if per_pixel else shape[:1]).to(device)
    void = 255 if per_pixel else -100  # the value of labels that do not count; there are none, as in jaxcnn's batch
    network: Any = torch.compile(model) if spec["contender"] == "torch_compile" else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    half = spec["dtype"] == "bfloat16"
    mixed: Callable[[], Any] = (lambda: torch.autocast(device, dtype=torch.bfloat16)) if half else contextlib.nullcontext

    def train_step() -> None:
        with mixed():
            loss = torch.nn.functional.cross_entropy(network(images), labels, ignore_index=void)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def forward() -> None:
        with torch.inference_mode(), mixed():
            network(images)

    def steps(count: int) -> None:
        for _ in range(count):
            (train_step if train else forward)()
        if device == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    steps(1)
    return {
        "compile_seconds": time.perf_counter() - start,
        "parameters": parameters,
        "images_per_call": spec["batch_size"],
        "versions": {"torch": torch.__version__, "threads": torch.get_num_threads()},
    }, steps


if __name__ == "__main__":
    _out, _spec = answers(), json.loads(sys.argv[1])
    if _spec["device"] == "gpu" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU")
    serve_steps(_out, *_contend(_spec), torch.cuda.max_memory_allocated if _spec["device"] == "gpu" else peak_bytes)
