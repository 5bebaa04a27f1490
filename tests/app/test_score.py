"""Made truth and made verdicts: what the score sheet has to say is known."""

import json
import math

import pytest

from tests.truths import BARE, CRACKED, GOOD, SPEED, WIDTH, acted, belt, fault, part, scored, verdict


def test_every_right_verdict_counts_as_right():
    truth = [part(1, 2), part(2, 2.5, CRACKED, ["crack"]), part(3, 3, BARE, ["cap_missing"])]
    sheet = scored(truth, [verdict(1, 2.02), verdict(2, 2.52, "reject"), verdict(3, 3.02, "reject")])
    assert (sheet.parts, sheet.right) == (3, 3)
    assert {name: (score.parts, score.right) for name, score in sheet.defects.items()} == {
        "cap_missing": (1, 1),
        "crack": (1, 1),
    }


@pytest.mark.parametrize(
    ("found", "word", "field"),
    [(CRACKED, "pass", "missed_defects"), (GOOD, "reject", "false_rejects")],
)
def test_a_wrong_verdict_is_told_by_what_it_does(found, word, field):
    sheet = scored([part(1, 2, found)], [verdict(1, 2.02, word)])
    assert (sheet.parts, sheet.right, getattr(sheet, field)) == (1, 0, 1)


def test_an_unknown_verdict_is_told_by_its_reason():
    sheet = scored([part(1, 2)], [verdict(1, 2.02, "unknown", {"code": "low_confidence"})])
    assert (sheet.right, sheet.unknown) == (0, {"low_confidence": 1})


def test_the_users_own_labels_decide_what_is_right():
    sheet = scored(
        [part(1, 2, ("bottle", "cap", "label", "split"))], [verdict(1, 2.02, "reject")], labels={"split": "crack"}
    )
    assert sheet.right == 1


def test_a_part_without_a_verdict_and_a_verdict_without_a_part_are_counted():
    sheet = scored([part(1, 2), part(2, 4)], [verdict(1, 2.02), verdict(2, 3.0)])
    assert (sheet.parts, sheet.no_verdict, sheet.extra) == (2, 1, 1)


def test_a_second_verdict_on_a_part_is_counted_and_the_first_decides():
    sheet = scored([part(1, 2)], [verdict(1, 2.02), verdict(2, 2.05, "reject")])
    assert (sheet.right, sheet.twice, sheet.extra) == (1, 1, 0)


def test_a_verdict_that_is_delivered_twice_counts_once():
    sheet = scored([part(1, 2)], [verdict(1, 2.02), verdict(1, 2.02)])
    assert (sheet.right, sheet.twice) == (1, 0)


@pytest.mark.parametrize("lag_s", [-0.04, 0.0, 0.033, 0.17])
def test_touching_parts_keep_their_own_verdicts(lag_s):
    pitch_s = WIDTH / SPEED
    truth = [part(n, 2 + n * pitch_s, CRACKED if n % 2 else GOOD) for n in range(6)]
    verdicts = [verdict(n + 1, 2 + n * pitch_s + lag_s, "reject" if n % 2 else "pass") for n in range(6)]
    assert scored(truth, verdicts).right == 6


def test_a_verdict_from_a_late_frame_belongs_to_the_part_that_has_none():
    sheet = scored([part(1, 2), part(2, 3)], [verdict(1, 2.4), verdict(2, 3.02)])
    assert (sheet.right, sheet.extra) == (2, 0)
    assert sheet.lag_ms.most == pytest.approx(400)


def test_a_frame_that_shows_several_crossings_has_a_verdict_for_each_part():
    truth = [part(1, 2, CRACKED), part(2, 2.25), part(3, 2.5, CRACKED)]
    sheet = scored(truth, [verdict(1, 2.55, "reject"), verdict(2, 2.55), verdict(3, 2.55, "reject")])
    assert (sheet.right, sheet.twice, sheet.no_verdict) == (3, 0, 0)


def test_a_second_verdict_from_another_frame_does_not_hide_that_the_part_before_has_none():
    sheet = scored([part(1, 2), part(2, 2.25)], [verdict(1, 2.27), verdict(2, 2.30)])
    assert (sheet.right, sheet.twice, sheet.no_verdict) == (1, 1, 1)


