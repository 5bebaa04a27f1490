"""An agent as an arm hears it: its messages, with the clocks of both and the time that each message takes."""

import json
from datetime import datetime, timedelta, timezone

from edge_agent.actuator.judge import Alarm, Judge, Letter, Policy, Ruling

AT = datetime(2026, 11, 21, 9, 14, 3, 446_000, timezone.utc)
VALID_MS = 600


class Sender:
    """One session of an agent whose monotonic clock is `ahead_ms` ahead of the arm's. Times given are the arm's."""

    def __init__(self, session="s1", *, ahead_ms=88_000_000.0, valid_ms=VALID_MS):
        self.session, self.ahead_ms, self.valid_ms = session, ahead_ms, valid_ms
        self.seq = 0

    def verdict(self, sent_ms, word="reject", *, seq=None, camera="top", took_ms=0.5, retained=False, **more):
        self.seq = self.seq + 1 if seq is None else seq
        fields = {
            "schema": "edge-agent/verdict/1",
            "seq": self.seq,
            "at": AT.isoformat(),
            "camera": camera,
            "part_id": f"{camera}-{self.seq}",
            "trigger_id": None,
            "verdict": word,
            "valid_until": (AT + timedelta(milliseconds=self.valid_ms)).isoformat(),
            "a_key_of_a_later_release": 1,
        }
        return self._letter("verdict", sent_ms, took_ms, fields | more, camera=camera, retained=retained)

    def heartbeat(self, sent_ms, *, last=None, state="running", took_ms=0.5, retained=False):
        last = {"top": self.seq} if last is None else last
        fields = {"schema": "edge-agent/heartbeat/1", "state": state, "last_verdict_seq": last}
        return self._letter("heartbeat", sent_ms, took_ms, fields, retained=retained)

    def state(self, sent_ms, state, *, retained=False):
        return self._letter("state", sent_ms, 0.5, {"schema": "edge-agent/state/1", "state": state}, retained=retained)

    def birth(self, sent_ms, on_unknown, on_agent_loss, *, retained=False):
        fields = {"schema": "edge-agent/birth/1", "on_unknown": on_unknown, "on_agent_loss": on_agent_loss}
        return self._letter("birth", sent_ms, 0.5, fields, retained=retained)

    def _letter(self, name, sent_ms, took_ms, fields, *, camera=None, retained=False):
        fields = {"session": self.session, "sent_mono_ms": sent_ms + self.ahead_ms, **fields}
        return Letter(name, camera, json.dumps(fields).encode(), retained, sent_ms + took_ms)


def judge(on_unknown="reject", on_agent_loss="stop", delay_ms=0.0):
    return Judge(Policy(on_unknown, on_agent_loss, delay_ms))


def hear(judge, *letters):
    """What the judge finds in these messages, in order."""
    return [finding for letter in letters for finding in judge.hear(letter)]


def rulings(findings):
    """Of each ruling: what it is about, what to do, and why."""
    return [(it.kind, it.action, it.why) for it in findings if isinstance(it, Ruling)]


def alarms(findings):
    return [(it.code, it.action, it.why) for it in findings if isinstance(it, Alarm)]
