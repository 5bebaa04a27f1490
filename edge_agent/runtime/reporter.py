"""Events: what an operator may want to know, recorded for the broker and logged."""

from collections.abc import Mapping
from typing import Any, Literal

import structlog

from edge_agent.core.ports import Message
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.capture import CameraLost, Capture
from edge_agent.runtime.desk import Records
from edge_agent.runtime.scribe import Scribe
from edge_agent.wire import messages as wire

log = structlog.get_logger()
Severity = Literal["info", "warning", "alarm"]


TEXT_MOST = 200  # letters of an event's message, and of each text in its data


class Reporter:
    """`event` may be called by any thread, `report_camera` by one."""

    def __init__(self, scribe: Scribe, outbox: Records) -> None:
        self._scribe, self._outbox = scribe, outbox

    def event(self, code: str, severity: Severity, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Records it, and logs it."""
        level = {"info": log.info, "warning": log.warning, "alarm": log.error}[severity]
        level(code, message=message, **(data or {}))
        topic = self._scribe.topics.of("event")
        with self._scribe.page(topic) as head:
            plain = {key: _shortened(value) if isinstance(value, str) else value for key, value in (data or {}).items()}
            facts = {"code": code, "severity": severity, "message": _shortened(message), "data": plain}
            payload = wire.Event.model_validate({**head, **facts}).payload()
            self._outbox.put("event", Message(topic, payload, qos=1))

    def report_camera(self, capture: Capture, watch: CameraWatch | None, now_s: float) -> None:
        """What is new with a camera: lost, back, unhealthy, healthy. `now_s` is monotonic."""
        while not capture.notices.empty():
            notice = capture.notices.get()
            if isinstance(notice, CameraLost):
                data = {"camera": notice.camera, "reason": notice.reason}
                self.event("camera_lost", "alarm", f"camera {notice.camera} is lost: {notice.reason}", data)
            else:
                back = {"camera": notice.camera, "outage_s": round(notice.outage_s, 3)}
                self.event("camera_back", "info", f"camera {notice.camera} is back", back)
        for news in watch.news(now_s) if watch else ():
            if news.is_well:
                self.event("camera_healthy", "info", news.message, news.data)
            else:
                self.event("camera_unhealthy", "alarm", news.message, news.data)


def _shortened(text: str) -> str:
    """At most `TEXT_MOST` letters; where it is cut, it ends with a word and an ellipsis."""
    if len(text) <= TEXT_MOST:
        return text
    start = text[: TEXT_MOST - 1]
    return f"{start.rsplit(' ', 1)[0]}\u2026"
