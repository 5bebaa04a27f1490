from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.core.datatypes import Detections
from edge_agent.core.tracker import MOST_BOXES, MOST_TRACKS, Tracker, TrackerSettings
from tests.builders import MS, make_box, make_detections

FRAME_NS = 40 * MS


def things(*centres):
    """One detection of class 0 at each centre."""
    return make_detections(*((0, 0.9, make_box(x, y)) for x, y in centres))


def play(tracker, frames, step_ns=FRAME_NS):
    """Updates with each frame in turn; the tracks' ids of each, by x of the centre."""
    ids = []
    for number, centres in enumerate(frames):
        seen, _ = tracker.update(things(*centres), number * step_ns)
        ids.append([track.id for track in sorted(seen, key=lambda track: track.centre)])
    return ids


def test_what_moves_a_little_keeps_its_id():
    assert play(Tracker(), [[(20 + 6 * i, 50)] for i in range(10)]) == [[1]] * 10


def test_what_moves_further_than_its_size_keeps_its_id_once_its_speed_is_known():
    jumps = [20, 40, *range(75, 400, 35)]
    assert play(Tracker(), [[(x, 50)] for x in jumps]) == [[1]] * len(jumps)


def test_a_new_thing_gets_a_new_id():
    assert play(Tracker(), [[(20, 50)], [(20, 50), (120, 50)]]) == [[1], [1, 2]]


def test_a_track_is_found_again_after_a_gap_where_its_speed_has_brought_it():
    frames = [[(20 + 10 * i, 50)] if i not in (4, 5, 6) else [] for i in range(10)]
    assert [ids for ids in play(Tracker(), frames) if ids] == [[1]] * 7


def test_a_track_is_given_up_after_enough_time_and_enough_frames():
    tracker = Tracker(TrackerSettings(max_gap_ms=100, max_gap_frames=3))
    tracker.update(things((20, 50)), 0)
    gone = [tracker.update(Detections.empty(), number * FRAME_NS)[1] for number in range(1, 6)]
    assert gone == [[], [], [1], [], []]


def test_a_fast_camera_does_not_give_up_within_a_blink():
    tracker = Tracker(TrackerSettings(max_gap_ms=100, max_gap_frames=3))
    tracker.update(things((20, 50)), 0)
    assert all(not tracker.update(Detections.empty(), number * MS)[1] for number in range(1, 100))
    assert tracker.update(Detections.empty(), 100 * MS)[1] == [1]


def test_a_slow_camera_may_miss_a_frame():
    tracker = Tracker(TrackerSettings(max_gap_ms=100, max_gap_frames=3))
    tracker.update(things((20, 50)), 0)
    assert tracker.update(Detections.empty(), 1000 * MS)[1] == []
    assert [track.id for track in tracker.update(things((20, 50)), 2000 * MS)[0]] == [1]


def test_ids_are_not_used_again():
    tracker = Tracker(TrackerSettings(max_gap_ms=0, max_gap_frames=1))
    ids = []
    for number in range(20):
        found = things((20, 50)) if number % 2 == 0 else Detections.empty()
        ids += [track.id for track in tracker.update(found, number * FRAME_NS)[0]]
    assert ids == list(range(1, 11))


def test_two_that_pass_each_other_keep_their_ids():
    frames = [[(20 + 10 * i, 45), (220 - 10 * i, 55)] for i in range(21)]
    ids = play(Tracker(), frames)
    assert ids[0] == [1, 2]
    assert ids[-1] == [2, 1]


def test_two_that_follow_each_other_closely_keep_their_ids():
    frames = [[(20 + 10 * i, 50), (45 + 10 * i, 50)] for i in range(20)]
    assert play(Tracker(), frames) == [[1, 2]] * 20


def test_the_next_part_is_not_taken_for_the_one_that_left():
    tracker = Tracker()
    play(tracker, [[(160 + 10 * i, 50)] for i in range(4)])
    seen, _ = tracker.update(things((20, 50)), 4 * FRAME_NS)
    assert [track.id for track in seen] == [2]


