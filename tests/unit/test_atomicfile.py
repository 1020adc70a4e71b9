"""Files that are complete or not there: written, replaced, and written only once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oomless import atomicfile


def test_a_file_is_replaced_and_no_draft_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old and longer")
    atomicfile.write(str(path), "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_the_old_content_is_never_written_into(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        atomicfile.write(str(path), b"new")
        assert reader.read() == "old"


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError):
        atomicfile.write(str(folder), "x")
    assert isinstance(atomicfile.try_write(str(tmp_path / "none" / "file"), "x"), FileNotFoundError)
    assert os.listdir(tmp_path) == ["folder"]


def test_a_draft_of_a_dead_process_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f"file.{os.getpid()}{atomicfile.DRAFT}").write_text("half")
    assert atomicfile.try_write(str(tmp_path / "file"), "whole") is None
    assert (tmp_path / "file").read_text() == "whole"


def test_the_first_of_several_writers_wins(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    assert [atomicfile.write_first(path, text) for text in ("one", "two")] == [True, False]
    assert (tmp_path / "file").read_text() == "one"
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        atomicfile.write_new(str(tmp_path / "link"), b"x")
    assert not (tmp_path / "target").exists()


def test_a_careful_one_has_exactly_its_mode(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        atomicfile.write_new(str(tmp_path / "careful"), b"x", 0o644, careful=True)
        atomicfile.write_new(str(tmp_path / "plain"), b"x", 0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "careful").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o600


def test_where_a_person_said_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    assert atomicfile.try_write_named(str(link), "new", 0o600) is None
    assert (link.is_symlink(), target.read_text()) == (True, "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


def test_where_a_person_said_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert atomicfile.try_write_named(str(pipe), "lost", 0o600) is not None  # no reader
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert atomicfile.try_write_named(str(pipe), "read", 0o600) is None
    assert os.read(reader, 10) == b"read"
    os.close(reader)
    assert pipe.is_fifo()


def test_where_a_person_said_a_folder_is_an_error(tmp_path: Path) -> None:
    assert isinstance(atomicfile.try_write_named(str(tmp_path), "x", 0o600), IsADirectoryError)
    assert list(tmp_path.iterdir()) == []
