"""The benchmark's command: the form of its rows. It is not run for its figures here."""

import json
import os

import pytest
from train.small_runs import command, finished


def test_data_suite_prints_a_table_and_keeps_its_rows(tmp_path):
    kept = tmp_path / "kept" / "data.json"
    code, out, err = finished(
        command(
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
    assert jpeg[0]["ratio"] == 1  # the bare decoder with one thread is what the others are compared with
    figures = {
        "jpeg": ("images_per_second", "images_per_cpu_second", "ratio", "wall_ratio"),
        "memory": ("peak_bytes", "grown_bytes", "load_seconds", "first_batch_seconds", "statistics_seconds"),
    }
    for row in rows:
        assert row["name"] in out
        for figure in figures[row["part"]]:
            least, most = row[f"{figure}_range"]
            assert 0 < least <= row[figure] <= most


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--parts=jpg", "--parts: 'jpg' is none of jpeg, cifar, memory"),
        ("--against=torch", "--against=torch: say with which interpreter, --torch_python=PATH"),
        ("--against=keras", "--against: 'keras' is none of torch, tensorflow"),
        ("--threads=0", "--threads: '0' should be whole numbers, 1 or more, with commas between them"),
    ],
)
def test_mistakes_end_in_one_line(argument, message):
    code, _, err = finished(command("benchmark.py", argument))
    assert code == 2
    assert err.strip() == f"error: {message}"
