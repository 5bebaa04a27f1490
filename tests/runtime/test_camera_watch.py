import numpy as np
import pytest

from edge_agent.core.datatypes import Frame, Later
from edge_agent.core.health_judge import Bound, Limits
from edge_agent.errors import BadFrameError
from edge_agent.runtime.camera_watch import CameraWatch
from tests.scenes import plain, scene, seen

LIMITS = Limits(brightness=Bound(40, 48), structure=Bound(0.1, 0.12), frozen_s=2.0)
GOOD = [seen(scene(), seed=seed) for seed in range(6)]
DARK = [seen(plain(2), seed=seed) for seed in range(6)]


class Patient:
    """An watch that is shown pictures at 25 a second, on a clock of its own."""

    def __init__(self, limits=LIMITS, **settings):
        self.watch = CameraWatch("top", limits, **settings)
        self.seq = 0

    def show(self, pictures, seconds):
        """Whether each frame was fit."""
        fit = []
        for _ in range(round(25 * seconds)):
            self.seq += 1
            fit.append(self.watch.examine(Frame(pictures[self.seq % 6], self.seq, self.seq * 40_000_000)))
        return fit

    def news(self):
        return list(self.watch.news(self.seq / 25))


def test_an_eye_without_limits_never_looks():
    watch = CameraWatch("top", None)
    assert watch.examine(Frame(Later(lambda: pytest.fail("nobody needs it"), (8, 8)), 1, 1))
    assert (watch.picture(), list(watch.news(0.0)), watch.findings) == (None, [], ())


def test_a_picture_that_is_none_is_the_engines_to_tell():
    def broken():
        raise BadFrameError("no picture")

    with pytest.raises(BadFrameError):
        CameraWatch("top", LIMITS).examine(Frame(Later(broken, (8, 8)), 1, 1))


def test_falling_ill_and_getting_well_are_told_once_each():
    patient = Patient()
    assert all(patient.show(GOOD, 2))
    assert patient.news() == []
    patient.show(DARK, 4)
    (ill,) = patient.news()
    assert not ill.is_well
    assert (ill.data["camera"], ill.data["faults"], ill.data["brightness_limit"]) == ("top", "dark", 40)
    assert "dark (brightness" in ill.message
    assert patient.news() == []
    patient.show(GOOD, 3)
    (well,) = patient.news()
    assert well.is_well
    assert well.data["lasted_s"] == pytest.approx(5, abs=0.3)
    assert patient.news() == []


def test_a_fault_that_is_added_is_told_and_one_that_goes_alone_is_not():
    patient = Patient(Limits(brightness=Bound(40, 48), size=(640, 360)))
    small = [picture[::2, ::2] for picture in GOOD]
    patient.show(small, 2)
    assert [news.data["faults"] for news in patient.news()] == ["wrong_size"]
    patient.show([picture[::2, ::2] for picture in DARK], 2)
    assert [news.data["faults"] for news in patient.news()] == ["wrong_size, dark"]
    patient.show(small, 3)
    assert [finding.fault for finding in patient.watch.findings] == ["wrong_size"]
    assert patient.news() == []


def test_a_camera_that_falls_ill_again_and_again_is_counted_and_not_told_each_time():
    patient = Patient(quiet_s=200)
    told = []
    for _ in range(20):
        patient.show(DARK, 2)
        assert patient.watch.findings
        told += patient.news()
        patient.show(GOOD, 3)
        assert not patient.watch.findings
        told += patient.news()
    assert patient.watch.times == 20
    assert [news.is_well for news in told] == [False, True]


def test_one_that_is_still_ill_when_the_quiet_time_is_over_is_told():
    patient = Patient(quiet_s=5.5)
    patient.show(DARK, 2)
    patient.news()
    patient.show(GOOD, 3)
    patient.news()
    patient.show(DARK, 2)
    assert patient.news() == []
    patient.show(DARK, 1)
    (again,) = patient.news()
    assert again.data["times"] == 2


def test_another_fault_soon_after_is_told_at_once():
    patient = Patient(Limits(brightness=Bound(40, 48), size=(640, 360)))
    patient.show(DARK, 2)
    patient.news()
    patient.show(GOOD, 3)
    patient.news()
    patient.show([picture[::2, ::2] for picture in GOOD], 2)
    (other,) = patient.news()
    assert (other.data["faults"], other.data["times"]) == ("wrong_size", 2)


def test_the_numbers_of_the_newest_picture_are_there_for_health():
    patient = Patient()
    patient.show(GOOD, 1)
    told = patient.watch.picture()
    assert told.brightness == pytest.approx(float(GOOD[0][:, :, 1].mean()), abs=3)
    assert (told.in_place, told.clipped < 0.1) == (None, True)


def test_new_limits_count_from_the_next_frame_on_and_none_ends_it():
    patient = Patient()
    patient.show(DARK, 2)
    assert patient.watch.findings
    patient.watch.set_limits(None)
    assert patient.watch.findings == ()
    assert all(patient.show(DARK, 1))
    patient.watch.set_limits(LIMITS)
    assert not any(patient.show(DARK, 1))


def test_a_camera_that_is_not_watched_any_more_is_not_called_well():
    patient = Patient()
    patient.show(DARK, 3)
    assert len(patient.news()) == 1
    patient.watch.set_limits(None)
    (told,) = patient.news()
    assert told.is_well
    assert told.message == "camera top is not watched any more"
    assert told.data["lasted_s"] == pytest.approx(2, abs=0.2)
    assert patient.news() == []


def test_an_event_has_room_for_every_fault():
    patient = Patient(Limits(brightness=Bound(40, 48), size=(1, 1), fps=(1, 2), frozen_s=0.5))
    patient.show([np.full((8, 8, 3), 20, np.uint8)] * 6, 6)
    (ill,) = patient.news()
    assert ill.data["faults"] == "wrong_size, dark, frozen, wrong_rate"
    assert len(ill.data) <= 16