def test_the_speed_of_steady_motion_is_exact():
    tracker = Tracker()
    for number in range(5):
        (track,), _ = tracker.update(things((20 + 4 * number, 50 - 2 * number)), number * FRAME_NS)
    assert track.velocity == pytest.approx((4.0, -2.0))


def test_two_frames_of_the_same_moment_do_no_harm():
    tracker = Tracker()
    for number in range(30):
        (track,), _ = tracker.update(things((20 + 4 * number, 50)), number // 2 * FRAME_NS)
    assert (track.id, track.velocity) == (1, pytest.approx((4.0, 0.0)))


@pytest.mark.parametrize("step_px", [5, 10, 15, 19])
def test_a_late_time_stamp_does_not_change_the_speed(step_px):
    tracker = Tracker()
    for number in range(20):
        late_ns = FRAME_NS - 2 * MS if number == 12 else 0
        (track,), _ = tracker.update(things((20 + step_px * number, 50)), number * FRAME_NS + late_ns)
        if number:
            assert (track.id, track.velocity) == (1, pytest.approx((step_px, 0.0)))


def test_pictures_that_never_came_do_not_change_the_speed():
    tracker = Tracker()
    for number in [*range(12), 15, 16, 19, 20]:
        (track,), _ = tracker.update(things((20 + 15 * number, 50)), number * FRAME_NS)
        if number:
            assert (track.id, track.velocity) == (1, pytest.approx((15.0, 0.0)))


def test_a_new_thing_is_expected_to_move_as_the_others_do():
    tracker, id_of = Tracker(), {}
    for number, moved in enumerate(np.cumsum([5, 5, 8, 12, 17, 22, *[26] * 30]).tolist()):
        place_of = {part: (moved - 35 * part, 50) for part in range(20) if 0 <= moved - 35 * part <= 400}
        seen, _ = tracker.update(things(*place_of.values()), number * FRAME_NS)
        found = {track.centre: track.id for track in seen}
        for part, place in place_of.items():
            assert id_of.setdefault(part, found[place]) == found[place]
    assert len(set(id_of.values())) == len(id_of) == 20


def test_what_stands_still_beside_the_belt_is_not_taken_for_its_speed():
    tracker = Tracker()
    for number in range(10):
        tracker.update(things((20 + 15 * number, 50), (100, 150)), number * FRAME_NS)
    new, later = (tracker.update(things((x, 50), (100, 150)), n * FRAME_NS)[0] for n, x in ((10, 20), (11, 39)))
    assert [track.id for track in new] == [track.id for track in later] == [2, 3]


@pytest.mark.parametrize("gap_px", [0, 2, 10])
@pytest.mark.parametrize("step_px", [2, 5, 8])
def test_a_belt_that_stops_and_goes_on_mixes_up_no_parts(step_px, gap_px):
    tracker, id_of, moved = Tracker(), {}, 0
    for number in range(300):
        moved += step_px if number % 7 < 4 else 0
        place_of = {p: moved - (20 + gap_px) * p for p in range(5) if 10 <= moved - (20 + gap_px) * p <= 290}
        seen, _ = tracker.update(things(*((x, 50) for x in place_of.values())), number * FRAME_NS)
        found = {track.centre[0]: track.id for track in seen}
        assert all(id_of.setdefault(part, found[x]) == found[x] for part, x in place_of.items())
    assert sorted(id_of.values()) == [1, 2, 3, 4, 5]


def test_a_track_knows_where_it_was_when_it_was_last_seen():
    tracker = Tracker()
    tracker.update(things((20, 50)), 0)
    tracker.update(Detections.empty(), FRAME_NS)
    (track,), _ = tracker.update(things((24, 50)), 2 * FRAME_NS)
    assert (track.previous, track.centre) == ((20.0, 50.0), (24.0, 50.0))


def test_a_track_has_the_class_and_score_of_its_newest_sighting():
    tracker = Tracker()
    tracker.update(make_detections((0, 0.9, make_box(50, 50))), 0)
    (track,), _ = tracker.update(make_detections((3, 0.5, make_box(51, 50))), FRAME_NS)
    assert (track.class_id, track.score, track.hits) == (3, 0.5, 2)


def follow(tracker, frames, width=20):
    """Updates with boxes `(part, x)` of each frame; for each part the ids it had, in order."""
    ids = {}
    for number, found in enumerate(frames):
        boxes = make_detections(*((part, 0.9, make_box(x, 50, width)) for part, x in found))
        for track in tracker.update(boxes, number * FRAME_NS, number)[0]:
            ids.setdefault(track.class_id, [])
            ids[track.class_id] += [track.id] if track.id not in ids[track.class_id] else []
    return ids


def tight_row(way, parts=4, pitch=21):
    return [[(part, x - pitch * part) for part in range(parts) if 0 < x - pitch * part < 300] for x in way]


@pytest.mark.parametrize("step_px", range(2, 19))
@pytest.mark.parametrize("phase", [0.1, 0.5, 0.9])
def test_a_tight_row_is_one_track_per_part_from_the_first_on(step_px, phase):
    way = np.arange(phase * step_px, 400, step_px)
    assert follow(Tracker(heading=(1, 0)), tight_row(way)) == {part: [part + 1] for part in range(4)}


@pytest.mark.parametrize("step_px", range(2, 19))
def test_a_tight_row_that_stops_dead_and_starts_dead_mixes_up_no_parts(step_px):
    there = np.arange(5, 200, step_px)
    way = [*there, *[there[-1]] * 20, *np.arange(there[-1] + step_px, 400, step_px)]
    assert follow(Tracker(heading=(1, 0)), tight_row(way)) == {part: [part + 1] for part in range(4)}


@pytest.mark.parametrize("step_px", [4, 10, 16])
def test_pictures_that_were_lost_are_known_by_their_number_though_stamps_are_late(step_px):
    tracker, id_of, random = Tracker(heading=(1, 0)), {}, Random(1)
    for number in range(100):
        if number % 7 in (3, 5) and number > 20:
            continue
        place_of = {p: step_px * number - 26 * p for p in range(60) if 0 < step_px * number - 26 * p < 300}
        seen, _ = tracker.update(
            things(*((x, 50) for x in place_of.values())), int((number + random.random()) * 4e7), number
        )
        found = {track.centre[0]: track.id for track in seen}
        assert all(id_of.setdefault(part, found[x]) == found[x] for part, x in place_of.items())


def test_two_in_one_wide_box_are_both_seen_where_they_should_be():
    tracker = Tracker()
    play(tracker, [[(20 + 5 * i, 50), (42 + 5 * i, 50)] for i in range(6)])
    for number in range(6, 30):
        wide = make_detections((0, 0.7, make_box(31 + 5 * number, 50, 42)))
        seen, _ = tracker.update(wide, number * FRAME_NS)
        assert [(track.id, track.centre) for track in seen] == [
            (1, pytest.approx((20 + 5 * number, 50))),
            (2, pytest.approx((42 + 5 * number, 50))),
        ]


def test_the_box_of_one_part_does_not_keep_another_alive_that_left():
    tracker = Tracker()
    play(tracker, [[(20 + 5 * i, 50), (42 + 5 * i, 50)] for i in range(6)])
    for number in range(6, 30):
        seen, _ = tracker.update(things((20 + 5 * number, 50)), number * FRAME_NS)
        assert [track.id for track in seen] == [1]


def test_a_wide_box_beside_the_boxes_of_both_is_a_shadow():
    tracker = Tracker()
    for number in range(10):
        both = [(0, 0.6, make_box(x + 5 * number, 50)) for x in (20, 42)]
        seen, _ = tracker.update(make_detections(*both, (1, 0.9, make_box(31 + 5 * number, 50, 42))), number * FRAME_NS)
        assert number == 0 or [track.class_id for track in seen if not track.is_shadow] == [0, 0]


def test_a_shadow_that_stands_alone_is_an_object_from_then_on():
    tracker = Tracker()
    play(tracker, [[(50, 50)]] * 3)
    tracker.update(things((50, 50), (55, 50)), 3 * FRAME_NS)
    (first, second), _ = tracker.update(things((50, 50), (58, 50)), 4 * FRAME_NS)
    assert (first.is_shadow, second.is_shadow) == (False, False)
    assert second.previous is None


class Belt:
    """Parts one behind the other, moving right through a view of 20 widths; time stamps are late, boxes inexact.

    `step` and `gap` are in widths. With `ramp`, the belt moves 0.3 widths per picture until the first part is well in
    view, and is then a fifth faster with each.
    """

    def __init__(self, seed, fps, width, step, late, *, parts=1, gap=1.0, ramp=False):
        self.random, self.interval_ns, self.width, self.late = Random(seed), 1e9 / fps, width, late
        self.height = width * self.random.uniform(0.4, 2.5)
        self.apart = [0.0] + [1 + gap] * (parts - 1)
        self.way = [-self.random.random() * step]
        speed = min(step, 0.3) if ramp else step
        while self.way[-1] < 21 + sum(self.apart):
            self.way.append(self.way[-1] + speed)
            speed = min(step, speed * 1.2) if self.way[-1] > 2 else speed
        self.steady = next(k for k in range(3, len(self.way)) if self.way[k] - self.way[k - 3] > 2.99 * step)
        self.sightings = dict.fromkeys(range(parts), 0)

    def box(self, part, number):
        """Its box if the part is in view as a whole, with 2 px of noise on each edge."""
        x = self.way[number] - sum(self.apart[: part + 1])
        if not 0.5 <= x <= 19.5:
            return None
        noise = [self.random.uniform(-2, 2) for _ in range(4)]
        return make_box(x * self.width, 300, self.width, self.height) + np.array(noise, np.float32)

    def run(self, miss_after=0, misses=0):
        """Each part's track ids, and those of its crossings; each part is missed in two frames after so many."""
        tracker, ids, crossed = Tracker(), {}, []
        missed = {part: self.random.randrange(miss_after, miss_after + 20) for part in self.sightings}
        for number in range(len(self.way)):
            boxes = {part: box for part in self.sightings if (box := self.box(part, number)) is not None}
            for part in list(boxes):
                self.sightings[part] += number >= self.steady or not misses
                if 0 < self.sightings[part] - missed[part] <= misses:
                    del boxes[part]
            stamp_ns = int((number + self.late * self.random.random()) * self.interval_ns)
            seen, _ = tracker.update(make_detections(*((p, 0.9, box) for p, box in boxes.items())), stamp_ns)
            for track in seen:
                ids.setdefault(track.class_id, set()).add(track.id)
                if track.previous and track.previous[0] < 10 * self.width <= track.centre[0]:
                    crossed.append((track.class_id, track.id))
        return ids, sorted(set(crossed))


SEEDS, FPS, WIDTHS = st.integers(0, 2**32), st.floats(5, 60), st.floats(20, 200)
LATE, SLOW, FAST = st.floats(0, 1), st.floats(0.05, 0.5), st.floats(0.05, 1.5)


@settings(deadline=None, max_examples=40)
@given(SEEDS, FPS, WIDTHS, SLOW, LATE, st.integers(0, 2))
def test_one_part_is_one_track_and_crosses_once(seed, fps, width, step, late, misses):
    ids, crossed = Belt(seed, fps, width, step, late).run(misses=misses)
    assert (ids, crossed) == ({0: {1}}, [(0, 1)])


@settings(deadline=None, max_examples=40)
@given(SEEDS, FPS, WIDTHS, FAST, LATE, st.integers(0, 2))
def test_a_part_may_be_fast_once_its_speed_is_known(seed, fps, width, step, late, misses):
    ids, crossed = Belt(seed, fps, width, step, late, ramp=True).run(misses=misses)
    assert (ids, crossed) == ({0: {1}}, [(0, 1)])


@settings(deadline=None, max_examples=40)
@given(SEEDS, FPS, WIDTHS, SLOW, LATE, st.integers(0, 2), st.integers(2, 5), st.floats(0.3, 1.5))
def test_parts_in_a_row_are_one_track_each_and_cross_once_each(seed, fps, width, step, late, misses, parts, gap):
    ids, crossed = Belt(seed, fps, width, step, late, parts=parts, gap=gap).run(miss_after=3, misses=misses)
    assert ids == {part: {part + 1} for part in range(parts)}
    assert crossed == [(part, part + 1) for part in range(parts)]


@settings(deadline=None, max_examples=40)
@given(SEEDS, FPS, WIDTHS, FAST, st.floats(0, 0.9), st.integers(2, 5), st.floats(0.3, 1.5))
@example(seed=0, fps=5.0, width=20.0, step=1.5, late=0.0, parts=5, gap=0.5)  # just one part further with each picture
def test_a_fast_row_is_one_track_per_part(seed, fps, width, step, late, parts, gap):
    ids, crossed = Belt(seed, fps, width, step, late, parts=parts, gap=gap, ramp=True).run()
    assert ids == {part: {part + 1} for part in range(parts)}
    assert crossed == [(part, part + 1) for part in range(parts)]


SPOTS = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 12), st.integers(1, 12))
SCENES = st.lists(st.lists(SPOTS, max_size=6), max_size=6)


