import math
import time

import pytest

from edge_agent.core.datatypes import Detections
from edge_agent.core.parts import Ledger
from edge_agent.rules import count, defect, presence
from edge_agent.runtime.trigger import FrameInspector, LineInspector, owners_of
from tests.builders import MS, make_box, make_detections, make_frame, make_track

LABELS = ("bottle", "crack", "cap")
BOTTLE, CRACK, CAP = range(3)
FRAME_NS = 40 * MS


def bottle(x, y=50):
    """Twice as wide as high, so that neighbours fit above each other."""
    return (BOTTLE, 0.9, make_box(x, y, 40, 20))


def rejects_cracks():
    return defect.create(defect.Config(reject=("crack",)))


def frame_inspector(*rules, ledger=None):
    return FrameInspector("top", ledger or Ledger(100, 500), LABELS, rules)


class Belt:
    """A line inspector, fed frame by frame; the frame is 200 x 100 pixels, its line stands in the middle."""

    def __init__(self, *rules, direction="right", line=((0.5, 0.0), (0.5, 1.0)), parts=("bottle",)):
        self.ledger = Ledger(100, 500)
        self.inspector = LineInspector("top", self.ledger, LABELS, rules, parts=parts, line=line, direction=direction)
        self.number = self.stalled_ns = 0

    def show(self, *found, is_fit=True, after_s=0.0):
        """One frame with `(class_id, score, box)` each, so long after its time; the parts judged with it."""
        self.stalled_ns += int(after_s * 1e9)
        frame = make_frame(self.number, self.number * FRAME_NS + self.stalled_ns)
        self.number += 1
        assert self.inspector.begin(frame) is None
        return self.inspector.finish(frame, None, make_detections(*found), is_fit=is_fit)

    def move(self, *path):
        """One bottle along x; the parts judged on the way."""
        return [judged for x in path for judged in self.show(bottle(x))]


def test_every_frame_is_a_part_and_gets_one_verdict():
    ledger = Ledger(100, 500)
    inspector = frame_inspector(rejects_cracks, ledger=ledger)
    judged = []
    for number in range(5):
        frame = make_frame(number, number * FRAME_NS)
        judged += inspector.finish(frame, inspector.begin(frame), make_detections((CRACK, 0.9, make_box(50, 50))))
    assert [j.part.id for j in judged] == [f"top-{number}" for number in range(1, 6)]
    assert {j.decision.verdict for j in judged} == {"reject"}
    assert ledger.opened == 5


def test_the_part_of_a_frame_is_open_before_the_engine_runs_and_counts_from_capture():
    ledger = Ledger(100, 500)
    part = frame_inspector(ledger=ledger).begin(make_frame(0, 7 * MS))
    assert (part.deadline_ns, ledger.next_deadline_ns()) == (107 * MS, 107 * MS)


def test_an_empty_frame_passes_unless_something_must_be_there():
    frame = make_frame()
    for rule, verdict in (
        (rejects_cracks, "pass"),
        (lambda: presence.create(presence.Config(require=("cap",))), "reject"),
    ):
        inspector = frame_inspector(rule)
        (judged,) = inspector.finish(frame, inspector.begin(frame), Detections.empty())
        assert judged.decision.verdict == verdict


def test_frames_know_nothing_of_each_other():
    inspector = frame_inspector(rejects_cracks)
    verdicts = []
    for found in ([(CRACK, 0.9, make_box(50, 50))], []):
        frame = make_frame()
        (judged,) = inspector.finish(frame, inspector.begin(frame), make_detections(*found))
        verdicts.append(judged.decision.verdict)
    assert verdicts == ["reject", "pass"]


def test_what_is_not_seen_on_an_unfit_frame_is_unknown_and_what_is_seen_still_rejects():
    inspector, frame = frame_inspector(rejects_cracks), make_frame()
    (blind,) = inspector.finish(frame, inspector.begin(frame), Detections.empty(), is_fit=False)
    assert (blind.decision.verdict, blind.decision.reasons[0].code) == ("unknown", "camera_unhealthy")
    cracked = make_detections((CRACK, 0.9, make_box(50, 50)))
    (seen,) = inspector.finish(frame, inspector.begin(frame), cracked, is_fit=False)
    assert (seen.decision.verdict, [r.label for r in seen.decision.reasons]) == ("reject", ["crack"])
    (well,) = inspector.finish(frame, inspector.begin(frame), Detections.empty())
    assert well.decision.verdict == "pass"


