"""The program that runs one contender of the suite "data" of benchmark.py in a separate process.

Before it has read which contender to run, it imports only NumPy and the standard library, so that PyTorch and TensorFlow can
be in environments without JAX.
"""

import contextlib
import itertools
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_process import Row, answers, figure, peak_bytes

HEIGHT, WIDTH = 400, 500
SIZE = 224
SCALE, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
WARM = 12  # batches that are not measured: at least as many as any contender has read ahead while waiting


def _serve(spec: Row, batches: Iterator[Any], out: Any) -> None:
    """For each line received, reads spec["batches"] batches and sends (seconds, CPU seconds)."""
    next(batches)
    for _ in sys.stdin:
        for _ in range(WARM):
            next(batches)
        seconds, cpu = time.perf_counter(), _cpu_seconds()
        for _ in range(spec["batches"]):
            next(batches)
        result = time.perf_counter() - seconds, _cpu_seconds() - cpu
        _settle()
        print(json.dumps(result), file=out, flush=True)


def _cpu_seconds() -> float:
    """Returns the CPU time of this process and, on Linux, of all its descendants, including running ones."""
    total, descendants = time.process_time(), {os.getpid()}
    processes = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            processes[int(stat.parent.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    grew = True
    while grew:
        grew = False
        for process, (parent, ticks) in processes.items():
            if parent in descendants and process not in descendants:
                descendants.add(process)
                total += ticks / os.sysconf("SC_CLK_TCK")
                grew = True
    return total


def _settle() -> None:
    """Waits until no batches are being read ahead, which would slow down the next contender."""
    cpu = _cpu_seconds()
    while True:
        time.sleep(0.25)
        if (now := _cpu_seconds()) - cpu < 0.05:
            return
        cpu = now


def _paths(root: str) -> list[str]:
    return sorted(str(path) for path in Path(root).glob("*/*.jpg"))


def _crop(draw: random.Random) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width) of a random crop of a photo, drawn as in torchvision's RandomResizedCrop."""
    for _ in range(10):
        area = HEIGHT * WIDTH * draw.uniform(*SCALE)
        aspect = np.exp(draw.uniform(*np.log(ASPECT)))
        height, width = round((area / aspect) ** 0.5), round((area * aspect) ** 0.5)
        if 0 < height <= HEIGHT and 0 < width <= WIDTH:
            return draw.randint(0, HEIGHT - height), draw.randint(0, WIDTH - width), height, width
    return 0, 0, HEIGHT, WIDTH


def _decoded(path: str, crop: tuple[int, int, int, int]) -> np.ndarray:
    """Reads a file, decodes it, cuts out the crop and resizes it: (SIZE, SIZE, 3) uint8."""
    import cv2

    top, left, height, width = crop
    with open(path, "rb") as file:
        photo: Any = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR_RGB)
    return cv2.resize(photo[top : top + height, left : left + width], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def _bare(spec: Row) -> Iterator[Any]:
    """Only `_decoded`, with crops drawn in advance; several threads share a batch."""
    import concurrent.futures

    draw, paths = random.Random(0), itertools.cycle(_paths(spec["root"]))
    crops = itertools.cycle([_crop(draw) for _ in range(10_000)])

    def work(several: list[tuple[str, Any]]) -> None:
        for path, crop in several:
            _decoded(path, crop)

    with concurrent.futures.ThreadPoolExecutor(spec["threads"]) as pool:
        while True:
            batch = list(itertools.islice(zip(paths, crops, strict=False), spec["batch_size"]))
            if spec["threads"] == 1:
                work(batch)
            else:
                list(pool.map(work, [batch[n :: spec["threads"]] for n in range(spec["threads"])]))
            yield batch


def _settings(root: str) -> Any:
    from jaxcnn.data import DataSettings

    return DataSettings("folder", root, image_size=SIZE, random_crop=(SCALE, ASPECT), test=0.1, validation=0.1)


def _jaxcnn(spec: Row, dataset: Any = None) -> Iterator[Any]:
    """The reader that training uses. Its flip runs on the device and is measured in the part "cifar"."""
    from jaxcnn import data
    from jaxcnn.train import experiment

    train = (dataset or data.load(_settings(spec["root"]), 0)).train
    reading = data.Reading("off", threads=spec["threads"], workers=spec["workers"])
    reader = data.make_reader(train, experiment.make_mesh(1), reading)
    endless = [1] * 1_000_000  # so that equally many batches are read ahead at the end and at the start of a measurement
    return reader(data.Order(len(train), 0), 0, spec["batch_size"], endless)


class _Photos:
    """The data set of a DataLoader: (photo, 0)."""

    def __init__(self, root: str):
        self.paths = _paths(root)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        draw = random.Random(random.random())
        photo = _decoded(self.paths[index % len(self.paths)], _crop(draw))
        return np.ascontiguousarray(photo[:, ::-1]) if draw.random() < 0.5 else photo, 0


def _torch(spec: Row) -> Iterator[Any]:
    """PyTorch's DataLoader in its usual setup, with worker processes."""
    from torch.utils import data

    loader = data.DataLoader(
        _Photos(spec["root"]), batch_size=spec["batch_size"], num_workers=spec["workers"], sampler=range(10_000_000)
    )
    return iter(loader)


def _tensorflow(spec: Row) -> Iterator[Any]:
    """tf.data as in TensorFlow's ImageNet examples: decodes only the crop or, with spec["whole"], the full photo."""
    import tensorflow as tf

    def read(path: Any) -> Any:
        box, size, _ = tf.image.sample_distorted_bounding_box(
            [HEIGHT, WIDTH, 3], tf.zeros([1, 0, 4]), aspect_ratio_range=ASPECT, area_range=SCALE,
            max_attempts=10, use_image_if_no_bounding_boxes=True,
        )  # fmt: skip
        crop = tf.stack([box[0], box[1], size[0], size[1]])
        if spec["whole"]:
            photo = tf.slice(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), box, size)
        else:
            photo = tf.io.decode_and_crop_jpeg(tf.io.read_file(path), crop, channels=3)
        photo = tf.image.random_flip_left_right(tf.image.resize(photo, [SIZE, SIZE]))
        return tf.cast(photo, tf.uint8)

    files = tf.data.Dataset.from_tensor_slices(_paths(spec["root"])).repeat()
    return iter(files.map(read, num_parallel_calls=spec["threads"]).batch(spec["batch_size"]).prefetch(2))