@pytest.mark.parametrize("late_s", [0.3, 0.6])
def test_after_a_row_of_lost_frames_each_part_keeps_its_own_verdict(late_s):
    truth = [part(1, 2, CRACKED), part(2, 2.02 + late_s)]
    sheet = scored(truth, [verdict(1, 2 + late_s, "reject"), verdict(2, 2.03 + late_s)])
    assert (sheet.right, sheet.twice, sheet.no_verdict) == (2, 0, 0)


def test_a_verdict_on_a_part_that_has_left_the_picture_is_one_too_many():
    sheet = scored([part(1, 2)], [verdict(1, 2 + (0.4 * 1280 + WIDTH / 2) / SPEED + 0.01)])
    assert (sheet.no_verdict, sheet.extra) == (1, 1)


def test_a_verdict_that_comes_while_the_belt_stands_belongs_to_the_part_at_the_line():
    truth = [part(1, 2), belt(2.01, 0.0), belt(7, SPEED), part(2, 8)]
    sheet = scored(truth, [verdict(1, 6.5), verdict(2, 8.02)])
    assert (sheet.right, sheet.extra, sheet.belt_stops) == (2, 0, 1)


def test_verdicts_past_the_deadline_are_counted():
    missed = verdict(1, 2.02, "unknown", {"code": "deadline_missed"}, total_ms=150.3)
    sheet = scored([part(1, 2), part(2, 3)], [missed, verdict(2, 3.02, total_ms=151.0)])
    assert (sheet.late.deadline_missed, sheet.late.sent) == (1, 1)
    assert sheet.unknown == {"deadline_missed": 1}


def test_what_the_arm_did_when_its_validity_had_ended_was_executed_late():
    verdicts = [verdict(1, 2.02), verdict(2, 3.02), verdict(3, 4.02)]
    actions = [acted(1, 2.05), acted(2, 3.7), acted(3, 4.7, "none", "stale")]
    sheet = scored([part(1, 2), part(2, 3), part(3, 4)], verdicts, actions)
    assert sheet.late.executed == 1
    assert sheet.dropped == {"stale": 1}
    assert sheet.arm == {"pass": 2, "none": 1}


def test_latency_is_from_capture_to_the_arm():
    verdicts = [verdict(n, 2.02 + n) for n in range(10)]
    actions = [acted(n, 2.02 + n + 0.030) for n in range(9)] + [acted(9, 11.02 + 0.080)]
    latency = scored([], verdicts, actions).latency_ms
    assert (latency.to, latency.p50, latency.most) == ("arm", pytest.approx(30, abs=0.1), pytest.approx(80, abs=0.1))
    assert 70 < latency.p99 < 80


def test_without_an_arm_latency_ends_with_the_decision():
    latency = scored([part(1, 2)], [verdict(1, 2.02, total_ms=21.5)], has_arm=False).latency_ms
    assert (latency.to, latency.p50) == ("decision", 21.5)


def test_parts_that_cross_while_the_line_is_being_stopped_do_not_count():
    sheet = scored([part(1, 2), part(2, 3)], [verdict(1, 2.02)], until_s=2.8)
    assert (sheet.parts, sheet.at_the_end, sheet.no_verdict) == (1, 1, 0)


def test_parts_of_a_disturbed_camera_are_counted_apart():
    truth = [
        part(1, 2),
        fault("dark", 4, on=True),
        part(2, 5),
        part(3, 6, CRACKED),
        fault("dark", 8, on=False),
        part(4, 9),
        part(5, 14),
    ]
    verdicts = [verdict(1, 2.02), verdict(2, 5.02, "unknown", {"code": "camera_unhealthy"}), verdict(3, 14.02)]
    sheet = scored(truth, verdicts)
    assert (sheet.parts, sheet.right) == (2, 2)
    assert sheet.camera_fault == {"unknown": 1, "no_verdict": 2}


def test_what_is_said_of_a_fault_is_compared_with_what_was_done():
    event = {"code": "camera_unhealthy", "data": {"camera": "top", "faults": "dark"}}
    degraded = {"state": "degraded", "reasons": ["camera_unhealthy:top"]}
    notices = [
        ("state", {"state": "running", "reasons": []}, 1.0),
        ("state", degraded, 4.4),
        ("event", event, 4.5),
        ("state", {"state": "running", "reasons": []}, 9.2),
    ]
    truth = [fault("dark", 4, on=True), fault("dark", 8, on=False)]
    (said,) = scored(truth, notices=notices).faults
    assert said.expected == "dark"
    assert "dark" in said.said
    assert (said.noticed_ms, said.recovered_ms, said.lasted_s) == (400.0, 1200.0, 4.0)
    assert said.is_well


