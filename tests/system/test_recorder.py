"""The flight recorder of a real agent: killed, without room on the disk, with a file that is not its own."""

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fixtures import REPO
from tests.processes import ended
from tests.runtime.flights import records_in
from tests.system.agents import running_agent
from tests.system.disks import small_disk
from tests.system.triggered import PATIENT, Trigger, mqtt_trigger, triggered_line, verdicts, wait_until_ready

pytestmark = pytest.mark.system
KILLS = 5

# 300 notes a second; each line: a number that `note` took, and when
WRITER = """
import sys, time
from pathlib import Path
from edge_agent.runtime.recorder import Recorder

recorder = Recorder(Path(sys.argv[1]), 1, "5f0c9a1b")
recorder.start()
for number in range(1, 100_000):
    recorder.note("receipt", {"number": number})
    print(number, time.monotonic(), flush=True)
    time.sleep(0.003)
"""


def line(folder, broker, more=""):
    return triggered_line(folder, broker.port, mqtt_trigger(), verdict=PATIENT, more=more)


def edge_agent(*words):
    """What a command says."""
    words = [sys.executable, "-m", "edge_agent", *map(str, words)]
    return subprocess.run(words, cwd=REPO, capture_output=True, text=True, check=True).stdout


def flight_folder(folder):
    return folder / "state" / "edge-agent" / "test-01"


def kinds_of(folder, seq):
    """What the recorder has on a verdict."""
    with suppress(Exception):  # there is no file yet
        return {
            record.kind
            for record in records_in(folder)
            if seq in (record.body.get("seq"), record.body.get("verdict_seq"))
        }
    return set()


def test_an_agent_that_was_killed_can_be_asked_about_its_last_verdict(tmp_path, broker, listener):
    trigger = Trigger(listener)
    with running_agent(tmp_path, line(tmp_path, broker, '[records]\nresults = "non_pass"')) as agent:
        wait_until_ready(listener)
        for number in range(3):
            trigger.pull(f"bottle {number}")
        said = verdicts(listener, 3)[-1]
        assert ended(lambda: kinds_of(flight_folder(tmp_path), 3) == {"result", "receipt"})
        agent.send(signal.SIGKILL)
        agent.ended()
    story = json.loads(edge_agent("why", "bottle 2", "-c", agent.config, "--json"))
    assert (story["part_id"], story["verdict"], story["session"]) == (said["part_id"], said["verdict"], said["session"])
    assert [fate["name"] for fate in story["fates"]] == ["delivered"]
    assert "camera_open" in edge_agent("logs", "-c", agent.config, "--event", "camera_*")


def test_the_next_start_keeps_what_the_one_before_left(tmp_path, broker, listener):
    trigger = Trigger(listener)
    for number in range(2):
        with running_agent(tmp_path, line(tmp_path, broker)) as agent:
            listener.wait_for_count(
                lambda heard: heard.topic.endswith("/state") and heard.json["state"] == "ready", number + 1
            )
            trigger.pull(f"bottle {number}")
            verdicts(listener, number + 1)
            agent.send(signal.SIGTERM)
            assert agent.ended() == 0
    results = [record for record in records_in(flight_folder(tmp_path)) if record.kind == "result"]
    assert [record.body["trigger_id"] for record in results] == ["bottle 0", "bottle 1"]
    assert len({record.session for record in results}) == 2


def test_a_reload_is_noted_with_the_new_limits(tmp_path, broker, listener):
    config = line(tmp_path, broker)
    with running_agent(tmp_path, config) as agent:
        wait_until_ready(listener)
        agent.config.write_text(config.replace("deadline_ms = 4000", "deadline_ms = 3500"))
        agent.send(signal.SIGHUP)
        listener.wait_for(lambda heard: heard.topic.endswith("/event") and heard.json["code"] == "reloaded")
        assert ended((flight_folder(tmp_path) / "flight.log").exists)
        settings = lambda: [record.body["deadline_ms"] for record in records_in(flight_folder(tmp_path), "setting")]  # noqa: E731
        assert ended(lambda: settings() == [4000, 3500])


