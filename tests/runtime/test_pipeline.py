import threading
import time

import numpy as np
import pytest

from edge_agent.core.datatypes import Frame
from edge_agent.core.health_judge import Bound, Limits
from edge_agent.core.parts import Decision
from edge_agent.errors import FatalError, ModelError
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.mailbox import Mailroom
from edge_agent.runtime.pipeline import MAX_FAILURES, Pipeline
from edge_agent.runtime.trigger import LineInspector
from edge_agent.wire.messages import Verdict
from tests.runtime.stations import LABELS, Station, Wire, engine_of, one_after_the_other, record, wait_for
from tests.runtime.works import BOTTLE, CRACK, CRACKED, Works, picture, rejects_cracks


def broken_picture(seq=0):
    return Frame(np.zeros((0, 0, 3), np.uint8), seq, time.monotonic_ns())


def test_every_frame_gets_one_verdict_without_a_gap(tmp_path):
    with Works(record(tmp_path / "m.npz", CRACKED, [], []), deadline_ms=20_000) as works:
        works.show(*(picture(seq) for seq in range(30)))
        verdicts = works.verdicts(30)
        assert [v["seq"] for v in verdicts] == list(range(1, 31))
        assert [v["verdict"] for v in verdicts] == ["reject", "pass", "pass"] * 10
        assert (works.ledger.opened, works.ledger.closed) == (30, 30)
        results = works.results(30)
        assert [r["verdict_seq"] for r in results] == list(range(1, 31))
        assert [r["frame"]["seq"] for r in results] == list(range(30))


def test_two_cameras_share_the_engine_and_count_for_themselves(tmp_path):
    with Works(record(tmp_path / "m.npz", []), cameras=("top", "side"), deadline_ms=20_000) as works:
        for seq in range(10):
            works.show(picture(seq), lane=0)
            works.show(picture(seq), lane=1)
        for camera in ("top", "side"):
            assert [v["seq"] for v in works.verdicts(10, camera)] == list(range(1, 11))


def test_a_verdict_tells_its_stages_and_they_are_kept_for_the_statistics(tmp_path):
    with Works(record(tmp_path / "m.npz", [], latency_ms=5), deadline_ms=20_000) as works:
        works.show(picture())
        (verdict,) = works.verdicts(1)
        latency = Verdict.model_validate(verdict).latency_ms
        assert latency.infer >= 5
        parts = latency.queue + latency.preprocess + latency.infer + latency.decide
        assert latency.total == pytest.approx(parts, abs=0.01)
        wait_for(lambda: works.pipeline.stages)
        assert works.pipeline.stages[0].infer == pytest.approx(latency.infer, abs=0.01)


def test_each_camera_has_eyes_of_its_own_and_only_a_blind_ones_parts_are_unknown(tmp_path):
    watches = (CameraWatch("top", Limits(brightness=Bound(40, 48))), CameraWatch("side", None))
    model = record(tmp_path / "m.npz", [])
    with Works(model, cameras=("top", "side"), watches=watches, deadline_ms=20_000) as works:
        works.show(picture(), lane=0)
        works.show(picture(), lane=1)
        (blind,), (well,) = works.verdicts(1, "top"), works.verdicts(1, "side")
        assert (blind["verdict"], blind["reasons"]) == ("unknown", [{"code": "camera_unhealthy"}])
        assert (well["verdict"], well["reasons"]) == ("pass", [])


def line_at_half(works_ledger):
    def make(camera):
        line = ((0.5, 0.0), (0.5, 1.0))
        ledger = works_ledger()
        return LineInspector(camera, ledger, LABELS, [rejects_cracks], parts=("bottle",), line=line, direction="right")

    return make


def test_a_part_that_moves_across_gets_one_verdict(tmp_path):
    places = (10, 16, 22, 28, 34, 40, 46, 52)
    frames = [[(BOTTLE, 0.9, (x - 8, 20, x + 8, 44))] for x in places]
    frames[1] = [*frames[1], (CRACK, 0.8, (14, 30, 18, 34))]
    works = Works(
        record(tmp_path / "m.npz", *frames), make_inspector=line_at_half(lambda: works.ledger), deadline_ms=20_000
    )
    with works:
        works.show(*(picture(seq) for seq in range(len(places))))
        wait_for(lambda: len(works.pipeline.stages) == len(places))
        (verdict,) = works.verdicts(1)
        assert verdict["verdict"] == "reject"
        (result,) = works.results(1)
        assert (result["frame"]["seq"], result["frames"]) == (4, 5)


def test_a_frame_that_cannot_be_judged_is_an_internal_error_and_the_next_is_judged(tmp_path):
    with Works(record(tmp_path / "m.npz", []), deadline_ms=20_000) as works:
        works.show(broken_picture(0), picture(1))
        first, second = works.verdicts(2)
        assert (first["verdict"], first["reasons"]) == ("unknown", [{"code": "internal_error"}])
        assert second["verdict"] == "pass"
        assert works.pipeline.failures == 1
        assert len(works.results(2)) == 2


