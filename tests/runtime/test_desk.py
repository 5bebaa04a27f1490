import threading
import time

import numpy as np
import pytest

from edge_agent.core.datatypes import Detections, ModelSpec
from edge_agent.core.parts import Decision, Reason
from edge_agent.runtime.engine import Lap
from edge_agent.runtime.forms import MAX_DETECTIONS, Sight
from edge_agent.wire import messages as wire
from tests.builders import MS, make_box, make_detections, make_frame
from tests.runtime.stations import Station, Wire, make_model, one_after_the_other, wait_for

GOOD = Decision("pass")
CRACKED = Decision("reject", (Reason("defect", "crack", 0.93),))


def seen(captured_ns=0, *, count=1):
    """What a pipeline would have seen: one picture with so many cracks."""
    frame = make_frame(7, captured_ns)
    lap = Lap(captured_ns + 1 * MS, captured_ns + 3 * MS, captured_ns + 33 * MS, captured_ns + 34 * MS)
    detections = make_detections(*((1, 0.9, make_box(50, 50)) for _ in range(count)))
    return Sight(frame, detections, lap, frames=3)


def parse(model, facts):
    return model.model_validate(facts)


@pytest.fixture
def line():
    return Wire()


@pytest.fixture
def station(line):
    with Station(one_after_the_other(line)) as station:
        yield station


def test_a_part_gets_its_verdict_at_once_and_its_result_later(station, line):
    part = station.open_part()
    station.desk.judged(part, CRACKED, seen(part.since_ns))
    (message,) = line.sent
    verdict = wire.Verdict.model_validate_json(message.payload)
    assert (message.topic, message.qos, message.retain) == (
        "factory/leon/bottling/3/capper/vision/cap-01/verdict/top",
        1,
        False,
    )
    assert (verdict.seq, verdict.part_id, verdict.verdict) == (1, "top-1", "reject")
    assert verdict.reasons == (wire.Reason(rule="defect", label="crack", score=0.93),)
    (result,) = [parse(wire.Result, facts) for facts in station.results()]
    assert (result.verdict_seq, result.sent, result.part_id, result.late) == (1, True, "top-1", None)
    assert (result.frame.seq, result.frames, result.detections[0].label) == (7, 3, "crack")


def test_a_verdict_expires_with_its_validity(line):
    with Station(one_after_the_other(line), valid_ms=1900) as station:
        station.desk.judged(station.open_part(), GOOD)
    (message,) = line.sent
    verdict = wire.Verdict.model_validate_json(message.payload)
    assert message.expiry_s == 2
    assert (verdict.valid_until - verdict.captured_at).total_seconds() == pytest.approx(1.9, abs=0.005)


def test_the_stages_of_a_verdict_are_those_of_its_frame(station, line):
    part = station.open_part(ago_ms=40)
    station.desk.judged(part, GOOD, seen(part.since_ns))
    latency = line.on("verdict/top")[0]["latency_ms"]
    assert [latency[stage] for stage in ("queue", "preprocess", "infer")] == [1.0, 2.0, 30.0]
    assert latency["total"] == pytest.approx(33 + latency["decide"], abs=0.01)
    assert latency["total"] >= 40


