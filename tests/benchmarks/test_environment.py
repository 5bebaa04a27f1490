"""The environment of ultralytics."""

import pytest

from benchmarks.peers import environment
from benchmarks.rig import BenchmarkError


def test_one_that_fits_is_taken_as_it_is(tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    (tmp_path / environment.STAMP).write_text(environment.digest())
    assert environment.require(tmp_path) == python


def test_where_it_cannot_be_made_the_command_and_its_last_words_are_told(tmp_path):
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(BenchmarkError, match=r"-m venv .* failed; its last words"):
        environment.require(occupied)