def detections_of(spots):
    return make_detections(*((i, 0.5, make_box(x * 5, y * 5, w * 5, h * 5)) for i, (x, y, w, h) in enumerate(spots)))


@settings(deadline=None)
@given(SCENES)
def test_every_detection_is_in_a_track_and_in_several_only_where_they_touch(scenes):
    tracker = Tracker()
    for number, spots in enumerate(scenes):
        detections = detections_of(spots)
        seen, _ = tracker.update(detections, number * FRAME_NS)
        tracks_of = {index: [track for track in seen if track.class_id == index] for index in range(len(detections))}
        assert sum(map(len, tracks_of.values())) == len(seen)
        for index, tracks in tracks_of.items():
            around = [*np.min([t.box[:2] for t in tracks], axis=0), *np.max([t.box[2:] for t in tracks], axis=0)]
            off = np.array(around, np.float64) - detections.boxes[index]
            assert off + off[[2, 3, 0, 1]] == pytest.approx(0, abs=1e-3)
            assert len(tracks) > 1 or not off.any()


@settings(deadline=None)
@given(SCENES)
def test_ids_are_unique_rise_and_never_come_back(scenes):
    tracker = Tracker(TrackerSettings(max_gap_frames=1, max_gap_ms=0))
    ever: set[int] = set()
    dead: set[int] = set()
    for number, spots in enumerate(scenes):
        seen, gone = tracker.update(detections_of(spots), number * FRAME_NS)
        ids = [track.id for track in seen]
        assert ids == sorted(set(ids))
        assert not dead & set(ids)
        assert all(new > max(ever, default=0) for new in set(ids) - ever)
        ever |= set(ids)
        assert set(gone) <= ever - dead - set(ids)
        dead |= set(gone)


