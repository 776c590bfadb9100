"""Files are written completely or not at all, and invalid content causes a warning."""

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


def test_failed_write_keeps_the_old_content(tmp_path, monkeypatch):
    (tmp_path / "summary.json").write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(tmp_path / "summary.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert (tmp_path / "summary.json").read_text() == "old"


def test_text_is_read_as_it_was_written(tmp_path):
    text = "ä\u2028\r\n×"
    files.write_text(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes() == text.encode()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\0" * 100, b"\xff\xfe{}", b"[" * 100_000])
def test_json_that_is_not_an_object_is_ignored_with_a_warning(tmp_path, content):
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


def test_folder_in_place_of_a_file_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"can't be read \(Is a directory\)"):
        files.read_text(tmp_path)


def test_home_folder_is_expanded_and_that_of_an_unknown_user_is_not(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert files.user_path("~/runs") == Path("/home/someone/runs")
    assert files.user_path("~nobody-of-this-name/runs") == Path("~nobody-of-this-name/runs")
    assert files.user_path("runs/~") == Path("runs/~")
