"""Who is compared, each a real process with a subscriber outside."""

import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import rig
from benchmarks.peers.subjects import SIZES, SUBJECTS, Bare, Course, Seen, Window, write_frames
from tests.brokers import running_broker

BOTTLES = SUBJECTS["bottles"]


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "720p"
    return write_frames(folder, SIZES["1280x720"], BOTTLES.photos)


@pytest.mark.system
@pytest.mark.parametrize("name", ["edge-agent", "plain loop"])
def test_what_a_frame_took_is_heard_outside(name, frames, tmp_path):
    with running_broker(tmp_path, rig.BROKER) as broker:
        course = Course(BOTTLES, frames, 1, broker.port, tmp_path, Path(sys.executable))
        window = course.measure(name, fps=20, settle_s=0.2, seconds=0.7)
    assert len(window.seen) >= 3
    assert all(0 < it.infer_ms < it.to_result_ms < it.to_subscriber_ms for it in window.seen)
    assert 0 < window.cold_start_s < 60
    assert window.rss_mb > 20


@pytest.mark.system
def test_one_who_gives_no_result_is_told_of(frames, tmp_path):
    with running_broker(tmp_path, rig.BROKER) as broker:
        course = Course(BOTTLES, tmp_path / "nowhere", 1, broker.port, tmp_path, Path(sys.executable))
        with pytest.raises(rig.BenchmarkError, match="plain loop gave no result"):
            course.measure("plain loop", fps=20, settle_s=0.2, seconds=0.7)


@pytest.mark.system
def test_the_bare_engine_runs_when_it_is_told_to(frames):
    with closing(Bare(BOTTLES, frames, 1)) as bare:
        assert all(run_ms > 0 for run_ms in bare.run(0.2))
        assert len(bare.run(0.0)) == 1


@pytest.mark.system
def test_the_agent_goes_on_after_a_pause(frames, tmp_path):
    pauses = []
    with running_broker(tmp_path, rig.BROKER) as broker:
        course = Course(BOTTLES, frames, 1, broker.port, tmp_path, None)
        window = course.measure("edge-agent", 0, 0.2, 2, lambda: pauses.append(time.sleep(0.3)))
    assert len(pauses) == 2
    assert any(it.began_ms > window.pauses[0][1] for it in window.seen)
    assert len(window.intervals()) < len(window.seen) - 1


def test_no_interval_has_a_pause_in_it():
    seen = [Seen(received_ms, 1.0, 2.0, 3.0, None) for received_ms in (10, 20, 50, 60)]
    window = Window(1.0, 100.0, seen, [(21.0, 40.0)])
    assert [interval_ms for interval_ms, _ in window.intervals()] == [10, 10]
