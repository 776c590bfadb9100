"""The benchmark command: the form of its rows and tables. Times are not tested."""

import json
import os
import sys

import pytest
from common.child_processes import ROOT, experiment, finish

sys.path.insert(0, str(ROOT / "experiments"))
import benchmark_compile
import benchmark_jaxcnn
import benchmark_models
import benchmark_tables
from benchmark_process import Worker, WorkerFailed

from jaxcnn.tasks.segmentation import Segmentation

COUNTS = """
import json, sys, time
sys.path.insert(0, {experiments!r})
from benchmark_process import answers, serve_steps
spec, done = json.loads(sys.argv[1]), []
out = answers()
print("a library's chatter")
if spec["fail"] == "late":
    time.sleep(100)
if spec["fail"]:
    sys.exit("no such card")
serve_steps(out, {{"steps_before": len(done)}}, lambda count: done.append(count), lambda: sum(done))
"""


@pytest.mark.slow
@pytest.mark.process
def test_data_suite_prints_a_table_and_saves_its_rows(tmp_path):
    kept = tmp_path / "kept" / "data.json"
    code, out, err = finish(experiment(
            "benchmark.py", "--suite=data", "--parts=jpeg,memory", "--rounds=1", "--images=20", "--batches=2", "--batch_size=4",
            "--threads=2", "--workers=0", "--files=100,200", f"--json={kept}",
        )
    )  # fmt: skip
    assert code == 0, err
    machine, *rows = json.loads(kept.read_text())
    assert machine["suite"] == "data"
    assert machine["cores"] == os.cpu_count()
    assert "jax" in machine["versions"]
    jpeg, memory = ([row for row in rows if row["part"] == part] for part in ("jpeg", "memory"))
    assert len(jpeg) + len(memory) == len(rows)
    assert [row["contender"] for row in jpeg] == ["bare"] * 3 + ["jaxcnn"] * 2
    assert [row["files"] for row in memory] == [100, 200]
    assert jpeg[0]["ratio"] == 1  # the plain decoder with one thread is the reference of the ratios
    figures = {
        "jpeg": ("images_per_second", "images_per_cpu_second", "ratio", "wall_ratio"),
        "memory": ("peak_bytes", "grown_bytes", "load_seconds", "first_batch_seconds", "statistics_seconds"),
    }
    for row in rows:
        assert row["name"] in out
        for figure in figures[row["part"]]:
            least, most = row[f"{figure}_range"]
            assert 0 < least <= row[figure] <= most