def test_a_fault_of_which_the_agent_says_something_else_is_not_well():
    notices = [("event", {"code": "camera_unhealthy", "data": {"camera": "top", "faults": "blurred"}}, 4.5)]
    (said,) = scored([fault("dark", 4, on=True), fault("dark", 8, on=False)], notices=notices).faults
    assert not said.is_well


@pytest.mark.parametrize(("reasons", "is_well"), [([], True), (["camera_unhealthy:top"], False)])
def test_nothing_may_be_said_about_a_belt_that_stops(reasons, is_well):
    truth = [fault("belt_stop", 4, on=True), fault("belt_stop", 8, on=False)]
    notices = [("state", {"state": "degraded", "reasons": ["no_arm", *reasons]}, 5.0)]
    (said,) = scored(truth, notices=notices).faults
    assert said.is_well is is_well


def test_lines_that_cannot_be_read_are_counted():
    sheet = scored(["rubbish", '{"kind": "part"}'], ["[]", '{"camera": "top"}'], ["{", '{"kind": "verdict"}'])
    assert sheet.unread_lines == 6


def test_a_verdict_of_a_camera_that_is_not_scored_is_left_out():
    sheet = scored([part(1, 2)], [verdict(1, 2.02), verdict(1, 2.02, camera="side")])
    assert (sheet.parts, sheet.right, sheet.extra) == (1, 1, 0)


def test_a_line_that_did_its_job_is_told_so():
    truth = [part(n, 2 + n) for n in range(5)]
    sheet = scored(truth, [verdict(n, 2.02 + n) for n in range(5)], [acted(n, 2.05 + n) for n in range(5)])
    assert sheet.is_well
    assert sheet.sentence == "The line did its job: 5 parts, one verdict each, 100.0% right, none was executed late."
    assert sheet.parts_per_min == 60


@pytest.mark.parametrize(
    ("verdicts", "actions", "words"),
    [
        ([], [], "3 parts got no verdict"),
        ([verdict(n, 2.02 + n, "reject") for n in range(3)], [], "0.0% of the parts were judged right"),
        ([verdict(n, 2.02 + n) for n in range(3)] + [verdict(9, 2.03)], [], "1 part got more than one verdict"),
        ([verdict(n, 2.02 + n) for n in range(3)] + [verdict(9, 2.5)], [], "1 verdict came where no part was"),
        ([verdict(n, 2.02 + n) for n in range(3)], [acted(1, 4.0)], "1 verdict was executed late"),
    ],
)
def test_a_line_that_did_not_is_told_why(verdicts, actions, words):
    sheet = scored([part(n, 2 + n) for n in range(3)], verdicts, actions)
    assert not sheet.is_well
    assert words in sheet.sentence


def test_a_line_that_misses_defects_did_not_do_its_job_however_many_others_it_judged_right():
    truth = [part(n, 2 + n, CRACKED if n < 2 else GOOD) for n in range(100)]
    sheet = scored(truth, [verdict(n, 2.02 + n) for n in range(100)], [acted(n, 2.05 + n) for n in range(100)])
    assert (sheet.right_share, sheet.is_well) == (0.98, False)
    assert "2 defects were missed" in sheet.sentence


@pytest.mark.parametrize(
    ("actions", "words"),
    [([], "3 of 3 verdicts (never came)"), ([acted(n, 2.05 + n, "none", "stale") for n in range(3)], "3 of 3 verdicts (stale)")],
)  # fmt: skip
def test_a_line_whose_arm_does_nothing_did_not_do_its_job(actions, words):
    sheet = scored([part(n, 2 + n) for n in range(3)], [verdict(n, 2.02 + n) for n in range(3)], actions)
    assert f"the arm did not act on {words}" in sheet.sentence


def test_without_parts_nothing_was_shown():
    sheet = scored([])
    assert math.isnan(sheet.right_share)
    assert "no part passed" in sheet.sentence


def test_the_sheet_goes_into_one_json_document():
    sheet = scored([part(1, 2, CRACKED, ["crack"])], [verdict(1, 2.02, "reject")], [acted(1, 2.05, "reject")])
    document = json.loads(json.dumps(sheet.as_json()))
    assert document["ok"] is True
    assert document["defects"] == {"crack": {"parts": 1, "right": 1}}
    assert document["latency_ms"]["to"] == "arm"
