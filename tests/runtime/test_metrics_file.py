import os
import stat

import pytest
import structlog

from edge_agent.runtime.metrics_file import MetricsFile
from tests.runtime.stations import wait_for


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as entries:
        yield entries


def written_once(path, read_text):
    """A file whose thread is stopped before its first round: it writes once."""
    file = MetricsFile(path, read_text, every_s=60)
    file.start()
    file.stop(20)


def test_the_last_one_is_written_at_the_stop_and_everybody_may_read_it(tmp_path):
    path = tmp_path / "metrics.prom"
    path.write_text("old")
    written_once(path, lambda: b"new\n")
    assert path.read_bytes() == b"new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [child.name for child in tmp_path.iterdir()] == ["metrics.prom"]


def test_a_folder_that_is_not_there_costs_the_file_and_is_told(tmp_path, logged):
    written_once(tmp_path / "no" / "metrics.prom", lambda: b"new")
    assert [(entry["event"], entry["reason"]) for entry in logged] == [
        ("metrics_not_written", "No such file or directory")
    ]


def test_what_stands_in_its_way_is_left_alone_and_nothing_stays_beside_it(tmp_path, logged):
    (tmp_path / "metrics.prom" / "precious").mkdir(parents=True)
    written_once(tmp_path / "metrics.prom", lambda: b"new")
    assert [child.name for child in tmp_path.iterdir()] == ["metrics.prom"]
    assert [entry["event"] for entry in logged] == ["metrics_not_written"]


def test_it_does_not_write_through_a_link_that_somebody_has_laid(tmp_path):
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / ".metrics.prom.new").symlink_to(other)
    written_once(tmp_path / "metrics.prom", lambda: b"new")
    assert other.read_text() == "precious"
    assert (tmp_path / "metrics.prom").read_bytes() == b"new"
    assert not os.path.islink(tmp_path / "metrics.prom")  # noqa: PTH114


def test_a_bug_in_the_figures_costs_the_figures_alone(tmp_path, logged):
    def fail():
        raise KeyError("a bug")

    written_once(tmp_path / "metrics.prom", fail)
    assert [entry["event"] for entry in logged] == ["metrics_failed"]
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, text = tmp_path / "metrics.prom", b"x" * 1_000_000
    file = MetricsFile(path, lambda: text, every_s=0.001, first_s=0)
    file.start()
    wait_for(path.exists)
    assert all(len(path.read_bytes()) == len(text) for _ in range(50))
    file.stop(20)
