import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.datatypes import Detections
from edge_agent.core.tracker import Tracker, TrackerSettings
from tests.builders import MS, make_box, make_detections, make_track

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


def test_the_prediction_is_of_constant_speed():
    track = make_track(box=make_box(50, 50))
    track.velocity = (100.0, -20.0)
    assert track.predicted(500 * MS) == pytest.approx(make_box(100, 40))


def test_the_speed_of_steady_motion_is_exact():
    tracker = Tracker()
    for number in range(5):
        (track,), _ = tracker.update(things((20 + 4 * number, 50 - 2 * number)), number * FRAME_NS)
    assert track.velocity == pytest.approx((100.0, -50.0))


def test_two_frames_of_the_same_moment_do_no_harm():
    tracker = Tracker()
    tracker.update(things((20, 50)), 0)
    (track,), _ = tracker.update(things((22, 50)), 0)
    assert (track.id, track.velocity) == (1, (0.0, 0.0))


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


SPOTS = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 12), st.integers(1, 12))
SCENES = st.lists(st.lists(SPOTS, max_size=6), max_size=6)


def detections_of(spots):
    return make_detections(*((i, 0.5, make_box(x * 5, y * 5, w * 5, h * 5)) for i, (x, y, w, h) in enumerate(spots)))


@settings(deadline=None)
@given(SCENES)
def test_every_detection_is_in_exactly_one_track(scenes):
    tracker = Tracker()
    for number, spots in enumerate(scenes):
        detections = detections_of(spots)
        seen, _ = tracker.update(detections, number * FRAME_NS)
        assert sorted(track.class_id for track in seen) == list(range(len(detections)))
        for track in seen:
            assert (track.box == detections.boxes[track.class_id]).all()


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
