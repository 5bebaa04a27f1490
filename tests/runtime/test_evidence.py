import threading
import time

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from edge_agent.core.datatypes import Frame
from edge_agent.core.parts import Decision, Ledger, Reason
from edge_agent.runtime.album import Caps
from edge_agent.runtime.evidence import AT_ONCE, Evidence
from edge_agent.runtime.forms import NOTHING_SEEN, Sent, Sight
from edge_agent.wire import messages as wire
from tests.builders import make_box, make_detections
from tests.runtime.stations import wait_for

REJECT = Decision("reject", (Reason(rule="defect", label="crack", score=0.93),))
ROOMY = Caps(keep=100, max_mb=10, max_days=30)
RED = (0, 0, 255)


class Lent:
    """Memory of a camera that needs it back: what it holds changes once it is let go of."""

    def __init__(self, pixels):
        self.__array_interface__ = pixels.__array_interface__
        self.pixels = pixels


def draw_box(image, detections, _sent):
    """The first box, in red."""
    picture = image.copy()
    x1, y1, x2, y2 = map(int, detections.boxes[0])
    cv2.rectangle(picture, (x1, y1), (x2, y2), RED, 2)
    return picture


class Keeper:
    """Evidence under test; `draw` waits while `may_draw` is clear."""

    def __init__(self, folder, caps=ROOMY, draw=draw_box):
        self.may_draw = threading.Event()
        self.may_draw.set()
        self.told = []
        self.folder = folder / "evidence"
        self._draw = draw
        self.evidence = Evidence(
            self.folder,
            "5f0c6d1a9e2b",
            caps,
            draw=self.draw,
            tell=lambda sent, name: self.told.append((sent.seq, name)),
        )
        self.ledger = Ledger(100, 5000)
        self.seq = 0

    def __enter__(self):
        self.evidence.start()
        return self

    def __exit__(self, *_):
        self.may_draw.set()
        self.evidence.stop(20)

    def draw(self, *about):
        assert self.may_draw.wait(20)
        return self._draw(*about)

    def offer(self, decision=REJECT, image=None, sight=None):
        image = np.zeros((72, 128, 3), np.uint8) if image is None else image
        now_ns = time.monotonic_ns()
        self.seq += 1
        sent = Sent(self.ledger.open("top", now_ns), decision, self.seq, True, now_ns, wire.Latency(total=1.0))
        seen = Sight(Frame(image, 0, now_ns), make_detections((0, 0.9, make_box(60, 36))), None, 1)
        self.evidence.offer(sent, sight or seen)

    def pictures(self):
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []

    def wait_for(self, **counts):
        wait_for(lambda: counts.items() <= dict(self.evidence.counts).items())


def test_a_reject_leaves_a_picture_that_shows_what_was_found(tmp_path):
    with Keeper(tmp_path) as keeper:
        keeper.offer()
        keeper.wait_for(kept=1)
    assert keeper.pictures() == ["top-1-reject-5f0c6d1a.jpg"]
    picture = cv2.imread(str(keeper.folder / keeper.pictures()[0]))
    assert picture.shape == (72, 128, 3)
    assert picture[36, 50].tolist() == pytest.approx(RED, abs=40)
    assert picture[10, 10].tolist() == pytest.approx((0, 0, 0), abs=10)


def test_who_wants_to_know_is_told_its_name(tmp_path):
    with Keeper(tmp_path) as keeper:
        keeper.offer()
        wait_for(lambda: keeper.told)
    assert keeper.told == [(1, "top-1-reject-5f0c6d1a.jpg")]


def test_an_unknown_leaves_a_picture_too(tmp_path):
    with Keeper(tmp_path) as keeper:
        keeper.offer(Decision.unknown("low_confidence"))
        keeper.wait_for(kept=1)
    assert keeper.pictures() == ["top-1-unknown-5f0c6d1a.jpg"]


@pytest.mark.parametrize(
    ("decision", "sight"),
    [(Decision("pass"), None), (Decision.unknown("no_frame"), NOTHING_SEEN)],
    ids=["a pass", "a part that was not looked at"],
)
def test_there_is_no_picture_of(tmp_path, decision, sight):
    with Keeper(tmp_path) as keeper:
        keeper.offer(decision, sight=sight)
    assert keeper.pictures() == []
    assert keeper.evidence.counts == {}


