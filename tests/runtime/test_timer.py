import time

import pytest

from edge_agent.core.parts import Decision
from edge_agent.runtime.health import Health, Vitals
from edge_agent.runtime.timer import Timer
from edge_agent.wire import messages as wire
from tests.runtime.stations import record, wait_for
from tests.runtime.test_pipeline import CRACKED, Works, picture


class TimedWorks(Works):
    """Works with a deadline timer; no cameras, so that the state is that of the engine alone."""

    def __init__(self, path, **settings):
        super().__init__(path, **settings)
        station = self.station
        vitals = Vitals(wire.Clock(synced=None, max_error_ms=None))
        links = {"line": station.line, "records": station.records}
        self.health = Health(
            {},
            {},
            self.pipeline,
            station.ledger,
            station.desk,
            station.outbox,
            links,
            vitals,
            time.monotonic_ns(),
            stall_s=0.3,
        )
        self.timer = Timer(station.ledger, station.desk, station.herald, self.health)

    def __enter__(self):
        super().__enter__()
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.timer.stop()
        super().__exit__()
        assert self.timer.failed is None

    def states(self):
        return [facts["state"] for facts in self.line.on("/state")]


def test_a_hanging_engine_costs_no_part_its_verdict(tmp_path):
    path = record(tmp_path / "m.npz", CRACKED, hang_after=1, hang_s=0.4)
    with TimedWorks(path, deadline_ms=100) as works:
        for seq in range(3):
            works.show(picture(seq))
        verdicts = works.verdicts(3)
        results = works.results(3)
        assert [v["seq"] for v in verdicts] == [1, 2, 3]
        assert [v["reasons"] for v in verdicts] == [[{"code": "deadline_missed"}]] * 3
        assert [r["verdict"] for r in results] == ["unknown"] * 3
        assert [r["late"]["verdict"] for r in results] == ["reject"] * 3
        assert len(works.line.on("verdict/top")) == 3


def test_the_verdict_of_a_hanging_engine_is_out_while_it_still_hangs(tmp_path):
    with TimedWorks(record(tmp_path / "m.npz", [], hang_after=1), deadline_ms=100) as works:
        works.show(picture())
        (verdict,) = works.verdicts(1)
        assert 100 <= verdict["latency_ms"]["total"] < 5000
        assert not works.pipeline.stages


def test_the_heart_stops_while_the_engine_hangs_and_beats_again_afterwards(tmp_path):
    path = record(tmp_path / "m.npz", [], hang_after=1, hang_s=1.5)
    with TimedWorks(path, deadline_ms=100) as works:
        wait_for(lambda: len(works.line.on("/heartbeat")) > 2)
        works.show(picture())
        wait_for(lambda: "error" in works.states())
        (state,) = [facts for facts in works.line.on("/state") if facts["state"] == "error"]
        assert state["reasons"] == ["engine_stalled"]
        beats = len(works.line.on("/heartbeat"))
        wait_for(lambda: works.states()[-1] != "error")
        assert len(works.line.on("/heartbeat")) <= beats + 1
        wait_for(lambda: len(works.line.on("/heartbeat")) > beats + 1)
        assert works.states()[-1] == "degraded"  # a deadline was missed not long ago


def test_a_part_in_time_is_left_alone(tmp_path):
    with TimedWorks(record(tmp_path / "m.npz", []), deadline_ms=10_000) as works:
        works.show(picture())
        (verdict,) = works.verdicts(1)
        assert verdict["verdict"] == "pass"


@pytest.mark.parametrize("ago_ms", [0, 500])
def test_a_part_is_closed_at_its_deadline_even_where_that_has_passed_already(tmp_path, ago_ms):
    with TimedWorks(record(tmp_path / "m.npz", []), deadline_ms=200) as works:
        part = works.station.open_part(ago_ms=ago_ms)
        works.verdicts(1)
        assert time.monotonic_ns() >= part.deadline_ns
        assert not works.ledger.close(part)


def test_many_parts_due_together_get_one_verdict_each(tmp_path):
    with TimedWorks(record(tmp_path / "m.npz", []), deadline_ms=100) as works:
        parts = [works.station.open_part() for _ in range(200)]
        verdicts = works.verdicts(200)
        assert sorted(v["part_id"] for v in verdicts) == sorted(part.id for part in parts)
        assert [v["seq"] for v in verdicts] == list(range(1, 201))


def test_who_closes_first_speaks_and_the_other_is_silent(tmp_path):
    with TimedWorks(record(tmp_path / "m.npz", []), deadline_ms=20) as works:
        for _ in range(40):
            part = works.station.open_part()
            time.sleep(max(0, (part.deadline_ns - time.monotonic_ns()) / 1e9))
            if works.ledger.close(part):
                works.station.desk.judged(part, Decision("pass"))
        verdicts = works.verdicts(40)
        assert len({v["part_id"] for v in verdicts}) == len(verdicts) == 40


def test_the_timer_shows_that_it_lives(tmp_path):
    with TimedWorks(record(tmp_path / "m.npz", [])) as works:
        before_ns = works.timer.last_tick_ns
        wait_for(lambda: works.timer.last_tick_ns > before_ns)