@pytest.mark.slow
@pytest.mark.process
def test_cpu_suite_measures_a_models_forward_pass_and_train_step(tmp_path):
    kept = tmp_path / "kept" / "cpu.json"
    code, out, err = finish(experiment(
            "benchmark.py", "--suite=cpu", "--models=lenet5", "--batch_size=4", "--rounds=2", "--turn_seconds=0",
            f"--json={kept}",
        )
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads(kept.read_text())
    assert [row["mode"] for row in rows] == ["forward", "train"]
    for row in rows:
        asked = {name: row[name] for name in ("model", "dtype", "batch_size", "image_size")}
        assert asked == {"model": "lenet5", "dtype": "float32", "batch_size": 4, "image_size": 28}
        least, most = row["images_per_second_range"]
        assert 0 < least <= row["images_per_second"] <= most == row["images_per_second_best"]
        assert row["peak_share"] == pytest.approx(row["images_per_second"] * row["flops"] / row["peak_flops"])
        assert row["peak_bytes"] > 2**26  # a process with JAX in it
        assert row["compile_seconds"] > 0
        assert row["torch_images_per_second"] is None
        assert row["ratio"] is None
        assert row["parameters"] == 60_850
        assert "failed" not in row
        assert row["machine"]["versions"]["jax"]
    assert rows[1]["flops"] == 3 * rows[0]["flops"]
    assert rows[0]["flops"] > 2 * 60_000  # every weight is used at least once
    assert out.count("| lenet5, 4 × 28 |") == 2


@pytest.mark.parametrize(
    ("model", "image_size", "batch_size"), [("fcn_resnet50", 224, 4), ("torchvision/fcn_resnet50", 224, 4), ("segnet", 360, 16)]
)
def test_segmentation_networks_are_measured_with_21_classes_at_the_size_of_their_case(model, image_size, batch_size):
    spec = _spec(model)
    assert (spec["task"], spec["classes"]) == ("segmentation", 21)
    assert (spec["image_size"], spec["padded"], spec["batch_size"]) == (image_size, image_size, batch_size)


def test_segmentation_networks_are_trained_on_class_maps():
    prepared = benchmark_jaxcnn.prepare(_spec("segnet") | {"image_size": 32, "padded": 32, "batch_size": 2}, 2)
    assert isinstance(prepared.task, Segmentation)
    batch = benchmark_jaxcnn.first_batches(prepared, 1)
    assert batch["map"].shape == (1, 2, 32, 32)
    assert "label" not in batch
    assert set(batch["map"].ravel().tolist()) == set(range(21))


def _spec(model):
    settings = benchmark_models.BenchmarkSettings("cpu", ["train"], ["float32"], 0, [], 1, 0.0, 1, None, [], 1.0)
    return benchmark_models._spec(model, "train", "float32", settings)


def test_default_models_of_the_compile_suite_are_classifiers():
    assert "resnet50" in benchmark_compile.MODELS
    assert "fcn_resnet50" in benchmark_models.CASES["cpu"]  # its start is not measured: the suite trains on labels
    assert "fcn_resnet50" not in benchmark_compile.MODELS


@pytest.mark.slow
@pytest.mark.process
def test_compile_suite_reports_the_first_step_cold_and_cached_and_the_imports(tmp_path):
    kept = tmp_path / "compile.json"
    code, _, err = finish(experiment("benchmark.py", "--suite=compile", "--models=lenet5", "--rounds=1", f"--json={kept}"))
    assert code == 0, err
    start, *imports = json.loads(kept.read_text())
    assert (start["part"], start["model"]) == ("start", "lenet5")
    assert start["cold_seconds"] > 0
    assert start["cached_seconds"] > 0
    names = [row["name"] for row in imports]
    assert {"train.py --help", "evaluate.py --help", "benchmark.py --help", "import jaxcnn"} <= set(names)
    assert not any(name.startswith("benchmark_") for name in names)  # these modules are not commands
    assert all(row["part"] == "import" and row["seconds"] > 0 for row in imports)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts=jpg"], "--parts: 'jpg' is not one of jpeg, cifar, memory"),
        (["--modes=backward"], "--modes: 'backward' is not one of forward, train"),
        (["--dtypes=float16"], "--dtypes: 'float16' is not one of float32, bfloat16"),
        (["--against=torch", "--torch_python=/no/python"],
         "--torch_python: /no/python can't be started: No such file or directory"),
        (["--against=torch", f"--torch_python={sys.executable}"],
         f"--torch_python: {sys.executable} can't import torch: ModuleNotFoundError: No module named 'torch'"),
        (["--suite=data", "--against=tensorflow"],
         "--against=tensorflow: set the interpreter with --tensorflow_python=PATH"),
        (["--against=tensorflow"], "--against: 'tensorflow' is not one of torch"),
        (["--suite=data", "--against=keras"], "--against: 'keras' is not one of torch, tensorflow"),
        (["--suite=data", "--threads=0"], "--threads: '0' is not a comma-separated list of integers of at least 1"),
        (["--models=resnt20"], '--models: no model "resnt20" (did you mean "resnet20" or "resnet1202" or "resnet50"?)'),
        (["--suite=gpu"], "--suite=gpu: JAX finds no GPU, only cpu"),
        (["--json=/proc/none/file.json"], "--json: /proc/none/file.json can't be written: No such file or directory"),
        (["resnet20"], "benchmark.py accepts only flags, and no --config"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line_and_leave_no_file(arguments, message, tmp_path):
    code, out, err = finish(experiment("benchmark.py", f"--json={tmp_path / 'rows.json'}", *arguments))
    assert code == 2, out
    assert err.strip() == f"error: {message}"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def program(tmp_path):
    """A worker program that counts its steps."""
    file = tmp_path / "counts.py"
    file.write_text(COUNTS.format(experiments=str(ROOT / "experiments")))
    return str(file)


def test_worker_executes_at_least_the_requested_steps(program):
    with Worker(program, {"fail": False}, title="counter") as worker:
        assert worker.answer() == {"steps_before": 0}
        assert worker.ask({"seconds": 0, "least": 3})["steps"] == 3
        assert worker.ask({"seconds": 0, "least": 2})["peak_bytes"] == 1 + (1 + 3) + (
            1 + 2
        )  # 1 before it is ready, and 1 per message
        assert worker.ask({"seconds": 0.001, "least": 1})["steps"] > 1


def test_failed_worker_is_reported_with_its_last_line(program):
    with Worker(program, {"fail": True}, title="a contender") as worker:
        with pytest.raises(WorkerFailed, match=r"^a contender: ended with exit code 1: no such card$") as failure:
            worker.answer()
        assert failure.value.last_line == "no such card"
        with pytest.raises(WorkerFailed):
            worker.ask({"seconds": 0, "least": 1})


def test_worker_that_is_not_ready_in_time_is_given_up(program):
    with (
        Worker(program, {"fail": "late"}, title="slow") as worker,
        pytest.raises(WorkerFailed, match=r"^slow: not ready within 0.5 s$"),
    ):
        worker.answer(0.5)


def test_times_are_medians_and_ratios_are_computed_within_a_round():
    def answer(seconds, memory):
        return {"steps": 10, "seconds": seconds, "peak_bytes": memory}

    turns = {
        "jaxcnn": [answer(1, 5), answer(4, 7), answer(2, 6)],
        "torch": [answer(2, 9), answer(4, 9), answer(8, 9)],
        "torch_compile": [answer(1, 9)],
    }
    jaxcnn = {"images_per_call": 4, "parameters": 10, "flops": 50, "device": "cpu", "compile_seconds": 3}
    ready = {"jaxcnn": jaxcnn, "torch": jaxcnn, "torch_compile": jaxcnn}
    failed = {"torch_compile": "out of memory"}
    row = benchmark_models._figures(turns, ready, failed, peak=2000.0)
    assert (row["images_per_second"], row["images_per_second_range"]) == (20, [10, 40])
    assert row["torch_images_per_second"] == 10
    assert (row["ratio"], row["ratio_range"]) == (2, [1, 4])  # not 20 / 10 of other rounds' noise: 2, 1 and 4
    assert row["peak_share"] == 0.5
    assert (row["peak_bytes"], row["torch_peak_bytes"]) == (7, 9)
    assert "torch_compile_images_per_second" not in row


def test_different_networks_are_not_compared():
    def ready(parameters):
        return {"images_per_call": 1, "parameters": parameters, "flops": 1, "device": "cpu", "compile_seconds": 1}

    turn, failed = [{"steps": 1, "seconds": 1, "peak_bytes": 1}], {}
    row = benchmark_models._figures(
        {"jaxcnn": turn, "torch": turn}, {"jaxcnn": ready(1000), "torch": ready(999)}, failed, peak=1.0
    )
    assert failed == {"torch": "torch: the networks differ: torch's has 999 parameters, but jaxcnn's has 1,000"}
    assert row["ratio"] is None


def test_tables_of_the_page_agree_with_the_saved_results():
    """If this fails, results/benchmarks has changed: run `benchmark.py --page`."""
    before = benchmark_tables.PAGE.read_text(encoding="utf-8")
    assert benchmark_tables.page(before)[0] == before