def test_with_keep_0_none_is_kept_and_those_that_were_are_deleted(tmp_path):
    with Keeper(tmp_path) as keeper:
        keeper.offer()
    with Keeper(tmp_path, Caps(keep=0, max_mb=10, max_days=30)) as keeper:
        keeper.offer()
    assert keeper.pictures() == []
    assert keeper.evidence.counts == {}


def test_new_limits_hold_at_once(tmp_path):
    with Keeper(tmp_path) as keeper:
        for kept in range(1, 4):
            keeper.offer()
            keeper.wait_for(kept=kept)
        keeper.evidence.set_caps(Caps(keep=1, max_mb=10, max_days=30))
        wait_for(lambda: keeper.pictures() == ["top-3-reject-5f0c6d1a.jpg"])


def test_who_offers_never_waits_and_what_is_too_much_is_counted(tmp_path):
    keeper = Keeper(tmp_path)
    keeper.may_draw.clear()
    with keeper:
        keeper.offer()
        wait_for(keeper.evidence._offers.empty)
        for _ in range(5):
            keeper.offer()
        assert keeper.evidence.counts == {"busy": 3}
        keeper.may_draw.set()
        keeper.wait_for(kept=3, busy=3)


def test_a_line_that_rejects_everything_does_not_fill_the_disk(tmp_path):
    with Keeper(tmp_path) as keeper:
        for offered in range(1, 2 * AT_ONCE + 1):
            keeper.offer()
            wait_for(lambda offered=offered: sum(keeper.evidence.counts.values()) == offered)
        assert AT_ONCE <= keeper.evidence.counts["kept"] <= AT_ONCE + 3


def test_while_the_board_is_hot_none_is_kept_and_that_is_counted(tmp_path):
    with Keeper(tmp_path) as keeper:
        keeper.evidence.is_shed = True
        keeper.offer()
        keeper.evidence.is_shed = False
        keeper.offer()
        keeper.wait_for(kept=1, shed=1)


def test_a_picture_in_a_cameras_own_memory_is_copied_at_once(tmp_path):
    lent = Lent(np.full((72, 128, 3), 200, np.uint8))
    keeper = Keeper(tmp_path)
    keeper.may_draw.clear()
    with keeper:
        keeper.offer(image=np.asarray(lent)[:, :100])
        lent.pixels[:] = 0
        keeper.may_draw.set()
        keeper.wait_for(kept=1)
    picture = cv2.imread(str(keeper.folder / keeper.pictures()[0]))
    assert picture.shape == (72, 100, 3)
    assert picture[5, 5].tolist() == pytest.approx((200, 200, 200), abs=10)


def test_a_picture_that_nobody_else_changes_is_not_copied(tmp_path):
    given = np.zeros((72, 128, 3), np.uint8)
    given.flags.writeable = False
    seen = []
    with Keeper(tmp_path, draw=lambda image, *_: seen.append(image) or image.copy()) as keeper:
        keeper.offer(image=given[10:, 10:])
        keeper.wait_for(kept=1)
    assert np.shares_memory(seen[0], given)


def test_a_disk_that_does_not_take_them_is_told_and_counted_and_no_more(tmp_path):
    (tmp_path / "evidence").write_text("a file where the folder should be")
    with capture_logs() as logs, Keeper(tmp_path) as keeper:
        for failed in range(1, 4):
            keeper.offer()
            keeper.wait_for(failed=failed)
    assert [line["event"] for line in logs] == ["evidence_failed"]


def test_a_stop_keeps_what_was_offered(tmp_path):
    keeper = Keeper(tmp_path)
    keeper.may_draw.clear()
    with keeper:
        keeper.offer()
        keeper.offer()
    assert len(keeper.pictures()) == 2


def test_a_picture_that_takes_longer_than_the_stop_is_told(tmp_path):
    keeper = Keeper(tmp_path)
    keeper.may_draw.clear()
    with keeper:
        keeper.offer()
        assert not keeper.evidence.stop(0.01)
        keeper.may_draw.set()
        assert keeper.evidence.stop(20)


def test_what_is_there_is_told_for_the_status(tmp_path):
    with Keeper(tmp_path) as keeper:
        keeper.offer()
        keeper.wait_for(kept=1)
        facts = keeper.evidence.facts()
    assert facts["pictures"] == facts["kept"] == 1
    assert facts["bytes"] == sum(path.stat().st_size for path in keeper.folder.iterdir())
