"""What the arm says of what it did: a line, an ack, counts. Pure, but for the log."""

from collections import Counter
from datetime import datetime
from typing import Any

import structlog

from edge_agent.actuator.judge import Alarm, Ruling
from edge_agent.actuator.pulses import Outcome
from edge_agent.wire.answers import Ack

log = structlog.get_logger()

UNANSWERED = ("retained", "malformed", "duplicate")  # nobody waits for an ack of these, or it was sent already


def line(outcome: Outcome, *, stopped: bool) -> dict[str, Any]:
    """For `--json`: what was heard, what was done, and why; and whether the stop is on."""
    done = outcome.done
    if isinstance(done, Alarm):
        return {
            "kind": "alarm",
            "code": done.code,
            "action": done.action,
            "why": done.why,
            "at_mono_ms": _rounded(outcome.at_ms),
            "stopped": stopped,
        }
    return {
        "kind": done.kind,
        "camera": done.camera,
        "seq": done.seq,
        "session": done.session,
        "part_id": done.part_id,
        "verdict": done.verdict,
        "action": done.action,
        "why": done.why,
        "received_mono_ms": _rounded(done.received_ms),
        "age_ms": _rounded(done.age_ms),
        "remaining_ms": _rounded(done.remaining_ms),
        "at_mono_ms": _rounded(outcome.at_ms),
        "count": done.count,
        "stopped": stopped,
    }


def ack(outcome: Outcome, device: str, at: datetime) -> Ack | None:
    """The answer to a verdict; None where there is none to answer."""
    done = outcome.done
    if not isinstance(done, Ruling) or done.kind != "verdict" or done.why in UNANSWERED:
        return None
    return Ack(
        device=device,
        session=done.session or "",
        seq=done.seq or 1,
        at=at,
        camera=done.camera or "",
        trigger_id=done.trigger_id,
        action=done.action,
        why=done.why,
        at_mono_ms=outcome.at_ms,
    )


def counted_as(outcome: Outcome) -> str:
    """Under what it is counted: by what was done, and by why not."""
    done = outcome.done
    if isinstance(done, Alarm):
        return f"alarm.{done.code}"
    if done.kind == "gap":
        return f"missing.{done.action}"
    if done.action == "none":
        return f"dropped.{done.kind}.{done.why}"
    return f"verdict.{done.action}"


def summary(counts: Counter[str], *, stopped: bool) -> dict[str, Any]:
    """All counts, and whether the stop is still on."""
    return {"counts": dict(sorted(counts.items())), "stopped": stopped}


def log_alarm(outcome: Outcome, *, stopped: bool) -> None:
    """Alarms and gaps go into the log; verdicts do not."""
    done = outcome.done
    if isinstance(done, Alarm) and done.code == "agent_back":
        log.info("arm_agent_back", stopped=stopped)
    elif isinstance(done, Alarm):
        log.warning("arm_alarm", code=done.code, action=done.action, why=done.why)
    elif done.kind == "gap":
        log.warning("arm_gap", camera=done.camera, first_seq=done.seq, count=done.count, action=done.action)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
