"""The whole line: a real process, a real model, real photos, a real broker."""

import signal
import subprocess
import time

import cv2
import numpy as np
import pytest

from edge_agent.wire.messages import MESSAGES
from tests.brokers import Listener, running_broker
from tests.fixtures import REPO, needs_shared
from tests.processes import STOP_S
from tests.system.agents import IMAGES, MODELS, ROOT, config_text, replay, running_agent

pytestmark = pytest.mark.system
NMS_MODEL = MODELS / "yolov8n_320_int8_nms.tflite"
FIRST, SECOND = "correct-horse", "battery-staple"
RELAXED = "deadline_ms = 2000\nvalid_ms = 4000"
YOLOX = f'labels = "{REPO}/examples/models/yolox_nano_416_coco.txt"'


def is_state(*states):
    return lambda heard: heard.topic == f"{ROOT}/state" and heard.json["state"] in states


def is_verdict(camera="top"):
    return lambda heard: heard.topic == f"{ROOT}/verdict/{camera}"


def is_result_of(name):
    """What was found in that picture."""
    return lambda heard: heard.topic == f"{ROOT}/result/top" and (heard.json["frame"] or {}).get("source") == name


def assert_no_gap(heard):
    """Only before the first connection stands, for two seconds at most, a verdict may be told as unsent instead."""
    seqs = [message.json["seq"] for message in heard]
    assert seqs[0] <= 10
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


@needs_shared
def test_every_frame_gets_one_verdict_without_a_gap(tmp_path, broker, listener):
    config = config_text(model=NMS_MODEL, cameras=replay(IMAGES), port=broker.port, verdict=RELAXED)
    with running_agent(tmp_path, config) as agent:
        verdicts = listener.wait_for_count(is_verdict(), 10, timeout=30)
        for path in IMAGES.iterdir():
            listener.wait_for(is_result_of(path.name))
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    listener.hear_out()
    results = listener.on("result/top")
    assert_no_gap(verdicts)
    assert_no_gap(results)
    assert len({message.json["part_id"] for message in verdicts}) == len(verdicts)
    assert [r.json["verdict_seq"] for r in results] == list(range(1, len(results) + 1))
    assert all(not message.retain and message.qos == 1 and message.expiry_s <= 4 for message in verdicts)
    assert all(len(message.payload) < 1024 for message in verdicts)
    assert any(found["label"] == "person" for r in results for found in r.json["detections"])


@needs_shared
def test_every_message_fits_its_model(tmp_path, broker, listener):
    config = config_text(model=NMS_MODEL, cameras=replay(IMAGES), port=broker.port, verdict=RELAXED)
    with running_agent(tmp_path, config) as agent:
        listener.wait_for(lambda heard: heard.topic == f"{ROOT}/health", timeout=20)
        listener.wait_for_count(is_verdict(), 3)
        agent.send(signal.SIGTERM)
        agent.ended()
    listener.hear_out()
    kinds = set()
    for heard in listener.heard:
        name = heard.topic.removeprefix(f"{ROOT}/").split("/")[0]
        MESSAGES[name].model_validate(heard.json)
        kinds.add(name)
    assert kinds >= {"state", "birth", "heartbeat", "verdict", "result", "health"}


@needs_shared
def test_state_goes_from_starting_to_running_to_offline_on_sigterm(tmp_path, broker, listener):
    config = config_text(model=NMS_MODEL, cameras=replay(IMAGES), port=broker.port, verdict=RELAXED)
    with running_agent(tmp_path, config) as agent:
        listener.wait_for(is_state("running"), timeout=20)
        beats = listener.wait_for_count(lambda heard: heard.topic == f"{ROOT}/heartbeat", 4)
        birth = listener.wait_for(lambda heard: heard.topic == f"{ROOT}/birth" and heard.json["engine"])
        asked_at = time.monotonic()
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
        assert time.monotonic() - asked_at < STOP_S
    listener.hear_out()
    states = [heard.json["state"] for heard in listener.on("/state")]
    assert states[0] == "starting"
    assert states[-1] == "offline"
    assert listener.on("/state")[-1].json["reasons"] == ["stopping"]
    assert birth.json["engine"]["backend"] == "tflite"
    assert birth.json["model"]["name"] == "yolov8n_320_int8_nms"
    assert f"{ROOT}/verdict/top" in birth.json["topics"]
    assert all(beat.qos == 0 and not beat.retain for beat in beats)
    with Listener(broker.port, f"{ROOT}/#") as late:
        assert late.wait_for(is_state("offline")).retain


