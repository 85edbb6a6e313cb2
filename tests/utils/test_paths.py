"""Paths that users name, and directories that are made whole or not at all."""

import os

import pytest

from sktwotower.utils._paths import new_directory, path_of, refuse_dangling_link


def test_home_and_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path_of("~/model") == tmp_path / "model"
    assert path_of(os.fsencode(tmp_path)) == path_of(tmp_path) == tmp_path
    assert path_of("a~b").name == "a~b"
    for path in ("\ud800", "a\0"):
        with pytest.raises(ValueError, match="No file can be called"):
            path_of(path)
    with pytest.raises(TypeError):
        path_of(3)


def test_a_directory_is_removed_with_its_parents(tmp_path):
    (tmp_path / "mine").mkdir()
    for path in (tmp_path / "mine", tmp_path / "mine" / "a" / "b"):
        with pytest.raises(RuntimeError), new_directory(path):
            (path / "folder").mkdir()
            (path / "folder" / "file").write_text("half")
            (path / "link").symlink_to(tmp_path)
            raise RuntimeError
        assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]
    with new_directory(path):
        (path / "file").write_text("whole")
    assert (path / "file").exists()


def test_only_links_to_nothing_are_refused(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("target")
    with pytest.raises(ValueError, match="link is a link to target, which does not exist"):
        refuse_dangling_link(link)
    (tmp_path / "target").mkdir()
    refuse_dangling_link(link)
    refuse_dangling_link(tmp_path / "nothing")
