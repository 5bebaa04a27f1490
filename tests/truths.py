"""Made truth of a simulated line, made verdicts and actions of an arm: what a score sheet has to say of them is known."""

import json

from edge_agent.app.score import CameraScorer, Scorer
from edge_agent.rules import defect, presence

S = 1_000_000_000
WIDTH, SPEED = 150, 600.0
GOOD = ("bottle", "cap", "label")
CRACKED = ("bottle", "cap", "label", "crack")
BARE = ("bottle", "label")


def rules():
    crack, cap = defect.Config(reject=("crack",)), presence.Config(require=("cap",))
    return [lambda: defect.create(crack), lambda: presence.create(cap)]


def belt(at_s=0.0, speed=SPEED):
    return json.dumps(
        {
            "kind": "belt",
            "mono_ns": int(at_s * S),
            "camera_width": 1280,
            "camera_height": 720,
            "px_per_s": speed,
            "direction": "right",
            "line": 0.6,
            "part_width_px": WIDTH,
        }
    )


def part(number, at_s, found=GOOD, defects=(), entered_s=None):
    entered_s = at_s - 1.4 if entered_s is None else entered_s
    return json.dumps(
        {
            "kind": "part",
            "mono_ns": int(at_s * S),
            "entered_ns": int(entered_s * S),
            "part": number,
            "found": found,
            "defects": defects,
        }
    )


def entered(number, at_s, found=GOOD, defects=()):
    told = {"kind": "entered", "mono_ns": int(at_s * S), "part": number, "found": found, "defects": defects}
    return json.dumps(told)


def fault(kind, at_s, *, on):
    return json.dumps({"kind": "fault", "mono_ns": int(at_s * S), "fault": kind, "on": on})


def verdict(seq, captured_s, word="pass", *reasons, total_ms=20.0, camera="top", session="s1"):
    return json.dumps(
        {
            "camera": camera,
            "session": session,
            "seq": seq,
            "verdict": word,
            "reasons": reasons,
            "sent_mono_ms": captured_s * 1000 + total_ms,
            "latency_ms": {"total": total_ms},
        }
    )


def acted(seq, received_s, action="pass", why="", session="s1"):
    return json.dumps(
        {
            "kind": "verdict",
            "camera": "top",
            "session": session,
            "seq": seq,
            "action": action,
            "why": why,
            "received_mono_ms": received_s * 1000,
        }
    )


def scorer(truth, verdicts=(), actions=(), *, notices=(), labels=()):
    """Of one camera, `top`, over a belt that runs from 0 s on."""
    made = Scorer({"top": CameraScorer(rules(), dict(labels))}, deadline_ms=150, valid_ms=600)
    for line in (belt(), *truth):
        made.cameras["top"].truth.add(line)
    for payload in verdicts:
        made.add_verdict(payload)
    for line in actions:
        made.add_action(line)
    for name, payload, at_s in notices:
        made.add_notice(name, json.dumps(payload), int(at_s * S))
    return made


def scored(*evidence, until_s=None, has_arm=True, **more):
    """The score sheet."""
    return scorer(*evidence, **more).sheet(None if until_s is None else int(until_s * S), has_arm=has_arm)