@needs_shared
def test_kill_9_leaves_the_will(tmp_path, broker, listener):
    config = config_text(model=NMS_MODEL, cameras=replay(IMAGES), port=broker.port, verdict=RELAXED)
    with running_agent(tmp_path, config) as agent:
        listener.wait_for(is_state("running"), timeout=20)
        agent.send(signal.SIGKILL)
        will = listener.wait_for(is_state("offline"))
    assert will.json["reasons"] == ["connection_lost"]


@needs_shared
def test_two_cameras_share_the_engine(tmp_path, broker, listener):
    cameras = replay(IMAGES) + replay(IMAGES / "bus.jpg", camera="side")
    config = config_text(model=NMS_MODEL, cameras=cameras, port=broker.port, verdict=RELAXED)
    with running_agent(tmp_path, config):
        tops = listener.wait_for_count(is_verdict("top"), 8, timeout=30)
        sides = listener.wait_for_count(is_verdict("side"), 8)
    assert_no_gap(tops)
    assert_no_gap(sides)
    counts = sorted(len(listener.on(f"verdict/{camera}")) for camera in ("top", "side"))
    assert counts[1] <= 2 * counts[0]


def test_the_example_passes_one_photo_and_rejects_the_other(tmp_path, broker, listener):
    text = (REPO / "examples" / "photos.toml").read_text().replace("port = 1883", f"port = {broker.port}")
    text = text.replace("deadline_ms = 500", "deadline_ms = 5000").replace("valid_ms = 2000", "valid_ms = 9000")
    for name in ("models/", "photos"):
        text = text.replace(f'"{name}', f'"{REPO}/examples/{name}')
    with running_agent(tmp_path, text) as agent:
        assert agent.ended(30) == 0
    listener.hear_out()
    verdicts = [heard.json for heard in listener.on("verdict/top")]
    results = {heard.json["frame"]["source"]: heard.json["verdict"] for heard in listener.on("result/top")}
    assert results == {"cat_720p.jpg": "pass", "kite_and_cold.jpg": "reject"}
    assert [verdict["verdict"] for verdict in verdicts] == ["pass", "reject"]
    assert verdicts[1]["reasons"][0]["label"] == "person"
    assert listener.on("/state")[-1].json["state"] == "offline"


def moving_cat(folder, positions):
    """A photo of a cat that travels over a grey belt: one picture per position of its left edge."""
    photo = cv2.imread(str(REPO / "examples" / "photos" / "cat_720p.jpg"))
    cat = cv2.resize(photo[60:500, 400:900], (300, 264))
    folder.mkdir()
    for number, left in enumerate(positions):
        belt = np.full((480, 960, 3), 114, np.uint8)
        belt[100:364, left : left + 300] = cat
        cv2.imwrite(str(folder / f"{number:03d}.png"), belt)
    return folder


ACROSS = range(20, 650, 90)
BACK = [*range(20, 260, 60), *range(240, 10, -60)]


@pytest.mark.parametrize(
    ("positions", "direction", "count"),
    [
        (ACROSS, "right", 1),
        (ACROSS, "left", 0),
        (ACROSS, "any", 1),
        (reversed(ACROSS), "left", 1),
        (reversed(ACROSS), "right", 0),
        (BACK, "right", 0),
        ([*ACROSS, *ACROSS], "right", 2),
    ],
    ids=["right", "not-left", "any", "left", "not-right", "turns-back", "two-parts"],
)
def test_a_part_that_crosses_the_line_gets_one_verdict(tmp_path, broker, listener, positions, direction, count):
    source = moving_cat(tmp_path / "belt", list(positions))
    trigger = f'kind = "line"\n  parts = ["cat"]\n  line = [[0.5, 0.0], [0.5, 1.0]]\n  direction = "{direction}"'
    cameras = replay(source, fps=2, loop=False, trigger=trigger)  # slow: a machine that is busy misses none
    model = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
    config = config_text(model=model, cameras=cameras, port=broker.port, verdict=RELAXED, more=YOLOX)
    with running_agent(tmp_path, config) as agent:
        assert agent.ended(30) == 0
    listener.hear_out()
    results = [heard.json for heard in listener.on("result/top")]
    assert len(listener.on("verdict/top")) == len(results) == count
    assert all(result["verdict"] == "pass" and result["frames"] >= 3 for result in results)


