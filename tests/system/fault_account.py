"""What must hold after every fault, checked against what was heard: by a subscriber, the arm, and on the agent's disk."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

IN_FLIGHT = 10  # parts between a verdict and the commit of its result, when the agent is killed: one or two, or half a second of a busy machine
AT_END = (
    5  # verdicts after the last heartbeat, a quarter of a second: nothing tells the arm of them but they themselves
)
ARM_CLOCK_MS = 50  # the arm knows the sender's clock but for the time that the fastest message took
NEVER_SENT = ("no_connection", "stale", "internal_error")

Json = dict[str, Any]
Part = tuple[str, int]  # session, and the number of its verdict


@dataclass(frozen=True)
class Evidence:
    """All there is to know. Messages in the order in which they came, again where they came twice."""

    verdicts: Sequence[Json]
    results: Sequence[Json]
    results_left: Sequence[Json]  # on the agent's disk
    events: Sequence[Json]
    events_left: Sequence[Json]
    said_by_arm: Sequence[Json]
    parts: Mapping[str, int]  # of each session that ended politely
    killed: Sequence[str] = ()  # the other sessions


@dataclass(frozen=True)
class Account:
    """What became of the parts."""

    parts: int
    heard: set[Part]  # verdicts that a subscriber got
    executed: set[Part]  # verdicts that the arm acted on
    dropped: Counter[str]  # verdicts that the arm got and did not act on, by why
    missed: Counter[str]  # parts that the arm knows of, whose verdict it never got, by why
    unsent: Counter[str]  # verdicts that the agent reported as not delivered, by reason
    events: Counter[str]  # by code
    left: int  # results that still wait on disk
    latest_ms: float  # when the arm acted on the latest, after its validity: negative

    def in_words(self) -> str:
        """For a table of faults."""
        return (
            f"{self.parts} parts, {len(self.heard)} verdicts heard; the arm acted on {len(self.executed)}, dropped"
            f" {dict(self.dropped)}, missed {dict(self.missed)}, {-self.latest_ms:.0f} ms of validity left at the least;"
            f" unsent {dict(self.unsent)}; results left {self.left}; events {dict(self.events)}"
        )


def check_promises(evidence: Evidence) -> Account:
    """Asserts the promises; returns what became of the parts."""
    events = list({_part(event): event for event in (*evidence.events, *evidence.events_left)}.values())
    unsent = [event for event in events if event["code"] == "verdicts_unsent"]
    latest_ms = _nothing_late_or_twice(evidence)
    for session in (*evidence.parts, *evidence.killed):
        _no_record_lost(evidence, session)
        _every_part_accounted_for(evidence, session, [e["data"] for e in unsent if e["session"] == session])
        _the_arm_knows_of_every_part(evidence, session)
    assert {result["session"] for result in evidence.results} <= {*evidence.parts, *evidence.killed}
    verdicts = [said for said in evidence.said_by_arm if said["kind"] == "verdict"]
    gaps = [said for said in evidence.said_by_arm if said["kind"] == "gap"]
    return Account(
        parts=sum(evidence.parts.values()),
        heard={_part(verdict) for verdict in evidence.verdicts},
        executed={_part(said) for said in verdicts if said["action"] != "none"},
        dropped=Counter(said["why"] for said in verdicts if said["action"] == "none"),
        missed=_sums((said["why"], said["count"]) for said in gaps),
        unsent=_sums((event["data"]["reason"], event["data"]["count"]) for event in unsent),
        events=Counter(event["code"] for event in events),
        left=len(evidence.results_left),
        latest_ms=latest_ms,
    )


def utc_s(text: str) -> float:
    """A time of a message, in seconds since 1970."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _nothing_late_or_twice(evidence: Evidence) -> float:
    """Agent, arm and this process are on one machine: their monotonic clocks are the same."""
    offset_s = time.time() - time.monotonic()
    valid_until_ms = {_part(v): (utc_s(v["valid_until"]) - offset_s) * 1000 for v in evidence.verdicts}
    for verdict in evidence.verdicts:
        assert verdict["sent_mono_ms"] <= valid_until_ms[_part(verdict)] + 2, verdict  # two readings of two clocks
    acted = [said for said in evidence.said_by_arm if said["kind"] == "verdict" and said["action"] != "none"]
    assert not (twice := _twice(evidence.verdicts)), f"sent twice: {twice}"
    assert not (twice := _twice(acted)), f"acted on twice: {twice}"
    late_ms = [
        said["at_mono_ms"] - valid_until_ms.get(_part(said), said["received_mono_ms"] + said["remaining_ms"])
        for said in acted
    ]
    assert max(late_ms, default=0) <= ARM_CLOCK_MS, f"acted on after its validity: {max(late_ms)} ms"
    return max(late_ms, default=0.0)