def test_numbers_have_no_gap_and_go_out_in_their_order_whoever_reports(line):
    with Station(one_after_the_other(line), cameras=("top", "side")) as station:

        def report(camera):
            for number in range(50):
                part = station.open_part(camera)
                (station.desk.overdue if number % 5 == 0 else lambda p: station.desk.judged(p, GOOD))(part)

        threads = [threading.Thread(target=report, args=(camera,)) for camera in ("top", "side", "top", "side")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        station.desk.settle_overdue(everything=True)
        station.settled()
        for camera in ("top", "side"):
            assert [facts["seq"] for facts in line.on(f"verdict/{camera}")] == list(range(1, 101))
            results = station.records_wire.on(f"result/{camera}")
            assert [facts["seq"] for facts in results] == list(range(1, 101))
            assert sorted(facts["verdict_seq"] for facts in results) == list(range(1, 101))
            assert len({facts["part_id"] for facts in results}) == 100


def test_without_a_connection_a_verdict_uses_its_number_and_is_not_sent_later(line):
    with Station(one_after_the_other(first := Wire(), line)) as station:
        first.cut()
        wait_for(lambda: not station.line.connected)
        for _ in range(3):
            station.desk.judged(station.open_part(), GOOD)
        wait_for(lambda: station.line.connected)
        station.desk.judged(station.open_part(), GOOD)
        assert [facts["seq"] for facts in line.on("verdict/top")] == [4]
        (span,) = station.desk.unsent.take()
        assert span.data() == {
            "camera": "top",
            "first_seq": 1,
            "last_seq": 3,
            "count": 3,
            "reason": "no_connection",
        }
        assert [facts["sent"] for facts in station.results()] == [False, False, False, True]


def test_a_verdict_that_is_no_longer_valid_is_not_sent(line):
    with Station(one_after_the_other(line), valid_ms=100) as station:
        station.desk.judged(station.open_part(ago_ms=101), CRACKED)
        assert line.sent == []
        assert station.desk.unsent.totals == {"stale": 1}
        assert station.desk.last_seq == {"top": 1}
        assert [(facts["sent"], facts["verdict"]) for facts in station.results()] == [(False, "reject")]


def test_an_overdue_part_is_unknown_and_what_the_engine_says_later_is_only_in_the_result(station, line):
    part = station.open_part()
    station.desk.overdue(part)
    station.desk.too_late(part, CRACKED, seen(part.since_ns))
    (verdict,) = line.on("verdict/top")
    assert (verdict["verdict"], verdict["reasons"]) == ("unknown", [{"code": "deadline_missed"}])
    (result,) = station.results()
    assert (result["verdict"], result["reasons"]) == ("unknown", [{"code": "deadline_missed"}])
    assert result["late"] == {"verdict": "reject", "reasons": [{"rule": "defect", "label": "crack", "score": 0.93}]}
    assert (result["latency_ms"]["infer"], result["frames"]) == (30.0, 3)


def test_an_engine_that_answers_while_the_verdict_is_being_sent_is_recorded_too(station, line):
    part = station.open_part()
    line.may_return.clear()
    timer = threading.Thread(target=station.desk.overdue, args=(part,))
    timer.start()
    wait_for(lambda: line.sent)
    station.desk.too_late(part, CRACKED, seen(part.since_ns))
    line.may_return.set()
    timer.join(10)
    station.desk.settle_overdue(everything=True)
    assert [(facts["verdict"], facts["late"]["verdict"]) for facts in station.results()] == [("unknown", "reject")]
    assert len(line.sent) == 1


def test_an_overdue_part_of_which_nothing_more_is_heard_is_recorded_once(station):
    station.desk.overdue(station.open_part(ago_ms=6000))
    station.desk.overdue(young := station.open_part())
    station.desk.settle_overdue()
    station.desk.settle_overdue()
    assert [(facts["part_id"], facts["late"], facts["frame"]) for facts in station.results()] == [("top-1", None, None)]
    station.desk.settle_overdue(everything=True)
    station.desk.too_late(young, GOOD, seen())
    assert [facts["part_id"] for facts in station.results()] == ["top-1", "top-2"]


def test_what_comes_far_too_late_is_not_kept(station):
    for _ in range(50):
        part = station.open_part(ago_ms=10_000)
        station.desk.overdue(part)
        station.desk.settle_overdue()
        station.desk.too_late(part, GOOD, seen())
        station.desk.settle_overdue()
    assert (station.desk._hasty, station.desk._overdue) == ({}, {})


def test_verdicts_are_counted_by_word_and_unknown_ones_by_code(station):
    for decision in (GOOD, GOOD, CRACKED, Decision.unknown("low_confidence")):
        station.desk.judged(station.open_part(), decision)
    station.desk.overdue(station.open_part())
    assert station.desk.verdicts == {
        "pass": 2,
        "reject": 1,
        "unknown": 2,
        "unknown.low_confidence": 1,
        "unknown.deadline_missed": 1,
    }
    assert station.desk.verdicts_of == {"top": {"pass": 2, "reject": 1, "unknown": 2}}


def confirm_by(station, wire_):
    """Takes the receipts to the desk, as the herald does."""
    wait_for(lambda: not station.line.inbox.empty())
    station.herald._take_notices()


@pytest.mark.parametrize(("code", "nobody"), [(0x00, False), (0x10, True)])
def test_the_broker_says_whether_anybody_listens(station, line, code, nobody):
    line.code = code
    station.herald._take_notices()
    station.desk.judged(station.open_part(), GOOD)
    confirm_by(station, line)
    assert station.desk.nobody_listens is nobody
    assert station.desk.unsent.totals == {}
    assert not station.desk.has_overdue_confirmation(time.monotonic_ns() + 10**12)


def test_a_camera_that_is_heard_does_not_hide_one_that_is_not():
    with Station(one_after_the_other(line := Wire()), cameras=("top", "side")) as station:
        station.herald._take_notices()
        for camera, code in (("top", 0x10), ("side", 0x00), ("top", 0x10), ("side", 0x00)):
            line.code = code
            station.desk.judged(station.open_part(camera), GOOD)
            confirm_by(station, line)
            assert station.desk.nobody_listens


def test_a_verdict_that_the_broker_refuses_is_not_delivered(station, line):
    line.code = 0x87
    station.herald._take_notices()
    station.desk.judged(station.open_part(), GOOD)
    confirm_by(station, line)
    assert station.desk.unsent.totals == {"refused": 1}


def test_a_verdict_is_overdue_at_the_broker_once_it_is_no_longer_valid(line):
    line.code = None
    with Station(one_after_the_other(line)) as station:
        part = station.open_part()
        station.desk.judged(part, GOOD)
        assert not station.desk.has_overdue_confirmation(part.valid_until_ns)
        assert station.desk.has_overdue_confirmation(part.valid_until_ns + 1)
        station.desk.give_up_unconfirmed()
        assert not station.desk.has_overdue_confirmation(part.valid_until_ns + 1)
        assert station.desk.unsent.totals == {"unconfirmed": 1}


def test_when_a_connection_breaks_only_its_own_verdicts_are_given_up():
    first, second = Wire(code=None), Wire(code=None)
    with Station(one_after_the_other(first, second)) as station:
        station.desk.judged(station.open_part(), GOOD)
        station.line.abort("a test")
        wait_for(lambda: station.line.connections == 2 and station.line.connected)
        station.desk.judged(station.open_part(), GOOD)
        station.desk.give_up_unconfirmed(1)
        (span,) = station.desk.unsent.take()
        assert (span.first_seq, span.last_seq, span.count) == (1, 1, 1)
        assert station.desk.has_overdue_confirmation(time.monotonic_ns() + 10**12)


@pytest.mark.parametrize(("results", "recorded"), [("all", 40), ("non_pass", 20), (0.25, 10), (0.0, 0), (1.0, 40)])
def test_as_many_results_are_recorded_as_were_asked_for(line, results, recorded):
    with Station(one_after_the_other(line), results=results) as station:
        for number in range(40):
            station.desk.judged(station.open_part(), CRACKED if number % 2 else GOOD)
        assert len(station.results()) == recorded
        assert len(line.sent) == 40


def test_a_result_has_the_best_detections_and_says_how_many_there_were(station):
    station.desk.judged(station.open_part(), CRACKED, seen(count=MAX_DETECTIONS + 50))
    (result,) = station.results()
    assert (len(result["detections"]), result["detections_total"]) == (MAX_DETECTIONS, MAX_DETECTIONS + 50)


def test_a_long_source_is_cut_at_its_beginning(station):
    frame = make_frame()
    object.__setattr__(frame, "source", "/" + "x" * 500 + "/photo.jpg")
    station.desk.judged(station.open_part(), GOOD, Sight(frame, Detections.empty(), None, 1))
    (result,) = station.results()
    assert len(result["frame"]["source"]) == 200
    assert result["frame"]["source"].endswith("/photo.jpg")


def test_names_that_a_model_file_makes_too_long_are_cut_and_do_no_harm(station, line):
    label = "crack" * 30
    model: ModelSpec = make_model(name="m" * 200, version="v" * 200, labels=("bottle", label))
    station.scribe.introduce(station.scribe.engine, model)
    decision = Decision("reject", (Reason("defect", label, 0.9),))
    station.desk.judged(station.open_part(), decision, seen())
    (verdict,) = line.on("verdict/top")
    (result,) = station.results()
    assert verdict["reasons"][0]["label"] == result["detections"][0]["label"] == label[:64]
    assert (len(verdict["model"]["name"]), len(verdict["model"]["version"])) == (48, 48)


@pytest.mark.parametrize("reason", [Reason("own", code="odd"), Reason("own", label=5)], ids=["a code", "no text"])
def test_a_verdict_that_a_rule_makes_impossible_is_not_sent_and_counted(station, line, reason):
    with pytest.raises((ValueError, TypeError)):  # of its record, whoever judges tells that
        station.desk.judged(station.open_part(), Decision("unknown", (reason,)), seen())
    assert line.sent == []
    assert station.desk.unsent.totals == {"internal_error": 1}
    assert station.desk.verdicts["unknown"] == 1


def test_the_longest_camera_id_is_no_problem(line):
    camera = "c" * 64
    with Station(one_after_the_other(line), cameras=(camera,)) as station:
        station.desk.judged(station.open_part(camera), CRACKED, seen())
        station.settled()
        assert line.on("verdict/" + camera)[0]["part_id"] == camera + "-1"


def test_no_message_has_a_pixel(station, line):
    part = station.open_part()
    frame = make_frame(width=640, height=480)
    frame.image[:] = np.random.default_rng(0).integers(0, 255, frame.image.shape, np.uint8)
    station.desk.judged(part, CRACKED, Sight(frame, seen().detections, seen().lap, 1))
    station.settled()
    assert all(len(message.payload) < 2000 for message in (*line.sent, *station.records_wire.sent))