def test_sighup_takes_new_thresholds_and_refuses_the_rest(tmp_path, broker, listener):
    model = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
    rule = '  [[cameras.rules]]\n  kind = "defect"\n  reject = ["cat"]\n  min_score = 0.99\n  unsure_score = 0.99\n'
    cameras = replay(REPO / "examples" / "photos" / "cat_720p.jpg") + rule
    config = config_text(model=model, cameras=cameras, port=broker.port, verdict=RELAXED, more=YOLOX)
    with running_agent(tmp_path, config) as agent:
        before = listener.wait_for(is_verdict(), timeout=20)
        assert before.json["verdict"] == "pass"
        agent.config.write_text(
            config.replace("min_score = 0.99\n  unsure_score = 0.99", "min_score = 0.3\n  unsure_score = 0.3")
        )
        agent.send(signal.SIGHUP)
        rejected = listener.wait_for(lambda heard: is_verdict()(heard) and heard.json["verdict"] == "reject")
        assert rejected.json["config_sha256"] != before.json["config_sha256"]
        digest = rejected.json["config_sha256"]
        listener.wait_for(lambda heard: heard.topic == f"{ROOT}/birth" and heard.json["config_sha256"] == digest)
        agent.config.write_text(config.replace("fps = 5", "fps = 6"))
        agent.send(signal.SIGHUP)
        refused = listener.wait_for(
            lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == "reload_refused"
        )
        assert "cameras[0].fps" in refused.json["message"]
        agent.config.write_text("not toml")
        agent.send(signal.SIGHUP)
        listener.wait_for_count(
            lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == "reload_refused", 2
        )
        count = len(listener.on("verdict/top"))
        listener.wait_for_count(is_verdict(), count + 2)


def test_a_broker_that_is_away_costs_verdicts_that_are_counted_and_no_results(tmp_path, broker, listener):
    model = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
    cameras = replay(REPO / "examples" / "photos", fps=10)
    config = config_text(
        model=model, cameras=cameras, port=broker.port, verdict="deadline_ms = 300\nvalid_ms = 600", more=YOLOX
    )
    with running_agent(tmp_path, config) as agent:
        listener.wait_for_count(is_verdict(), 3, timeout=20)
        broker.kill()
        time.sleep(1.5)
        agent.send(signal.SIGSTOP)  # until the listener is back: what it does not hear cannot be counted
        broker.start()
        listener.wait_until_back()
        agent.send(signal.SIGCONT)
        back = listener.wait_for(
            lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == "connection_back", timeout=20
        )
        listener.wait_for(lambda heard: is_verdict()(heard) and heard.received_ns > back.received_ns + 10**9)
        agent.send(signal.SIGTERM)  # all of it arrives
        assert agent.ended() == 0
        listener.hear_out()
    heard_seqs = {heard.json["seq"] for heard in listener.on("verdict/top")}
    results = {heard.json["verdict_seq"]: heard.json["sent"] for heard in listener.on("result/top")}
    unsent = {seq for seq, sent in results.items() if not sent}
    spans = [heard.json["data"] for heard in listener.on("/event") if heard.json["code"] == "verdicts_unsent"]
    assert unsent
    assert not unsent & heard_seqs
    assert sum(span["count"] for span in spans) >= len(unsent)
    assert all(any(span["first_seq"] <= seq <= span["last_seq"] for span in spans) for seq in unsent)
    assert set(results) == set(range(1, max(results) + 1))


def test_a_wrong_configuration_ends_with_78_and_says_every_problem(tmp_path):
    with running_agent(tmp_path, "[device]\nid = 'a b'\n[modle]\n") as agent:
        assert agent.ended() == 78
        assert "agent.toml:2: device.id" in agent.log()
        assert "did you mean 'model'" in agent.log()


def test_a_label_that_the_model_lacks_ends_with_78_and_leaves_the_state_offline(tmp_path, broker, listener):
    model = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
    rule = '  [[cameras.rules]]\n  kind = "defect"\n  reject = ["persn"]\n'
    cameras = replay(REPO / "examples" / "photos") + rule
    config = config_text(model=model, cameras=cameras, port=broker.port, more=YOLOX)
    with running_agent(tmp_path, config) as agent:
        assert agent.ended() == 78
        assert "did you mean 'person'?" in agent.log()
        assert "Traceback" not in agent.log()
    assert listener.wait_for(is_state("offline")).json["reasons"] == ["failed"]
    event = listener.wait_for(lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == "failed")
    assert "persn" in event.json["message"]