def test_logs_follows_a_running_agent_until_ctrl_c(tmp_path, broker, listener):
    trigger = Trigger(listener)
    with running_agent(tmp_path, line(tmp_path, broker)) as agent:
        wait_until_ready(listener)
        words = ["env", "--default-signal=INT", sys.executable, "-m", "edge_agent"]  # where Ctrl-C is ignored, too
        words += ["logs", "-f", "-n", "1", "-e", "verdict", "--json"]
        trigger.pull("before")
        assert ended(lambda: kinds_of(flight_folder(tmp_path), 1))
        with subprocess.Popen([*words, "-c", agent.config], cwd=REPO, stdout=subprocess.PIPE, text=True) as logs:
            names = [json.loads(logs.stdout.readline())["body"]["trigger_id"]]
            trigger.pull("after")
            names.append(json.loads(logs.stdout.readline())["body"]["trigger_id"])
            logs.send_signal(signal.SIGINT)
            assert logs.wait(10) == 130
    assert names == ["before", "after"]


def test_a_disk_without_room_stops_nothing_and_is_tried_again(tmp_path, broker, listener):
    disk = tmp_path / "disk"
    disk.mkdir()
    fill = f'head -c 2500000 /dev/zero > "{disk}/ballast"; exec "$@"'
    words = [*small_disk(disk), "sh", "-c", fill, "sh"]
    config = line(tmp_path, broker, f'[recorder]\nmax_mb = 1\n[records]\nfolder = "{disk}/records"\nmin_free_mb = 0')
    trigger = Trigger(listener)
    with running_agent(tmp_path, config, words) as agent:
        assert ended(lambda: "recorder_away" in agent.log())
        assert "No space left" in agent.log()
        wait_until_ready(listener)
        trigger.pull("bottle 1")
        verdicts(listener, 1)
        seen = Path(f"/proc/{agent.process.pid}/root{disk}")
        (seen / "ballast").unlink()
        assert ended(lambda: "recorder_writes" in agent.log())
        assert ended(lambda: kinds_of(seen / "records", 1) == {"result", "receipt"})
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0


def test_a_file_of_somebody_else_is_set_aside_and_the_line_runs(tmp_path, broker, listener):
    own = flight_folder(tmp_path)
    own.mkdir(parents=True)
    (own / "flight.log").write_text("a diary")
    with running_agent(tmp_path, line(tmp_path, broker)) as agent:
        wait_until_ready(listener)
        assert ended(lambda: "recorder_set_aside" in agent.log())
        assert ended(lambda: "setting" in {record.kind for record in records_in(own)})
    assert (own / "flight.log.bad").read_text() == "a diary"


def test_without_a_recorder_there_is_no_file(tmp_path, broker, listener):
    with running_agent(tmp_path, line(tmp_path, broker, "[recorder]\nmax_mb = 0")):
        wait_until_ready(listener)
        time.sleep(0.3)
    assert not (flight_folder(tmp_path) / "flight.log").exists()


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_kill_costs_the_last_moment_at_most(tmp_path, kill):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "own"], cwd=REPO, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert ended((tmp_path / "own" / "flight.log").exists)
        time.sleep(0.5 + 0.13 * kill)
        killed_s = time.monotonic()
        writer.kill()
        said = [(int(number), float(at)) for number, at in re.findall(r"(?m)^(\d+) ([\d.]+)$", writer.stdout.read())]
    numbers = [record.body["number"] for record in records_in(tmp_path / "own")]
    assert numbers == list(range(1, numbers[-1] + 1))
    assert numbers[-1] >= max(
        (number for number, at_s in said if at_s < killed_s - 1), default=0
    )  # 0.2 s on an idle machine