def test_a_frame_that_fails_after_its_deadline_is_overdue_like_any_other(tmp_path):
    with Works(record(tmp_path / "m.npz", []), deadline_ms=50) as works:
        frame = broken_picture()
        works.show(Frame(frame.image, 0, frame.captured_ns - 200_000_000))
        (verdict,) = works.verdicts(1)
        assert verdict["reasons"] == [{"code": "deadline_missed"}]
        (result,) = works.results(1)
        assert result["late"]["reasons"] == [{"code": "internal_error"}]


def test_errors_now_and_then_do_not_stop_the_line(tmp_path):
    with Works(record(tmp_path / "m.npz", []), deadline_ms=20_000) as works:
        for seq in range(3 * MAX_FAILURES):
            works.show(picture(seq) if seq % 5 == 0 else broken_picture(seq))
        assert len(works.verdicts(3 * MAX_FAILURES)) == 3 * MAX_FAILURES
        assert works.pipeline.failed is None


def test_errors_without_end_stop_it(tmp_path):
    with Works(record(tmp_path / "m.npz", []), deadline_ms=20_000) as works:
        works.show(*(broken_picture(seq) for seq in range(MAX_FAILURES)))
        wait_for(lambda: works.pipeline.failed)
        assert isinstance(works.pipeline.failed, FatalError)
        assert len(works.verdicts(MAX_FAILURES)) == MAX_FAILURES
        assert works.ledger.opened == works.ledger.closed


def test_a_decision_after_the_deadline_goes_into_the_result_only(tmp_path):
    with Works(record(tmp_path / "m.npz", CRACKED, hang_after=1, hang_s=0.1), deadline_ms=50) as works:
        works.show(picture())
        (verdict,) = works.verdicts(1)
        assert (verdict["verdict"], verdict["reasons"]) == ("unknown", [{"code": "deadline_missed"}])
        (result,) = works.results(1)
        assert (result["verdict"], result["late"]["verdict"], result["frames"]) == ("unknown", "reject", 1)
        assert len(works.line.on("verdict/top")) == 1


def test_a_part_that_was_closed_meanwhile_gets_no_second_verdict(tmp_path):
    with Works(record(tmp_path / "m.npz", [], hang_after=1), deadline_ms=20_000) as works:
        works.show(picture())
        wait_for(lambda: works.ledger.opened)
        for part in works.ledger.close_all():
            works.station.desk.judged(part, Decision.unknown("stopping"))
        works.pipeline.engine.backend.close()  # lets the hanging call return
        wait_for(lambda: works.pipeline.stages)
        assert [v["reasons"] for v in works.line.on("verdict/top")] == [[{"code": "stopping"}]]
        assert len(works.results(1)) == 1


def test_an_engine_that_cannot_be_opened_is_left_for_the_main_thread(tmp_path):
    room = Mailroom()
    station = Station(one_after_the_other(Wire()))
    pipeline = Pipeline(lambda: engine_of(tmp_path / "none.npz"), lambda _: [], room, station.ledger, station.desk)
    pipeline.start()
    assert pipeline.opened.wait(30)
    assert isinstance(pipeline.failed, ModelError)
    assert pipeline.stop(30)


def test_an_engine_that_took_long_to_open_has_not_stalled(tmp_path):
    path, go = record(tmp_path / "m.npz", []), threading.Event()
    station = Station(one_after_the_other(Wire()))

    def open_slowly():
        assert go.wait(30)
        return engine_of(path)

    pipeline = Pipeline(open_slowly, lambda _: [], Mailroom(), station.ledger, station.desk)
    pipeline.start()
    before_ns = time.monotonic_ns()
    go.set()
    assert pipeline.opened.wait(30)
    assert pipeline.last_tick_ns > before_ns
    assert pipeline.stop(30)


def test_a_stop_does_not_wait_for_frames(tmp_path):
    with Works(record(tmp_path / "m.npz", [])) as works:
        assert works.pipeline.stop(30)


def test_a_stop_says_when_the_engine_hangs(tmp_path):
    with Works(record(tmp_path / "m.npz", [], hang_after=1)) as works:
        works.show(picture())
        wait_for(lambda: works.ledger.opened)
        assert not works.pipeline.stop(0.05)


def test_it_is_idle_while_no_frame_comes(tmp_path):
    with Works(record(tmp_path / "m.npz", []), deadline_ms=20_000) as works:
        wait_for(lambda: works.pipeline.is_idle)
        before_ns = works.pipeline.last_tick_ns
        wait_for(lambda: works.pipeline.last_tick_ns > before_ns)