def test_a_second_agent_on_the_same_configuration_is_refused(tmp_path, broker, listener):
    model = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
    config = config_text(model=model, cameras=replay(REPO / "examples" / "photos"), port=broker.port, more=YOLOX)
    with running_agent(tmp_path, config):
        listener.wait_for(is_state("starting", "ready", "running", "degraded"), timeout=20)
        with running_agent(tmp_path, config) as second:
            assert second.ended() == 1
            assert "another edge-agent runs this configuration" in second.log()


def test_a_camera_that_goes_and_comes_back_is_reported_and_used_again(tmp_path, broker, listener):
    model = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(5):
        writer.write(np.zeros((240, 320, 3), np.uint8))
    writer.release()
    video = (tmp_path / "v.avi").read_bytes()
    config = config_text(
        model=model, cameras=replay(tmp_path / "v.avi", fps=10), port=broker.port, verdict=RELAXED, more=YOLOX
    )
    with running_agent(tmp_path, config):
        listener.wait_for_count(is_verdict(), 3, timeout=20)
        (tmp_path / "v.avi").unlink()
        lost = listener.wait_for(lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == "camera_lost")
        listener.wait_for(lambda heard: is_state("error")(heard) and heard.json["reasons"] == ["camera_lost:top"])
        (tmp_path / "v.avi").write_bytes(video)
        listener.wait_for(lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == "camera_back", 20)
        listener.wait_for(lambda heard: is_verdict()(heard) and heard.received_ns > lost.received_ns)
        listener.wait_for(lambda heard: is_state("running")(heard) and heard.received_ns > lost.received_ns)
    assert_no_gap(listener.on("verdict/top"))


def test_a_frozen_broker_costs_the_connection_and_no_stale_verdict(tmp_path, broker, listener):
    model = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
    cameras = replay(REPO / "examples" / "photos", fps=10)
    config = config_text(
        model=model, cameras=cameras, port=broker.port, verdict="deadline_ms = 300\nvalid_ms = 600", more=YOLOX
    )
    with running_agent(tmp_path, config) as agent:
        listener.wait_for_count(is_verdict(), 3, timeout=20)
        broker.freeze()
        wait_for_log(agent, "a verdict was not confirmed while it was valid")
        broker.thaw()
        event = listener.wait_for(
            lambda heard: heard.topic == f"{ROOT}/event" and heard.json["data"].get("reason") == "unconfirmed",
            timeout=30,
        )
        listener.wait_for(lambda heard: is_verdict()(heard) and heard.json["seq"] > event.json["data"]["last_seq"])
    for heard in listener.on("verdict/top"):
        age_ms = heard.received_ns / 1e6 - heard.json["sent_mono_ms"]
        assert age_ms < 1600 or heard.json["seq"] <= event.json["data"]["last_seq"]
    seqs = [heard.json["seq"] for heard in listener.on("verdict/top")]
    assert len(seqs) == len(set(seqs))


def wait_for_log(agent, text, timeout=20):
    until_s = time.monotonic() + timeout
    while text not in agent.log():
        assert time.monotonic() < until_s, f"{text!r} was not logged"
        time.sleep(0.05)


def test_a_password_that_was_rotated_is_taken_over_on_sighup(tmp_path):
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    set_password(passwords, secret, FIRST)
    broker_config = f"allow_anonymous false\npassword_file {passwords}\n"
    model = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
    with running_broker(tmp_path, broker_config) as broker:
        config = config_text(
            model=model, cameras=replay(REPO / "examples" / "photos"), port=broker.port, verdict=RELAXED, more=YOLOX
        )
        config += f'username = "agent"\npassword_file = "{secret}"\n'
        with (
            Listener(broker.port, "factory/#", username="agent", password=FIRST) as listener,
            running_agent(tmp_path, config) as agent,
        ):
            listener.wait_for_count(is_verdict(), 2, timeout=20)
            set_password(passwords, secret, SECOND)
            broker.reload()
            agent.send(signal.SIGHUP)
            wait_for_log(agent, '"reloaded"')
            wait_for_log(agent, '"connection": 2')
            assert FIRST not in agent.log()
            assert SECOND not in agent.log()


def set_password(passwords, secret, word):
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "agent", word], check=True, capture_output=True)
    passwords.chmod(0o644)
    secret.write_text(word)
    secret.chmod(0o600)
