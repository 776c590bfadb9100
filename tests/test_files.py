"""Files are written whole or not at all, and what can't be read in them is said."""

import json
import os
from pathlib import Path

import pytest

from jaxcnn import files
from jaxcnn.errors import UserError


def test_file_and_folder_are_on_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    events = []

    def fsync(descriptor):
        events.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve() == tmp_path else "file")

    def replace(source, target):
        events.append("rename")
        Path(source).rename(target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    files.write_text(tmp_path / "config.json", "text")
    assert events == ["file", "rename", "folder"]


def test_what_was_there_stays_where_writing_fails(tmp_path, monkeypatch):
    (tmp_path / "summary.json").write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(tmp_path / "summary.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert (tmp_path / "summary.json").read_text() == "old"


def test_text_comes_back_as_it_was_written(tmp_path):
    text = "ä\u2028\r\n×"
    files.write_text(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes() == text.encode()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\0" * 100, b"\xff\xfe{}", b"[" * 100_000])
def test_json_that_is_no_object_counts_as_none_and_is_said(tmp_path, content):
    said = []
    (tmp_path / "file").write_bytes(content)
    assert files.read_values(tmp_path / "file", said.append) == {}
    assert len(said) == 1
    assert str(tmp_path / "file") in said[0]


def test_json_object_is_read_and_a_missing_file_is_none(tmp_path):
    said = []
    (tmp_path / "file").write_text(json.dumps({"a": [1]}))
    assert files.read_values(tmp_path / "file", said.append) == {"a": [1]}
    assert files.read_values(tmp_path / "other", said.append) == {}
    assert said == []


def test_folder_in_the_place_of_a_file_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"can't be read \(Is a directory\)"):
        files.read_text(tmp_path)


def test_home_folder_is_found_and_an_unknown_users_is_left(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert files.user_path("~/runs") == Path("/home/someone/runs")
    assert files.user_path("~nobody-of-this-name/runs") == Path("~nobody-of-this-name/runs")
    assert files.user_path("runs/~") == Path("runs/~")
