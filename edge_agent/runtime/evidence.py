"""Annotated pictures of the last parts that did not pass, kept on the device for people. They are never published.

A thread of its own draws, compresses and writes them: who judges a part hands its frame over and goes on.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import structlog

from edge_agent.core.datatypes import Detections, Image
from edge_agent.runtime.album import Album, Caps, picture_name
from edge_agent.runtime.allowance import Allowance
from edge_agent.runtime.forms import Sent, Sight
from edge_agent.runtime.rarely import Rarely

log = structlog.get_logger()
FOLDER = "evidence"
WAITING_MOST = 2  # each holds a whole picture
PER_S, AT_ONCE = 1.0, 10  # a line that rejects everything keeps its processor, and its SD card
JPEG_QUALITY = 90
TIDY_EVERY_S = 3600.0  # so that old ones go while nothing is rejected, too
LOG_EVERY_S = 60.0

Draw = Callable[[Image, Detections, Sent], Image]
"""A copy of the picture with what was found on it, and what was made of that."""


@dataclass(frozen=True, slots=True)
class _Offer:
    sent: Sent
    image: Image
    detections: Detections


class Evidence:
    """Any thread may call `offer` and `set_caps`, and read the rest; `start` and `stop` belong to the main thread.

    Attributes:
        is_shed: whether it rests because the board is hot.
    """

    def __init__(
        self, folder: Path, session: str, caps: Caps, *, draw: Draw, tell: Callable[[Sent, str], None]
    ) -> None:
        """`tell` is called with the name of each picture once it is there, by a thread of its own."""
        self.is_shed = False
        self._album = Album(folder)
        self._session, self._caps, self._draw, self._tell = session, caps, draw, tell
        self._offers: queue.Queue[_Offer | None] = queue.Queue(WAITING_MOST)  # None: wake up
        self._lock = threading.Lock()  # of the two below
        self._allowance = Allowance(PER_S, AT_ONCE)
        self._counts: Counter[str] = Counter()
        self._failed = Rarely(LOG_EVERY_S)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    @property
    def counts(self) -> Mapping[str, int]:
        """Pictures `kept` since the start, and those that were not: `busy`, too many at once; `shed`; `failed`."""
        with self._lock:
            return dict(self._counts)

    def facts(self) -> dict[str, Any]:
        """For `edge-agent status`: what there is, and the counts."""
        album = self._album
        return {"folder": str(album.folder), "pictures": len(album), "bytes": album.size, **self.counts}

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Keeps what was offered; waits up to `timeout_s` for it. False where that was not enough."""
        self._is_stopping = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def set_caps(self, caps: Caps) -> None:
        """From now on; what is too much goes soon."""
        self._caps = caps
        self._wake()

    def offer(self, sent: Sent, sight: Sight) -> None:
        """Has a picture made of a part that did not pass and was looked at. Never waits."""
        is_wanted = self._caps.keep > 0 and sent.decision.verdict != "pass"
        if not is_wanted or sight.frame is None or sight.detections is None:
            return
        obstacle = self._obstacle()
        if obstacle is None:
            try:
                self._offers.put_nowait(_Offer(sent, _keepable(sight.frame.image), sight.detections))
            except queue.Full:
                obstacle = "busy"
        if obstacle:
            self._count(obstacle)

    def _obstacle(self) -> str | None:
        if self.is_shed:
            return "shed"
        with self._lock:
            is_free = not self._offers.full() and self._allowance.take(time.monotonic_ns())
        return None if is_free else "busy"

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _wake(self) -> None:
        with suppress(queue.Full):  # it is at work then
            self._offers.put_nowait(None)

    def _run(self) -> None:
        self._try(self._album.look_up)
        self._try(self._tidy)
        while not (self._is_stopping and self._offers.empty()):
            if not self._try(self._next):
                self._count("failed")
            self._try(self._tidy)

    def _try(self, work: Callable[[], None]) -> bool:
        """Whatever a disk or a bug does costs a picture, and no more: false then, and the log has it."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - see above
            if (unlogged := self._failed.now()) is not None:
                reason = getattr(error, "strerror", None) or repr(error)
                log.warning("evidence_failed", folder=str(self._album.folder), reason=reason, unlogged=unlogged)
            return False
        return True

    def _tidy(self) -> None:
        self._album.tidy(self._caps, time.time())

    def _next(self) -> None:
        try:
            offer = self._offers.get(timeout=TIDY_EVERY_S)
        except queue.Empty:
            return
        if offer is not None:
            self._keep(offer)

    def _keep(self, offer: _Offer) -> None:
        sent, verdict = offer.sent, offer.sent.decision.verdict
        name = picture_name(sent.part.camera, sent.seq, verdict, self._session)
        picture = self._draw(offer.image, offer.detections, sent)
        _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        self._album.add(name, verdict, encoded.tobytes(), self._caps, time.time())
        self._count("kept")
        self._tell(sent, name)


def _keepable(image: Image) -> Image:
    """The picture itself, which nobody changes; a copy where its memory is lent by a camera that needs it back."""
    owner: object = image
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return image if isinstance(owner, np.ndarray) else cast("Image", image.copy())