def test_without_any_rule_an_unfit_frame_is_unknown_too():
    inspector, frame = frame_inspector(), make_frame()
    (blind,) = inspector.finish(frame, inspector.begin(frame), Detections.empty(), is_fit=False)
    assert blind.decision.verdict == "unknown"


def test_new_rules_hold_from_the_next_frame_on():
    inspector, frame = frame_inspector(), make_frame()
    cracked = make_detections((CRACK, 0.9, make_box(50, 50)))
    assert inspector.finish(frame, inspector.begin(frame), cracked)[0].decision.verdict == "pass"
    inspector.rules = [rejects_cracks]
    assert inspector.finish(frame, inspector.begin(frame), cracked)[0].decision.verdict == "reject"


RIGHT = (20, 45, 70, 95, 120, 145, 170)


@pytest.mark.parametrize(
    ("unfit", "verdict"),
    [
        ((), "pass"),
        ((20,), "pass"),
        ((20, 45), "pass"),
        ((20, 45, 70), "unknown"),
        ((120,), "unknown"),
        ((145,), "pass"),
    ],
)
def test_a_part_on_a_line_passes_where_its_crossing_and_most_of_its_frames_were_seen_well(unfit, verdict):
    belt = Belt(rejects_cracks)
    (judged,) = [judged for x in RIGHT for judged in belt.show(bottle(x), is_fit=x not in unfit)]
    assert judged.decision.verdict == verdict


def test_a_defect_in_an_unfit_frame_still_rejects_the_part_on_the_line():
    belt = Belt(rejects_cracks)
    belt.show(bottle(70), (CRACK, 0.8, make_box(70, 50, 4, 4)), is_fit=False)
    judged = [judged for x in (95, 120) for judged in belt.show(bottle(x), is_fit=False)]
    assert [j.decision.verdict for j in judged] == ["reject"]


@pytest.mark.parametrize(("direction", "there", "back"), [("right", 1, 0), ("left", 0, 1), ("any", 1, 1), ("up", 0, 0)])
def test_a_moving_part_gets_one_verdict_in_each_direction_that_counts(direction, there, back):
    assert len(Belt(direction=direction).move(*RIGHT)) == there
    assert len(Belt(direction=direction).move(*reversed(RIGHT))) == back


@pytest.mark.parametrize(("direction", "verdicts"), [("down", 1), ("up", 0), ("any", 1)])
def test_a_part_may_also_fall_through_a_level_line(direction, verdicts):
    belt = Belt(direction=direction, line=((0.0, 0.5), (1.0, 0.5)))
    judged = [j for y in (10, 25, 40, 55, 70) for j in belt.show(bottle(50, y))]
    assert len(judged) == verdicts


def test_the_part_is_opened_with_the_time_of_the_frame_in_which_it_crossed():
    belt = Belt()
    (judged,) = belt.move(*RIGHT)
    assert judged.part.since_ns == 4 * FRAME_NS
    assert judged.frames == 5


def test_a_part_that_turns_back_before_the_line_gets_none():
    belt = Belt(direction="any")
    assert belt.move(20, 45, 70, 90, 98, 90, 70, 45, 20) == []
    assert belt.ledger.opened == 0


def test_a_part_that_stops_on_the_line_and_jitters_gets_one():
    jitter = [100 + (-1) ** i * 0.6 for i in range(200)]
    assert len(Belt().move(45, 70, 90, *jitter, 120, 145)) == 1


def test_a_part_that_goes_back_and_forth_over_the_line_gets_one():
    swing = [100 + 60 * math.sin(i / 5 - 1) for i in range(100)]
    assert len(Belt(direction="any").move(*swing)) == 1


def test_a_part_that_begins_beyond_the_line_gets_none():
    assert Belt().move(101, 120, 145, 170) == []


def test_a_part_that_is_missed_in_the_frame_of_the_crossing_gets_one_afterwards():
    belt = Belt()
    assert belt.move(45, 70, 90) == []
    assert belt.show() == []
    assert len(belt.move(130, 150)) == 1


def test_a_part_that_passes_beside_a_short_line_gets_none():
    assert Belt(line=((0.5, 0.0), (0.5, 0.3))).move(*RIGHT) == []