def _no_record_lost(evidence: Evidence, session: str) -> None:
    """All numbers, in order; what came twice is the same."""
    for arrived, left in ((evidence.results, evidence.results_left), (evidence.events, evidence.events_left)):
        first: dict[int, Json] = {}
        for message in [*arrived, *left]:
            if message["session"] == session:
                assert first.setdefault(message["seq"], message) == message
        assert list(first) == list(range(1, len(first) + 1)), f"records are lost or out of order: {list(first)}"


def _every_part_accounted_for(evidence: Evidence, session: str, unsent: Sequence[Json]) -> None:
    """A verdict was heard, or reported as not delivered; and has its result."""
    heard = {verdict["seq"] for verdict in evidence.verdicts if verdict["session"] == session}
    results = {r["verdict_seq"]: r for r in (*evidence.results, *evidence.results_left) if r["session"] == session}
    reported = {seq for span in unsent for seq in range(span["first_seq"], span["last_seq"] + 1)}
    never_sent = {seq for seq, result in results.items() if not result["sent"]}
    if session in evidence.killed:  # it could not report any more: the event `unclean_end` says up to which number
        assert max(heard, default=0) - len(results) <= IN_FLIGHT
        parts, reported = len(results), reported | never_sent
    else:
        parts = evidence.parts[session]
    assert set(results) == set(range(1, parts + 1)), f"{parts} parts, {len(results)} results"
    assert not (silent := set(results) - heard - reported), f"neither heard nor reported: {sorted(silent)}"
    assert not never_sent & heard, f"heard, but recorded as not sent: {sorted(never_sent & heard)}"
    if session in evidence.parts:
        counted = sum(span["count"] for span in unsent)
        assert len(set(results) - heard) <= counted <= len(reported), f"{counted} counted in {len(reported)} reported"
        assert len(never_sent) == sum(span["count"] for span in unsent if span["reason"] in NEVER_SENT)


def _the_arm_knows_of_every_part(evidence: Evidence, session: str) -> None:
    """From the first that it heard of to the last, of a session that ended politely: each came, or was missed."""
    came, missing = set(), set()
    for said in evidence.said_by_arm:
        if said["kind"] == "verdict" and said["session"] == session:
            came.add(said["seq"])
        elif said["kind"] == "gap" and said["session"] == session:
            missing.update(range(said["seq"], said["seq"] + said["count"]))
    known = came | missing
    assert known, "the arm knows of no part"
    assert known == set(range(min(known), max(known) + 1)), "the arm does not know of some parts"
    last = evidence.parts.get(session, 0)
    assert max(known) >= last - AT_END, f"of {last} parts the arm knows {max(known)}"


def _part(message: Json) -> Part:
    """Session and number, of any message."""
    return message["session"], message["seq"]


def _twice(messages: Iterable[Json]) -> list[Part]:
    """Parts that more than one of them is about."""
    return [part for part, count in Counter(map(_part, messages)).items() if count > 1]


def _sums(pairs: Iterable[tuple[str, int]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for key, count in pairs:
        sums[key] += count
    return sums