@settings(deadline=None)
@given(SCENES, st.randoms(use_true_random=False))
def test_the_order_of_detections_does_not_change_the_tracks(scenes, random):
    straight, shuffled = Tracker(), Tracker()
    for number, spots in enumerate(scenes):
        detections = detections_of(sorted(set(spots)))
        order = np.array(random.sample(range(len(detections)), len(detections)), int)
        seen_a, gone_a = straight.update(detections, number * FRAME_NS)
        seen_b, gone_b = shuffled.update(detections[order], number * FRAME_NS)
        assert gone_a == gone_b
        assert [(t.id, t.centre) for t in seen_a] == [(t.id, t.centre) for t in seen_b]


def test_of_more_boxes_than_it_follows_the_first_are_followed():
    tracker = Tracker()
    many = make_detections(*((0, 0.5, make_box(30 * n, 50)) for n in range(MOST_BOXES + 20)))
    seen, _ = tracker.update(many, 0, 0)
    assert sorted(track.centre[0] for track in seen) == [30 * n for n in range(MOST_BOXES)]


def test_boxes_without_rhyme_or_reason_leave_no_more_tracks_than_it_keeps():
    tracker, rng = Tracker(heading=(1, 0)), np.random.default_rng(1)
    living = set()
    for k in range(60):
        corners = rng.uniform(0, 1000, (300, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 100, (300, 2))], axis=1).astype(np.float32)
        seen, gone = tracker.update(make_detections(*((0, 0.5, box) for box in boxes)), k * 5 * MS, k)
        living = (living | {track.id for track in seen}) - set(gone)
        assert len(living) <= MOST_TRACKS
    assert len(living) == MOST_TRACKS