def test_what_is_no_part_makes_no_part():
    belt = Belt()
    assert [j for x in RIGHT for j in belt.show((CAP, 0.9, make_box(x, 50)))] == []


def test_several_parts_in_a_row_get_one_each():
    belt = Belt()
    judged = []
    for step in range(40):
        places = [x for x in range(-300 + 10 * step, 300, 60) if 10 <= x <= 190]
        judged += belt.show(*(bottle(x) for x in places if x <= 10 * step + 60))
    crossed = len({j.part.id for j in judged})
    assert crossed == len(judged) == belt.ledger.opened
    assert crossed >= 5


def test_two_parts_side_by_side_are_two():
    belt = Belt()
    judged = [j for x in RIGHT for j in belt.show(*(bottle(x, y) for y in (25, 75)))]
    assert len(judged) == 2


@pytest.mark.parametrize(("first_y", "last_y"), [(30, 70), (70, 30)])
def test_of_two_parts_that_cross_in_one_frame_the_foremost_is_judged_first(first_y, last_y):
    belt, verdicts = Belt(rejects_cracks), []
    for x in (10, 40, 70, 100):
        cracked_and_last = [bottle(x, last_y), (CRACK, 0.9, make_box(x, last_y))]
        verdicts += [j.decision.verdict for j in belt.show(bottle(x + 15, first_y), *cracked_and_last)]
    assert verdicts == ["pass", "reject"]


def test_a_defect_seen_only_in_an_early_frame_rejects():
    belt = Belt(rejects_cracks)
    belt.show(bottle(20), (CRACK, 0.8, make_box(22, 52, 4, 4)))
    (judged,) = belt.move(45, 70, 95, 120)
    assert (judged.decision.verdict, judged.decision.reasons[0].score) == ("reject", pytest.approx(0.8))


def test_a_defect_seen_only_in_the_frame_of_the_crossing_rejects():
    belt = Belt(rejects_cracks)
    belt.move(45, 70, 95)
    (judged,) = belt.show(bottle(120), (CRACK, 0.8, make_box(122, 52, 4, 4)))
    assert judged.decision.verdict == "reject"


def test_a_defect_after_the_crossing_is_too_late():
    belt = Belt(rejects_cracks)
    (judged,) = belt.move(70, 95, 120)
    assert belt.show(bottle(145), (CRACK, 0.8, make_box(145, 50, 4, 4))) == []
    assert judged.decision.verdict == "pass"


def test_a_defect_on_one_of_two_neighbours_belongs_to_that_one():
    belt = Belt(rejects_cracks)
    judged = []
    for x in RIGHT:
        bottles = [bottle(x, y) for y in (39, 61)]
        judged += belt.show(*bottles, (CRACK, 0.9, make_box(x, 55, 4, 4)))
    assert [j.decision.verdict for j in judged] == ["pass", "reject"]


def test_a_defect_beside_all_parts_belongs_to_none():
    belt = Belt(rejects_cracks)
    judged = [j for x in RIGHT for j in belt.show(bottle(x, 30), (CRACK, 0.9, make_box(x, 80, 4, 4)))]
    assert [j.decision.verdict for j in judged] == ["pass"]


def test_the_part_itself_may_be_what_a_rule_asks_for():
    belt = Belt(lambda: count.create(count.Config(label="bottle", min=1, max=1)))
    (judged,) = belt.move(*RIGHT)
    assert judged.decision.verdict == "pass"


def test_a_label_of_a_broken_part_may_be_both_part_and_defect():
    belt = Belt(rejects_cracks, parts=("bottle", "crack"))
    belt.move(45)
    belt.show((CRACK, 0.8, make_box(70, 50)))
    (judged,) = belt.move(95, 120)
    assert judged.decision.verdict == "reject"


def test_parts_under_way_keep_their_rules():
    belt = Belt(rejects_cracks)
    belt.show(bottle(70), (CRACK, 0.8, make_box(70, 50, 4, 4)))
    belt.inspector.rules = []
    (judged,) = belt.move(95, 120)
    assert judged.decision.verdict == "reject"


