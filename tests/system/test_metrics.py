"""What Prometheus sees of a real agent: the text file, and HTTP on this machine."""

import os
import signal
import socket
import stat
import time
import urllib.request

import pytest

from tests.brokers import free_port
from tests.runtime.figures import Figures
from tests.system.agents import running_agent
from tests.system.test_outbox import line, wait_for

pytestmark = pytest.mark.system
DEVICE = "test-01"


def with_metrics(folder, port, metrics, **how):
    return f"{line(folder, port, **how)}\n[metrics]\n{metrics}\n"


def read(path):
    return Figures(path.read_text())


def get(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return Figures(answer.read().decode())


def is_served(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def test_the_text_file_counts_what_the_line_does_and_says_offline_after_the_stop(tmp_path, broker, listener):
    file = tmp_path / "state" / "edge-agent" / DEVICE / "metrics.prom"
    with running_agent(tmp_path, with_metrics(tmp_path, broker.port, "every_s = 0.3")) as agent:
        listener.wait_for_count(lambda heard: "/verdict/" in heard.topic, 10)
        wait_for(lambda: file.exists() and read(file)("verdicts_total", DEVICE, camera="top", verdict="pass"))
        running = read(file)
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    assert running.faults() == []
    assert running("state", DEVICE, state="running") == 1
    assert (running("camera_up", DEVICE, camera="top"), running("mqtt_connected", DEVICE, link="line")) == (1, 1)
    assert running("stage_duration_seconds_count", DEVICE, stage="infer") > 0
    assert running("resident_memory_bytes", DEVICE) > 20e6
    assert running("disk_free_bytes", DEVICE) > 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    stopped = read(file)
    assert (stopped("state", DEVICE, state="offline"), stopped("state", DEVICE, state="running")) == (1, 0)
    assert stopped("camera_frames_total", DEVICE, camera="top") >= running("camera_frames_total", DEVICE, camera="top")


def test_the_file_lies_in_the_runtime_folder_where_there_is_one(tmp_path, broker):
    (tmp_path / "run").mkdir()
    config = with_metrics(tmp_path, broker.port, "every_s = 0.3")
    with running_agent(tmp_path, config, env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path / "run")}):
        wait_for((tmp_path / "run" / "metrics.prom").exists)


def test_a_folder_that_cannot_be_written_to_does_not_stop_the_line(tmp_path, broker, listener):
    (tmp_path / "file").write_text("in the way")
    config = with_metrics(tmp_path, broker.port, f'file = "{tmp_path}/file/metrics.prom"\nevery_s = 0.2')
    with running_agent(tmp_path, config) as agent:
        wait_for(lambda: "metrics_not_written" in agent.log())
        listener.wait_for_count(lambda heard: "/verdict/" in heard.topic, 10)
        time.sleep(0.5)  # several more rounds
        assert agent.log().count("metrics_not_written") == 1
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0


def test_http_answers_on_this_machine_also_while_another_client_says_nothing(tmp_path, broker, listener):
    port = free_port()
    with running_agent(tmp_path, with_metrics(tmp_path, broker.port, f"http_port = {port}")):
        listener.wait_for_count(lambda heard: "/verdict/" in heard.topic, 5)
        wait_for(lambda: is_served(port))
        with socket.create_connection(("127.0.0.1", port)) as silent:
            silent.sendall(b"GET /")
            figures = get(port)
    assert figures.faults() == []
    assert figures("verdicts_total", DEVICE, camera="top", verdict="pass") >= 5


def test_a_port_that_is_taken_does_not_stop_the_line(tmp_path, broker, listener):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running_agent(tmp_path, with_metrics(tmp_path, broker.port, f"http_port = {port}")) as agent:
            listener.wait_for_count(lambda heard: "/verdict/" in heard.topic, 10)
            wait_for(lambda: "metrics_not_served" in agent.log())
            agent.send(signal.SIGTERM)
            assert agent.ended() == 0


def test_without_the_file_none_is_written(tmp_path, broker, listener):
    with running_agent(tmp_path, with_metrics(tmp_path, broker.port, "every_s = 0")) as agent:
        listener.wait_for_count(lambda heard: "/verdict/" in heard.topic, 5)
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    assert not list(tmp_path.rglob("*.prom"))