def _memory_once(spec: Row) -> Row:
    """Measures peak memory after some batches and seconds to the first batch, without imports."""
    from jaxcnn import data
    from jaxcnn.train import experiment

    experiment.make_mesh(1)  # starts JAX
    before, start = peak_bytes(), time.perf_counter()
    config = _settings(spec["root"])
    dataset = data.load(config, 0)
    loaded = time.perf_counter() - start
    batches = _jaxcnn(spec | {"threads": 2, "workers": 0}, dataset)
    next(batches)
    first = time.perf_counter() - start
    for _ in range(spec["batches"]):
        next(batches)
    peak = peak_bytes()
    _close(batches)
    start = time.perf_counter()
    data.make_preprocessing(config, dataset.train)
    return {
        "peak_bytes": peak,
        "grown_bytes": peak - before,
        "load_seconds": loaded,
        "first_batch_seconds": first,
        "statistics_seconds": time.perf_counter() - start,
    }


def _cifar(spec: Row) -> list[Row]:
    """Measures data and augmentation as shares of a training step, each compiled separately and timed alternately."""
    import benchmark_jaxcnn
    import jax

    from jaxcnn import data
    from jaxcnn.train.steps import jit_steps

    case = {"image_size": 32, "padded": 32, "channels": 3, "classes": 10, "batch_size": 128, "arguments": {}}
    prepared = benchmark_jaxcnn.prepare(case | {"task": "classification", "model": spec["model"], "dtype": "float32"}, 5000)
    size = case["batch_size"]
    batches = prepared.reader(prepared.dataset.train)(prepared.order(), 0, size, [1] * 1_000_000)
    batch, state = next(batches), prepared.initial_state()
    steps = jit_steps(prepared.train_step(), prepared.mesh)

    def step() -> Any:
        nonlocal state
        state, metrics = steps(state, batch)
        return metrics

    policies: dict[str, tuple] = {
        "crop, flip, cutout": (("random_crop", {"pad": 4}), "horizontal_flip", "cutout"),
        "rand_augment, n = 2": (("rand_augment", {"n": 2}),),
    }
    works: dict[str, Callable[[], Any]] = {f"step of {spec['model']}": step, "batch from the device": lambda: next(batches)}
    for name, policy in policies.items():
        augment, key = jax.jit(data.make_augmentation(policy)), jax.random.key(0)
        works[name] = lambda augment=augment, key=key: augment(batch["image"][0], key)  # type: ignore[misc]
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn, (name, work) in itertools.product(range(spec["rounds"] + 1), works.items()):
        seconds, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(work())
        if turn:  # the first run compiles
            measured[name].append((time.perf_counter() - seconds, time.process_time() - cpu))
    _close(batches)
    rows, step_name = [], f"step of {spec['model']}"
    medians = {name: [statistics.median(column) for column in zip(*turns, strict=True)] for name, turns in measured.items()}
    for name, turns in measured.items():
        clock, processor = zip(*turns, strict=True)
        row: Row = {"part": "cifar", "name": name, "image_size": 32, "batch_size": size, "model": spec["model"]}
        row |= figure("seconds", clock) | figure("cpu_seconds", processor)
        row |= {"share": medians[name][0] / medians[step_name][0], "cpu_share": medians[name][1] / medians[step_name][1]}
        rows.append(row | ({"aim": f"share <= {0.3 if 'rand' in name else 0.05}"} if name != step_name else {}))
    return rows


def _close(batches: Iterable[Any]) -> None:
    close = getattr(batches, "close", None)
    if close:
        close()


def _main(spec: Row) -> None:
    out = answers()
    once = {"memory": _memory_once, "cifar": _cifar}
    if spec["contender"] in once:
        print(json.dumps(once[spec["contender"]](spec)), file=out, flush=True)
        return
    batches = {"bare": _bare, "jaxcnn": _jaxcnn, "torch": _torch, "tensorflow": _tensorflow}[spec["contender"]](spec)
    try:
        _serve(spec, batches, out)
    finally:
        _close(batches)


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
