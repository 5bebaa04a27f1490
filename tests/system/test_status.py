"""`edge-agent status` on a real agent: while it runs, when something is wrong with it, and after its end."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge_agent.app.instances import find
from edge_agent.app.status import look
from edge_agent.runtime.status_socket import FILE as SOCKET
from edge_agent.runtime.status_socket import ask
from edge_agent.runtime.status_words import FILE
from tests.fixtures import REPO
from tests.processes import ended
from tests.system.agents import DEVICE, replay, running_agent
from tests.system.test_hang import PHOTOS, recording

pytestmark = pytest.mark.system
NOBODY = 65534


def config_of(folder, *, fps=20, device="test-01", deadline_ms=20_000, **how):
    model = recording(folder / "engine.npz", **how)
    device = DEVICE.replace("test-01", device)
    verdict = f"[verdict]\ndeadline_ms = {deadline_ms}\nvalid_ms = 30000\n"
    rest = f'[recorder]\nmax_mb = 0\n[records]\nfolder = "{folder}/own"\n[stdout]\n'
    return f'{device}[model]\npath = "{model}"\n{replay(PHOTOS, fps=fps)}\n{verdict}{rest}'


@contextmanager
def agent_in(folder, **settings):
    """An agent that has judged parts."""
    with running_agent(folder, config_of(folder, **settings)) as agent:
        assert ended(lambda: told(folder).get("parts", {}).get("closed", 0) > 3)
        yield agent


def told(folder):
    try:
        return json.loads(ask(folder / "own"))
    except (OSError, ValueError):
        return {}


def run_status(folder, *words, **settings):
    command = [sys.executable, "-m", "edge_agent", "status", "--config", str(folder / "agent.toml"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPO, check=False, **settings)


def report_on(folder):
    return look(find(str(folder / "agent.toml")))


def test_a_running_agent_shows_itself_on_one_screen(tmp_path):
    with agent_in(tmp_path):
        shown = run_status(tmp_path, env={**os.environ, "TERM": "xterm"})
        document = json.loads(run_status(tmp_path, "--json").stdout)
        mode = (tmp_path / "own" / SOCKET).stat().st_mode
    assert shown.returncode == 0
    assert "agent   RUNNING   test-01 in leon/bottling/3/capper" in shown.stdout
    assert "engine by recorded" in shown.stdout
    assert len(shown.stdout.splitlines()) <= 24
    assert (document["condition"], document["state"], document["exit_code"]) == ("up", "running", 0)
    assert document["status"]["recent"]
    assert set(document["status"]["threads"]) >= {"pipeline", "timer", "outbox", "line", "records", "camera top"}
    assert stat.S_IMODE(mode) == 0o660


def test_an_agent_that_was_stopped_says_so_afterwards(tmp_path):
    with agent_in(tmp_path) as agent:
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    assert not (tmp_path / "own" / SOCKET).exists()
    shown = run_status(tmp_path)
    assert shown.returncode == 2
    assert "it was stopped" in shown.stdout
    assert json.loads((tmp_path / "own" / FILE).read_text())["parts"]["closed"] > 3
    assert stat.S_IMODE((tmp_path / "own" / FILE).stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o750


def test_an_agent_that_was_killed_left_its_last_state_and_the_next_one_takes_its_socket(tmp_path):
    with agent_in(tmp_path) as agent:
        agent.process.kill()
        agent.process.wait()
        assert (tmp_path / "own" / SOCKET).exists()
        report = report_on(tmp_path)
        assert (report.condition, report.exit_code) == ("down", 2)
        assert "it was killed, or crashed" in report.told[0]
        assert report.facts["state"] in ("starting", "ready", "running")
    with agent_in(tmp_path):
        assert report_on(tmp_path).state == "running"


def test_a_finite_line_ends_by_itself_and_says_so(tmp_path):
    config = config_of(tmp_path, fps=0).replace("loop = true", "loop = false")
    with running_agent(tmp_path, config) as agent:
        assert agent.ended() == 0
    assert "it ended by itself" in report_on(tmp_path).told[0]


def test_an_agent_that_failed_left_its_reason_and_exit_code(tmp_path):
    config = config_of(tmp_path).replace("[[cameras]]", '[[cameras]]\nrules = [{kind = "defect", reject = ["crack"]}]')
    with running_agent(tmp_path, config) as agent:
        assert agent.ended() == 78
    report = report_on(tmp_path)
    assert (report.condition, report.exit_code) == ("down", 2)
    assert "with exit code 78" in report.told[0]
    assert "the model has no label 'crack'" in report.told[0]


def test_a_wrong_configuration_is_named_though_nothing_ever_ran(tmp_path):
    (tmp_path / "agent.toml").write_text(config_of(tmp_path).replace("fps =", "fsp ="))
    shown = run_status(tmp_path)
    assert shown.returncode == 2
    assert "did you mean 'fps'?" in shown.stdout.replace("\n", "")


def test_a_camera_that_is_lost_is_an_error_with_what_to_do(tmp_path):
    config = config_of(tmp_path).replace('kind = "replay"', 'kind = "opencv"').replace(str(PHOTOS), "/dev/video63")
    with running_agent(tmp_path, config.replace("loop = true", "")):
        assert ended(lambda: told(tmp_path).get("state") == "error")
        shown = run_status(tmp_path)
    assert shown.returncode == 2
    assert "! camera_lost:top" in shown.stdout
    assert "> edge-agent explain camera_lost" in shown.stdout


def test_missed_deadlines_are_degraded(tmp_path):
    with agent_in(tmp_path, deadline_ms=20, fps=5):
        assert ended(lambda: told(tmp_path).get("state") == "degraded")
        shown = run_status(tmp_path)
    assert shown.returncode == 1
    assert "! deadline_missed: A part was not judged within deadline_ms" in shown.stdout


def test_an_engine_that_hangs_is_seen(tmp_path):
    with agent_in(tmp_path, hang_after=12, deadline_ms=500):
        assert ended(lambda: told(tmp_path).get("state") == "error")
        report = report_on(tmp_path)
    assert report.exit_code == 2
    assert report.told[0].startswith("engine_stalled")


def test_a_process_that_does_not_move_at_all_is_seen(tmp_path):
    with agent_in(tmp_path) as agent:
        agent.send(signal.SIGSTOP)
        report = report_on(tmp_path)
    assert (report.condition, report.exit_code) == ("hangs", 2)
    assert "has not moved" in report.told[0]


def test_clients_that_hang_do_not_hold_up_the_line(tmp_path):
    with agent_in(tmp_path) as agent, ExitStack() as hanging:
        before = told(tmp_path)["parts"]["closed"]
        for _ in range(50):
            client = hanging.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.settimeout(5)
            while client.connect_ex(str(tmp_path / "own" / SOCKET)):
                time.sleep(0.02)
        assert ended(lambda: told(tmp_path)["parts"]["closed"] > before + 20)
        assert told(tmp_path)["health"]["unsent"] == {}
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0


def test_a_second_agent_in_the_same_folder_leaves_the_first_ones_status_alone(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with agent_in(tmp_path):
        assert ended((tmp_path / "own" / FILE).exists)
        with running_agent(other, config_of(tmp_path)) as second:
            assert second.ended() == 1
        assert report_on(tmp_path).state == "running"
        assert json.loads((tmp_path / "own" / FILE).read_text())["ended"] is None


def test_folders_deeper_than_a_sockets_address_do(tmp_path):
    folder = tmp_path.joinpath(*["deep" * 20] * 2)
    folder.mkdir(parents=True)
    with agent_in(folder):
        assert report_on(folder).state == "running"


def test_what_cannot_be_told_has_an_exit_code_of_its_own(tmp_path):
    missing = run_status(tmp_path)
    assert missing.returncode == 3
    assert "there is no such file" in missing.stderr


def test_watching_in_a_pipe_gives_a_line_a_second(tmp_path):
    with agent_in(tmp_path) as agent:
        command = [
            "env",
            "--default-signal=INT",
            sys.executable,
            "-m",
            "edge_agent",
            "status",
            "-c",
            str(agent.config),
            "--watch",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPO) as watching:
            lines = [watching.stdout.readline() for _ in range(2)]
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 130
    assert all(line.startswith("agent: running; ") for line in lines)


def test_watching_on_a_serial_console_stays_in_ascii(tmp_path):
    with agent_in(tmp_path) as agent:
        command = [
            "env",
            "--default-signal=INT",
            sys.executable,
            "-m",
            "edge_agent",
            "status",
            "-c",
            str(agent.config),
            "--watch",
        ]
        screen, terminal = os.openpty()
        with subprocess.Popen(command, stdout=terminal, cwd=REPO, env={**os.environ, "TERM": "vt220"}) as watching:
            os.close(terminal)
            seen = b""
            while seen.count(b"RUNNING") < 2:
                seen += os.read(screen, 65536)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 130
        os.close(screen)
    assert seen.isascii()
    assert b"-----" in seen


@pytest.fixture
def open_folder():
    """One that everybody may enter, as `tmp_path` is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
@pytest.mark.parametrize(("group", "condition", "exit_code"), [(0, "up", 0), (NOBODY, "untold", 3)])
def test_who_is_in_the_group_may_look_and_nobody_else(open_folder, group, condition, exit_code):
    with agent_in(open_folder):
        assert as_another(open_folder, group) == [condition, exit_code]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
@pytest.mark.parametrize(("group", "condition", "exit_code"), [(0, "down", 2), (NOBODY, "untold", 3)])
def test_so_it_is_when_the_agent_is_down(open_folder, group, condition, exit_code):
    with agent_in(open_folder) as agent:
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    assert as_another(open_folder, group) == [condition, exit_code]


def as_another(folder, group):
    """What a user sees who is in that group alone."""
    report_on(folder)  # so that all is imported
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(group)
        os.setuid(NOBODY)
        report = report_on(folder)
        os.write(write, json.dumps([report.condition, report.exit_code]).encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:  # noqa: PTH123 - of a descriptor
        seen = file.read()
    os.waitpid(child, 0)
    return json.loads(seen)