def test_a_belt_that_stands_still_for_thousands_of_frames_keeps_no_more_than_at_first():
    belt = Belt(rejects_cracks, lambda: count.create(count.Config(label="bottle")))
    belt.move(70, 95, 120)
    for _ in range(3000):
        belt.show(bottle(120), bottle(60), (CRACK, 0.4, make_box(60, 50, 4, 4)))
    assert belt.ledger.opened == 1
    assert len(belt.inspector._dossiers) == len(belt.inspector._tracker._tracks) == 2
    (dossier,) = filter(None, belt.inspector._dossiers.values())
    assert [len(rule._best) if hasattr(rule, "_best") else len(rule._counts) for rule in dossier._rules] == [1, 1]


def test_what_is_gone_is_forgotten():
    belt = Belt(rejects_cracks)
    for _ in range(5):
        belt.move(*RIGHT)
        for _ in range(20):
            belt.show()
    assert belt.ledger.opened == 5
    assert belt.inspector._dossiers == {}
    assert belt.inspector._tracker._tracks == []


def test_a_part_that_is_found_twice_in_one_frame_is_still_one():
    belt = Belt()
    belt.move(20, 45)
    belt.show(bottle(70), (BOTTLE, 0.5, make_box(73, 50, 40)))
    assert len(belt.move(95, 120, 145, 170)) == 1


def test_a_thing_that_is_found_under_two_part_labels_is_one_part():
    belt = Belt(parts=("bottle", "cap"))
    judged = [j for x in RIGHT for j in belt.show(bottle(x), (CAP, 0.8, make_box(x + 1, 50, 40, 20)))]
    assert len(judged) == 1


def test_two_of_one_label_are_two_parts_however_many_labels_are_parts():
    belt = Belt(parts=("bottle", "cap"))
    judged = [j for x in RIGHT for j in belt.show(bottle(x, 45), bottle(x, 52))]
    assert len(judged) == 2


def test_touching_parts_with_different_part_labels_are_two():
    belt = Belt(parts=("bottle", "cap"))
    judged = [j for x in RIGHT for j in belt.show(bottle(x, 40), (CAP, 0.8, make_box(x, 60, 40, 20)))]
    assert len(judged) == 2


def test_the_part_label_that_was_less_sure_is_still_found_on_the_part():
    belt = Belt(rejects_cracks, parts=("bottle", "crack"))
    judged = [j for x in RIGHT for j in belt.show(bottle(x), (CRACK, 0.8, make_box(x + 1, 50, 40, 20)))]
    assert [j.decision.verdict for j in judged] == ["reject"]


def test_different_things_with_different_part_labels_are_different_parts():
    belt = Belt(parts=("bottle", "cap"))
    judged = [j for x in RIGHT for j in belt.show(bottle(x, 25), (CAP, 0.8, make_box(x, 75, 40, 20)))]
    assert len(judged) == 2


def test_a_box_belongs_to_the_part_that_contains_its_centre():
    tracks = [make_track(1, make_box(50, 50)), make_track(2, make_box(100, 50))]
    boxes = make_detections(*((CRACK, 0.9, make_box(x, 50, 4, 4)) for x in (45, 75, 105, 60))).boxes
    assert owners_of(boxes, tracks) == [0, -1, 1, 0]


def test_where_parts_overlap_the_nearest_is_the_owner():
    tracks = [make_track(1, make_box(50, 50)), make_track(2, make_box(60, 50))]
    boxes = make_detections(*((CRACK, 0.9, make_box(x, 50, 4, 4)) for x in (54, 56))).boxes
    assert owners_of(boxes, tracks) == [0, 1]


def test_without_parts_or_boxes_nobody_owns_anything():
    assert owners_of(Detections.empty().boxes, [make_track()]) == []
    assert owners_of(make_detections((CRACK, 0.9, make_box(5, 5))).boxes, []) == [-1]


@pytest.mark.parametrize("late_ms", [0, 10, 20, 28, 31, 33])
@pytest.mark.parametrize("step_px", [5, 20, 40])
def test_a_frame_that_is_stamped_late_costs_no_part(late_ms, step_px):
    for phase in range(-40, 40, 4):
        ledger = Ledger(150, 600)
        inspector = LineInspector(
            "top", ledger, ["bottle"], [], parts=["bottle"], line=((0.5, 0), (0.5, 1)), direction="right"
        )
        for k in range(40):
            left = 200 + phase + (k - 12) * step_px
            stamp_ms = k * 33 + (late_ms if k == 12 else 0)
            if 0 < left < 350:
                frame = make_frame(k, stamp_ms * MS, width=400)
                inspector.finish(frame, None, make_detections((0, 0.8, make_box(left, 50, 50, 50))))
        assert ledger.opened == 1


