"""What a scored line says of itself: verdicts, what the arm did, states and events. Parsed here, trusted further on. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Key = tuple[str, str, int]
"""Camera, session and seq: what tells one verdict from every other."""


@dataclass(frozen=True, slots=True)
class Told:
    """A verdict. `captured_ns`: when its deciding frame was captured, CLOCK_MONOTONIC of the agent's machine."""

    camera: str
    session: str
    seq: int
    word: str
    reasons: tuple[Mapping[str, Any], ...]
    captured_ns: int
    total_ms: float

    @property
    def key(self) -> Key:
        """What tells it from every other."""
        return self.camera, self.session, self.seq

    @property
    def sent_ns(self) -> int:
        """When it was decided, and sent."""
        return self.captured_ns + int(self.total_ms * 1e6)

    @property
    def codes(self) -> list[str]:
        """Why it is unknown."""
        return [str(reason["code"]) for reason in self.reasons if reason.get("code")]


@dataclass(frozen=True, slots=True)
class Acted:
    """What the arm did with a verdict: `none` where it dropped it, and why. Times are CLOCK_MONOTONIC."""

    key: Key
    action: str
    why: str
    received_ms: float
    acted_ms: float


@dataclass(frozen=True, slots=True)
class Notice:
    """A `state` or an `event` of the agent, and when it came, CLOCK_MONOTONIC."""

    name: str
    payload: Mapping[str, Any]
    received_ns: int

    def complaints(self, camera: str) -> list[str]:
        """What it says against that camera: `dark`, `camera_lost`."""
        data = self.payload.get("data") or {}
        code = str(self.payload.get("code"))
        if self.name == "event" and data.get("camera") == camera:
            faults = str(data.get("faults") or "").split(", ")
            return {"camera_unhealthy": faults, "camera_lost": ["camera_lost"]}.get(code, [])
        reasons = self.payload.get("reasons") or () if self.name == "state" else ()
        return [reason.partition(":")[0] for reason in map(str, reasons) if reason.endswith(f":{camera}")]

    def says_well(self, camera: str) -> bool:
        """Whether it is a state in which parts of that camera are judged without reserve."""
        judges = self.payload.get("state") in ("ready", "running", "degraded")
        return self.name == "state" and judges and not self.complaints(camera)


def verdict_of(payload: bytes | str) -> Told:
    """Raises `ValueError` where the payload is no verdict."""
    told = _object(payload)
    try:
        total_ms = float(told["latency_ms"]["total"])
        return Told(
            camera=str(told["camera"]),
            session=str(told["session"]),
            seq=int(told["seq"]),
            word=str(told["verdict"]),
            reasons=tuple(told["reasons"]),
            captured_ns=int((float(told["sent_mono_ms"]) - total_ms) * 1e6),
            total_ms=total_ms,
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"this is no verdict: {error}") from error


def action_of(line: str) -> Acted | None:
    """None for what the arm says of other things than single verdicts: gaps, alarms, its counts.

    Raises:
        ValueError: the line is none of the arm's.
    """
    told = _object(line)
    if told.get("kind") != "verdict":
        return None
    try:
        key = str(told["camera"]), str(told["session"]), int(told["seq"])
        received_ms = float(told["received_mono_ms"])
        acted_ms = float(told.get("at_mono_ms") or received_ms)
        return Acted(key, str(told["action"]), str(told.get("why") or ""), received_ms, acted_ms)
    except (TypeError, KeyError) as error:
        raise ValueError(f"this is no line of an arm: {error}") from error


def notice_of(name: str, payload: bytes | str, received_ns: int) -> Notice:
    """Raises `ValueError` where the payload cannot be read."""
    return Notice(name, _object(payload), received_ns)


def _object(text: bytes | str) -> Mapping[str, Any]:
    told = json.loads(text)
    if not isinstance(told, dict):
        raise ValueError("this is no JSON object")  # noqa: TRY004 - what came over the wire is wrong, not the caller
    return told
