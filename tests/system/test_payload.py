"""Only results leave the device: no message of any kind carries pixels, in any of the ways in which it could."""

import base64
import io
import itertools
import json
import re
import signal
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.wire.answers import Ack
from edge_agent.wire.messages import MESSAGES
from tests.brokers import Listener
from tests.system.agents import config_text, replay, running_agent
from tests.system.arms import ROOT, config, running_arm
from tests.system.test_hang import PHOTOS, recording
from tests.system.test_run import RELAXED

pytestmark = pytest.mark.system
SCHEMAS = {**MESSAGES, "ack": Ack}
MOST_BYTES = {
    "verdict": 1023,
    "heartbeat": 512,
    "ack": 512,
    "state": 1024,
    "event": 1536,
    "birth": 3072,
    "result": 2048,
    "health": 4096,
}
"""Of one camera with one rule and one part in each picture. The smallest useful picture would not fit beside the rest."""

SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff[\xc0-\xfe]",
    "PNG": rb"\x89PNG\r\n",
    "BMP": rb"BM.{4}\0\0\0\0",
    "WebP": rb"RIFF.{4}WEBP",
    "TIFF": rb"II\*\0|MM\0\*",
    "GIF": rb"GIF8[79]a",
    "NPY": rb"\x93NUMPY",
}
LONGEST_TEXT = 200
MOST_NUMBERS = 4  # in one list: a box
ESTABLISHED = "01"
PROPERTIES = {"ContentType", "PayloadFormatIndicator", "MessageExpiryInterval"}


def pictures_in(payload):
    """Every trace of a picture in a message: what it is, and where."""
    try:
        message = json.loads(payload)
    except ValueError:
        return ["no JSON"]
    return sorted(set(_traces(message, "message")))


def _traces(value, place):
    if isinstance(value, str):
        yield from _traces_in_text(value, place)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _traces_in_text(key, f"a key of {place}")
            yield from _traces(item, f"{place}.{key}")
    elif isinstance(value, list):
        numbers = [item for item in value if isinstance(item, (int, float))]
        if len(numbers) > MOST_NUMBERS or any(isinstance(item, list) for item in value):
            yield f"numbers in {place}"
        yield from _traces_in_text("".join(item for item in value if isinstance(item, str)), place, longest=None)
        for item in value:
            yield from _traces(item, place)


def _traces_in_text(text, place, *, longest=LONGEST_TEXT):
    if longest and len(text) > longest:
        yield f"long text in {place}"
    for data, (name, signature) in itertools.product(_bytes_behind(text), SIGNATURES.items()):
        if re.search(signature, data, re.DOTALL):
            yield f"{name} in {place}"