@pytest.mark.parametrize("apart_px", [1, 4, 6, 8])
def test_two_part_labels_on_one_object_are_one_part(apart_px):
    ledger = Ledger(150, 600)
    inspector = LineInspector(
        "top", ledger, ["bottle", "can"], [], parts=["bottle", "can"], line=((0.5, 0), (0.5, 1)), direction="right"
    )
    for k in range(18):
        box = make_box(20 + k * 20, 50, 40, 40)
        found = make_detections((0, 0.8, box), (1, 0.4, box + apart_px))
        inspector.finish(make_frame(k, k * 33 * MS, width=400), None, found)
    assert ledger.opened == 1


@pytest.mark.parametrize("rows", [1, 12, 30])
def test_where_the_belt_is_full_each_part_has_its_verdict_all_the_same(rows):
    ledger = Ledger(150, 600)
    inspector = LineInspector("top", ledger, ["bean"], [], parts=["bean"], line=((0.5, 0), (0.5, 1)), direction="right")
    left, columns, step_px = 0, 12, 9
    for k in range(110):
        xs = [30 * column + step_px * k - 360 for column in range(columns)]
        found = [(0, 0.8, make_box(x, 20 + 30 * row)) for x in xs if 0 < x < 600 for row in range(rows)]
        inspector.finish(make_frame(k, k * 40 * MS, width=600, height=940), None, make_detections(*found))
        left = max(left, len(found))
    assert left == rows * columns
    assert ledger.opened == rows * columns


@pytest.mark.parametrize(("stall_s", "verdict"), [(0.3, "pass"), (0.7, "unknown")])
def test_a_part_that_nobody_saw_for_a_while_does_not_pass(stall_s, verdict):
    belt = Belt(rejects_cracks)
    belt.move(40, 50, 60, 70)
    belt.show(bottle(80), after_s=stall_s)
    (judged,) = belt.move(90, 100, 110)
    assert judged.decision.verdict == verdict
    assert [reason.code for reason in judged.decision.reasons] == ["stale_frame"] * (verdict == "unknown")


def test_a_part_that_comes_after_the_stall_passes():
    belt = Belt(rejects_cracks)
    belt.show()
    belt.show(after_s=2)
    (judged,) = belt.move(40, 50, 60, 70, 80, 90, 100, 110)
    assert judged.decision.verdict == "pass"


def test_where_frames_are_always_rare_no_gap_is_seen():
    belt = Belt(rejects_cracks)
    for x in (40, 50, 60, 70, 80, 90):
        assert belt.show(bottle(x), after_s=0.8) == []
    judged = belt.show(bottle(100), after_s=0.8) + belt.show(bottle(110), after_s=0.8)
    assert [j.decision.verdict for j in judged] == ["pass"]


def test_a_defect_that_was_seen_before_the_stall_still_rejects():
    belt = Belt(rejects_cracks)
    belt.move(40, 50, 60)
    belt.show(bottle(70), (CRACK, 0.9, make_box(70, 50, 5, 5)))
    belt.show(bottle(80), after_s=0.7)
    (judged,) = belt.move(90, 100, 110)
    assert judged.decision.verdict == "reject"


def test_what_is_only_like_something_found_on_a_part_is_a_part_of_its_own():
    belt = Belt(parts=("bottle", "crack", "cap"))
    judged = []
    for x in (40, 70, 100, 130):
        judged += belt.show(*((label, 0.9, make_box(x + 14 * label, 50, 40, 40)) for label in (BOTTLE, CRACK, CAP)))
    assert len(judged) == 2


def test_a_thousand_parts_in_a_frame_cost_no_more_than_ten_times_a_hundred():
    def least_s(number):
        belt = Belt(rejects_cracks, parts=("bottle", "cap"))
        boxes = [make_box(10 + 5 * (k % 40), 2 + 4 * (k // 40), 4, 3) for k in range(number)]
        return min(timed(belt, [(CAP if k % 2 else BOTTLE, 0.9, box) for k, box in enumerate(boxes)]) for _ in range(4))

    def timed(belt, found):
        began_s = time.process_time()
        belt.show(*found)
        return time.process_time() - began_s

    assert least_s(1000) < 10 * least_s(100)
