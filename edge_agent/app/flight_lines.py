"""Records of the flight recorder as lines for people, and which of them somebody asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Literal

from edge_agent.runtime.flight_records import Record
from edge_agent.wire.messages import utc_text

Level = Literal["info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("info", "warning", "error")
NOBODY_LISTENS, REFUSED = 0x10, 0x80  # MQTT 5, 3.4.2.1 and 2.4
_OWN_KEYS = {"event", "level", "message", "lost_entries"}


@dataclass(frozen=True, slots=True)
class Line:
    """One record, in half a line. `name` is the event's, or what happened to a verdict."""

    level: Level
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class About:
    """One part, as its records name it."""

    session: str  # its first eight letters
    camera: str
    seq: int
    part_id: str

    @staticmethod
    def of(record: Record) -> "About":
        """That of a `result`."""
        body = record.body
        return About(record.session, body["camera"], body["verdict_seq"], body["part_id"])

    def is_in(self, record: Record) -> bool:
        """Whether the record tells of this part: of it alone, or of a range of verdicts that it is in."""
        body = record.body
        if record.session != self.session:
            return False
        if body.get("part") == self.part_id:
            return True
        if body.get("camera") != self.camera:
            return False
        if record.kind != "log":
            return self.seq in (body.get("seq") if record.kind != "result" else None, body.get("verdict_seq"))
        first, last = body.get("first_seq"), body.get("last_seq")
        return isinstance(first, int) and isinstance(last, int) and first <= self.seq <= last


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records somebody asks for; None: any. `event` may have `*` for any letters."""

    part: About | None = None
    camera: str | None = None
    event: str | None = None
    severity: Level = "info"
    since: datetime | None = None

    def has(self, record: Record, line: Line) -> bool:
        """Whether this is one of them."""
        return (
            LEVELS.index(line.level) >= LEVELS.index(self.severity)
            and (self.since is None or record.at >= self.since)
            and (self.camera is None or record.body.get("camera") == self.camera)
            and (self.event is None or fnmatchcase(line.name, self.event))
            and (self.part is None or self.part.is_in(record))
        )


def line_of(record: Record) -> Line:
    """The record in words; one of a later release, of a kind that nobody knows here, as it is."""
    if record.kind in _LINES:
        return _LINES[record.kind](record.body)
    return Line("info", record.kind, _pairs(record.body))


def document_of(record: Record) -> dict[str, Any]:
    """The record for programs; times are UTC."""
    line = line_of(record)
    return {
        "number": record.number,
        "at": utc_text(record.at),
        "session": record.session,
        "kind": record.kind,
        "severity": line.level,
        "name": line.name,
        "body": record.body,
    }


def verdict_words(result: Mapping[str, Any]) -> str:
    """`top-1834 reject: defect crack 0.93; 33.9 ms`."""
    reasons = ", ".join(map(reason_words, result.get("reasons", ())))
    words = f"{result.get('part_id')} {result.get('verdict')}"
    words += f": {reasons}" if reasons else ""
    words += f"; {result.get('latency_ms', {}).get('total', 0):.1f} ms"
    if late := result.get("late"):
        words += f"; too late: {late.get('verdict')}"
    return words if result.get("sent") else f"{words}; not sent"


def reason_words(reason: Mapping[str, Any]) -> str:
    """`defect crack 0.93`, `low_confidence defect crack 0.42`, `no_frame`."""
    return " ".join(str(reason[key]) for key in ("code", "rule", "label", "score") if reason.get(key) is not None)


def for_a_terminal(text: str) -> str:
    """The text in one line, and harmless: arms, triggers and libraries may say anything."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _log_line(body: Mapping[str, Any]) -> Line:
    given = body.get("level")
    level: Level = "error" if given in ("error", "critical") else "warning" if given == "warning" else "info"
    text = body.get("message") or _pairs({key: value for key, value in body.items() if key not in _OWN_KEYS})
    return Line(level, str(body.get("event")), str(text))


def _result_line(body: Mapping[str, Any]) -> Line:
    return Line("info", "verdict", verdict_words(body))


def _receipt_line(body: Mapping[str, Any]) -> Line:
    code, ms = body.get("code", 0), f"{body.get('ms', 0):.1f}"
    if code >= REFUSED:
        return Line(
            "warning", "refused", f"{_part(body)}: the broker refused it (0x{code:02x}), {ms} ms after it was sent"
        )
    if code == NOBODY_LISTENS:
        return Line("warning", "nobody_listens", f"{_part(body)}: the broker got it, and nobody subscribes to it")
    return Line("info", "delivered", f"{_part(body)}: the broker confirmed it {ms} ms after it was sent")


def _unsent_line(body: Mapping[str, Any]) -> Line:
    return Line("warning", "unsent", f"{_part(body)}: it was not delivered ({body.get('reason')})")


def _ack_line(body: Mapping[str, Any]) -> Line:
    did = "did nothing" if body.get("action") == "none" else f"did {body.get('action')}"
    text = f"the arm {did} ({body.get('why')}), and said so {body.get('ms', 0):.1f} ms after it was sent"
    return Line("info", "ack", f"{_part(body)}: {text}")


def _ack_missing_line(body: Mapping[str, Any]) -> Line:
    text = f"the arm did not say within {body.get('within_ms', 0):g} ms what it did"
    return Line("warning", "ack_missing", f"{_part(body)}: {text}")


def _picture_line(body: Mapping[str, Any]) -> Line:
    return Line("info", "picture", f"{_part(body)}: {body.get('file')}")


def _setting_line(body: Mapping[str, Any]) -> Line:
    digest = str(body.get("config_sha256"))[:8]
    return Line("info", "setting", f"{body.get('config')} ({digest}), edge-agent {body.get('agent_version')}")


_LINES: Mapping[str, Callable[[Mapping[str, Any]], Line]] = {
    "log": _log_line,
    "result": _result_line,
    "receipt": _receipt_line,
    "unsent": _unsent_line,
    "ack": _ack_line,
    "ack_missing": _ack_missing_line,
    "picture": _picture_line,
    "setting": _setting_line,
}


def _part(body: Mapping[str, Any]) -> str:
    return f"verdict {body.get('seq')} of camera {body.get('camera')}"


def _pairs(body: Mapping[str, Any]) -> str:
    """`camera=top reason=...`; of a traceback only its last line."""
    words = []
    for key, value in body.items():
        text = str(value).strip()
        words.append(f"{key}={text.rpartition(chr(10))[2] if key == 'exception' else text}")
    return " ".join(words)