def _bytes_behind(text):
    """What the text could stand for: itself, and each of its runs read as base64 and as hex, wherever they begin."""
    yield text.encode("utf-8", "surrogatepass")
    yield text.encode("latin-1", "replace")
    yield b"".join(bytes.fromhex(digits) for digits in re.findall(r"\\x([0-9a-fA-F]{2})", text))
    for run, shift in itertools.product(re.findall(r"[A-Za-z0-9+/_-]{8,}", text), range(4)):
        whole = run[shift : shift + (len(run) - shift) // 4 * 4]
        yield base64.b64decode(whole.replace("-", "+").replace("_", "/"))
    for run, shift in itertools.product(re.findall(r"[0-9a-fA-F]{8,}", text), range(2)):
        yield bytes.fromhex(run[shift : shift + (len(run) - shift) // 2 * 2])


# --- a run ----------------------------------------------------------------------------------------------------------


def kind_of(heard):
    return heard.topic.removeprefix(f"{ROOT}/").split("/")[0]


def sockets_of(pid):
    """Protocol, state and other end of each network socket of a process, as proc(5) writes them."""
    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            own.add(str(link.readlink()))
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{protocol}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in own:
                yield protocol, fields[3], fields[2]


@pytest.fixture
def captured(tmp_path, broker):
    """All that a broker hears of an agent and an arm: every kind of message. And the agent's sockets."""
    text = config_text(
        model=recording(tmp_path / "one.npz"),
        cameras=replay(PHOTOS, fps=10) + '[[cameras.rules]]\nkind = "defect"\nreject = ["part"]\n',
        port=broker.port,
        verdict=RELAXED,
    )
    with Listener(broker.port) as everything, running_arm(tmp_path, config(broker)) as arm:
        with running_agent(tmp_path, text.replace("test-01", "demo-01")) as agent:
            arm.wait_for(kind="verdict", action="reject", timeout=20)
            agent.send(signal.SIGHUP)
            for kind in SCHEMAS:  # health may take ten seconds
                everything.wait_for(lambda heard, kind=kind: kind_of(heard) == kind, timeout=20)
            sockets = list(sockets_of(agent.process.pid))
            agent.send(signal.SIGTERM)
            assert agent.ended() == 0
        everything.hear_out()
    return everything.heard, sockets


def test_no_message_of_a_run_can_carry_a_picture_and_nothing_else_leaves(broker, captured):
    messages, sockets = captured
    assert sockets == [("tcp", ESTABLISHED, f"0100007F:{broker.port:04X}")] * 2
    assert {kind_of(heard) for heard in messages} == set(SCHEMAS)
    for heard in messages:
        kind = kind_of(heard)
        assert len(heard.payload) <= MOST_BYTES[kind], heard.payload
        SCHEMAS[kind].model_validate_json(heard.payload)
        assert pictures_in(heard.payload) == [], heard.payload
        assert set(heard.properties) <= PROPERTIES


# --- the check itself -----------------------------------------------------------------------------------------------


def as_npy(picture):
    file = io.BytesIO()
    np.save(file, picture)
    return file.getvalue()


THUMBNAIL = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
PICTURES = {
    "JPEG": cv2.imencode(".jpg", THUMBNAIL)[1].tobytes(),
    "PNG": cv2.imencode(".png", THUMBNAIL)[1].tobytes(),
    "BMP": cv2.imencode(".bmp", THUMBNAIL)[1].tobytes(),
    "WebP": cv2.imencode(".webp", THUMBNAIL)[1].tobytes(),
    "TIFF": cv2.imencode(".tiff", THUMBNAIL)[1].tobytes(),
    "GIF": b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x08\0\x08\0\0\x02\x07\x84\x8f\xa9\xcb\xed\x0f;",
    "NPY": as_npy(THUMBNAIL),
}
WAYS = {
    "as it is": lambda data: data.decode("latin-1"),
    "base64": lambda data: base64.b64encode(data).decode(),
    "base64 behind one byte": lambda data: base64.b64encode(b"x" + data).decode(),
    "base64 behind two bytes": lambda data: base64.b64encode(b"xy" + data).decode(),
    "base64 for addresses": lambda data: base64.urlsafe_b64encode(data).decode(),
    "base64 behind a word": lambda data: f"part{base64.b64encode(data).decode()}",
    "base64 in an address": lambda data: f"data:image;base64,{base64.b64encode(data).decode()}",
    "escaped": lambda data: "".join(f"\\x{byte:02x}" for byte in data),
    "hex": lambda data: data.hex(),
    "hex in capitals behind a digit": lambda data: "0" + data.hex().upper(),
    "base64 in pieces": lambda data: [base64.b64encode(data).decode()[at : at + 60] for at in range(0, 4000, 60)],
}


def beginning(data):
    """As much of a picture as stays below every limit of length."""
    return data[:48]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PICTURES)
def test_a_planted_picture_is_found_though_it_is_short(captured_event, name, way):
    captured_event["data"]["note"] = WAYS[way](beginning(PICTURES[name]))
    found = pictures_in(json.dumps(captured_event))
    assert [trace for trace in found if trace.startswith(name)], found


@pytest.mark.parametrize(
    "raw",
    [
        base64.b64encode(bytes(151)).decode(),
        THUMBNAIL.tobytes().hex(),
        THUMBNAIL.tobytes().decode("latin-1") * 2,
        THUMBNAIL[0, :2].ravel().tolist(),
        THUMBNAIL[0].tolist(),
        [[[0.5]]],
    ],
    ids=["base64", "hex", "bytes", "numbers", "rows", "nested"],
)
def test_planted_pixels_without_a_signature_are_found(captured_event, raw):
    captured_event["data"]["note"] = raw
    assert pictures_in(json.dumps(captured_event))


def test_a_picture_in_place_of_a_message_or_in_its_keys_is_found(captured_event):
    assert pictures_in(PICTURES["JPEG"]) == ["no JSON"]
    assert pictures_in(json.dumps({WAYS["base64"](PICTURES["PNG"]): 1}))


@pytest.fixture
def captured_event():
    event = {"schema": "edge-agent/event/1", "device": "test-01", "session": "5f0c6d1a9e2b4c70a1d3e5f708192a3b"}
    event |= {"code": "camera_lost", "data": {"camera": "top", "reason": "no frame in 2 s"}}
    assert pictures_in(json.dumps(event)) == []
    return event
