"""A line whose parts are called for from outside, by messages or by an input line."""

import json
import time

import cv2
import numpy as np

from edge_agent.backends import recorded
from edge_agent.core.datatypes import TensorSpec
from tests.system.agents import ROOT, config_text, replay

METADATA = {"task": "detect", "stride": 32, "names": {"0": "part"}, "end2end": True}
FPS = 50
STRICT = "deadline_ms = 200\nvalid_ms = 5000"
PATIENT = "deadline_ms = 4000\nvalid_ms = 5000"  # a busy machine is not what such a test is about


def mqtt_trigger(more=""):
    return f'kind = "mqtt"\n{more}'


def gpio_trigger(chip, line=7, more=""):
    return f'kind = "gpio"\nchip = "{chip.path}"\nline = {line}\n{more}'


def triggered_line(folder, port, trigger, *, run_ms=0.0, source=None, more="", ack="", verdict=STRICT):
    """The configuration; the engine takes `run_ms` and finds nothing. `source`: a device in place of the replay."""
    image = TensorSpec("images", (1, 64, 64, 3), np.dtype(np.float32))
    recorded.save(folder / "m.npz", [image], [[np.zeros((1, 300, 6), np.float32)]], METADATA, latency_ms=run_ms)
    cv2.imwrite(str(folder / "part.png"), np.full((64, 64, 3), 114, np.uint8))
    cameras = replay(folder / "part.png", fps=FPS, trigger=trigger)
    if source:
        cameras = cameras.replace('kind = "replay"', 'kind = "opencv"').replace("loop = true", "")
        cameras = cameras.replace(f'source = "{folder / "part.png"}"', f'source = "{source}"')
    text = config_text(model=folder / "m.npz", cameras=cameras, port=port, verdict=verdict)
    return f"{text}\n{more}\n{ack}"


class Trigger:
    """Whoever senses the parts, and tells the agent by message."""

    def __init__(self, listener, camera="top"):
        self._listener, self._topic = listener, f"{ROOT}/trigger/{camera}"
        self.sent = []

    def pull(self, trigger_id, *, expiry_s=5, retain=False, wait=True, **more):
        self.sent.append(trigger_id)
        payload = json.dumps({"schema": "edge-agent/trigger/1", "trigger_id": trigger_id, **more}).encode()
        self.say(payload, expiry_s=expiry_s, retain=retain, wait=wait)

    def say(self, payload, *, expiry_s=5, retain=False, wait=True):
        self._listener.publish(self._topic, payload, expiry_s=expiry_s, retain=retain, wait=wait)


def wait_until_ready(listener, *states):
    """The agent hears triggers from `starting` on; parts are judged from `ready` on."""
    states = states or ("ready", "running", "degraded")
    listener.wait_for(lambda heard: heard.topic.endswith("/state") and heard.json["state"] in states, 30)


def verdicts(listener, count, timeout=30):
    """The first so many, once they are there."""
    heard = listener.wait_for_count(lambda heard: heard.topic.endswith("/verdict/top"), count, timeout)
    return [verdict.json for verdict in heard]


def codes(verdict):
    return [reason.get("code") for reason in verdict["reasons"]]


def event(listener, code, timeout=20):
    """The first event of that code."""
    return listener.wait_for(lambda heard: heard.topic.endswith("/event") and heard.json["code"] == code, timeout).json


def pace(per_s, count):
    """Numbers, so many a second."""
    began_s = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began_s + number / per_s - time.monotonic()))
        yield number
