"""What can be told of an agent: from what it answers, and from what it left."""

import json
import os
import socket
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import pytest

from edge_agent.app.instances import Instance
from edge_agent.app.service import Service, read
from edge_agent.app.status import ago, look
from edge_agent.runtime.status_socket import FILE as SOCKET
from edge_agent.runtime.status_socket import StatusServer
from edge_agent.runtime.status_words import BOOT_ID, FILE, STUCK_S
from edge_agent.wire.messages import utc_text
from tests.app.status_facts import facts_of
from tests.fixtures import REPO
from tests.runtime.stations import wait_for

NO_PROCESS = 2**22 + 1  # more than Linux gives


@pytest.fixture
def instance(tmp_path):
    return Instance("photos", REPO / "examples" / "photos.toml", tmp_path, tmp_path, is_service=False)


@contextmanager
def answering(folder, **facts):
    server = StatusServer(folder, lambda: json.dumps(facts_of(**facts)).encode())
    server.start()
    wait_for((folder / SOCKET).exists)
    try:
        yield
    finally:
        server.stop(5)


def leave(folder, *, seconds_ago=100, **facts):
    at = utc_text(datetime.now(timezone.utc) - timedelta(seconds=seconds_ago))
    left = {"at": at, "pid": NO_PROCESS, "boot_id": BOOT_ID.read_text().strip(), **facts}
    (folder / FILE).write_text(json.dumps({key: fact for key, fact in facts_of(**left).items() if key != "age_s"}))


@pytest.mark.parametrize(
    ("state", "exit_code"), [("running", 0), ("ready", 0), ("degraded", 1), ("starting", 1), ("error", 2)]
)
def test_the_exit_code_goes_by_the_state(instance, tmp_path, state, exit_code):
    with answering(tmp_path, state=state):
        report = look(instance)
    assert (report.condition, report.state, report.exit_code) == ("up", state, exit_code)


def test_a_line_without_its_broker_is_not_well_whatever_its_state(instance, tmp_path):
    with answering(tmp_path, state="running", links={"line": False, "records": False}):
        report = look(instance)
    assert (report.state, report.exit_code) == ("running", 1)
    assert report.told == ("the broker is not connected: no verdict goes out",)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"links": {"line": False, "records": False}}, "the broker is not connected: no verdict goes out"),
        ({"reasons": ["verdicts_refused", "no_arm"]}, "verdicts_refused: The broker does not take the verdicts"),
    ],
)
def test_that_nobody_subscribes_is_not_told_where_no_verdict_gets_through(instance, tmp_path, more, told):
    with answering(tmp_path, **{"state": "degraded", "reasons": ["no_arm"], **more}):
        report = look(instance)
    assert report.told == (told,)
    assert "no_arm" not in " ".join(report.advice)
    assert "no_arm" in report.facts["reasons"]


def test_each_reason_has_its_words_and_the_first_thing_to_do(instance, tmp_path):
    with answering(tmp_path, state="error", reasons=["camera_lost:top", "of_a_later_version"]):
        report = look(instance)
    assert report.told[0].startswith("camera_lost:top: A camera gives no pictures")
    assert report.told[1] == "of_a_later_version"
    assert len(report.advice) == 2
    assert report.advice[1] == "`edge-agent explain camera_lost`"


def test_a_main_thread_that_does_not_look_hangs(instance, tmp_path):
    with answering(tmp_path, age_s=31.0, watchdog=30.0):
        report = look(instance)
    assert (report.condition, report.state, report.exit_code) == ("hangs", "error", 2)
    assert "31 s" in report.told[0]
    assert "within 30 s" in report.advice[0]


def test_another_thread_that_hangs_is_named(instance, tmp_path):
    with answering(tmp_path, threads={"pipeline": 0.1, "camera top": STUCK_S + 1}):
        report = look(instance)
    assert (report.condition, report.exit_code) == ("hangs", 2)
    assert report.told[0].startswith("camera top: no sign of life")


def test_a_process_that_does_not_answer_hangs(instance, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_agent.runtime.status_socket.ask.__defaults__", (0.05,))
    leave(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(tmp_path / SOCKET))
        silent.listen()
        report = look(instance)
    assert (report.condition, report.exit_code) == ("hangs", 2)
    assert "has not moved for 1 min" in report.told[0]


def test_an_answer_of_another_kind_cannot_be_told(instance, tmp_path):
    server = StatusServer(tmp_path, lambda: b"hello")
    server.start()
    wait_for((tmp_path / SOCKET).exists)
    report = look(instance)
    server.stop(5)
    assert (report.condition, report.exit_code) == ("untold", 3)


def test_what_another_version_says_cannot_be_told(instance, tmp_path):
    (tmp_path / FILE).write_text('{"state": "running"}')
    assert look(instance).condition == "down"
    server = StatusServer(tmp_path, lambda: b'{"state": "running"}')
    server.start()
    wait_for((tmp_path / SOCKET).exists)
    report = look(instance)
    server.stop(5)
    assert (report.condition, report.exit_code) == ("untold", 3)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ({"why": "stopped", "reason": "", "exit_code": 0}, "it was stopped 5 min ago"),
        ({"why": "finished", "reason": "", "exit_code": 0}, "it ended by itself"),
        ({"why": "failed", "reason": "no such model", "exit_code": 78}, "exit code 78: no such model"),
        (None, "it was killed, or crashed; its last sign of life is 5 min old"),
    ],
)
def test_an_agent_that_is_down_left_how_it_ended(instance, tmp_path, ended, words):
    leave(tmp_path, seconds_ago=300, ended=ended)
    report = look(instance)
    assert (report.condition, report.state, report.exit_code) == ("down", "offline", 2)
    assert words in report.told[0]
    assert any("edge-agent run -c" in step for step in report.advice)
    assert report.facts["parts"]["closed"] == 1834


def test_a_device_that_was_restarted_meanwhile_lost_its_power(instance, tmp_path):
    leave(tmp_path, boot_id="of an earlier start", pid=os.getpid())
    report = look(instance)
    assert "lost its power" in report.told[0]
    assert report.exit_code == 2


def test_an_agent_that_left_nothing_has_not_run_yet(instance, tmp_path):
    assert look(instance).told == ("it has not run yet, as far as can be told",)
    (tmp_path / FILE).write_text('{"half')
    assert look(instance).told == ("it has not run yet, as far as can be told",)


def test_a_wrong_configuration_is_told_when_it_is_down(tmp_path):
    path = tmp_path / "line3.toml"
    path.write_text("[device]\nid = 'cap-01'\nsight = 'leon'\n")
    report = look(Instance("line3", path, tmp_path, tmp_path, is_service=False))
    assert "its configuration is wrong" in report.told[1]
    assert report.advice[0] == f"`edge-agent check --config {path}`"


def test_a_configuration_that_does_not_name_its_device_leads_nowhere(tmp_path):
    path = tmp_path / "line3.toml"
    path.write_text("")
    report = look(Instance("line3", path, None, None, is_service=False))
    assert (report.condition, report.exit_code) == ("untold", 3)
    assert "[device] id" in report.told[0]


SHOWN = """LoadState=loaded
ActiveState={active}
SubState={sub}
Result={result}
ExecMainStatus={code}
NRestarts={restarts}
ExecMainExitTimestamp={exited}
"""


def shown(active="failed", sub="failed", result="exit-code", code=78, restarts=0, exited=""):
    text = SHOWN.format(active=active, sub=sub, result=result, code=code, restarts=restarts, exited=exited)
    return read("edge-agent@line3", text)


def test_a_service_that_failed_says_how():
    assert shown().words == "it ended with exit code 78"
    assert not shown().is_well
    assert "memory was full" in shown(result="oom-kill").words
    restarting = shown("activating", "auto-restart", "watchdog", restarts=3)
    assert restarting.words.endswith("started again 3 times; it is about to start it again")
    assert not restarting.is_starting


def test_a_service_that_runs_or_was_stopped_has_nothing_to_tell():
    assert shown("inactive", "dead", "success", 0).is_well
    assert shown("activating", "start", "success", 0).is_starting
    assert read("edge-agent@line3", "LoadState=not-found\n") is None
    assert read("edge-agent@line3", "") is None


def test_a_failed_start_after_the_last_session_is_the_news():
    failed = shown(exited=f"@{time.time() - 60:.0f}")
    assert failed.failed_after(3600)
    assert not failed.failed_after(62)
    assert not shown(exited="").failed_after(3600)
    assert not Service("u", "inactive", "dead", "success", 0, 0, time.time()).failed_after(3600)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99, "99 s"), (300, "5 min"), (7500, "2 h 5 min"), (3 * 86_400 + 7200, "3 d 2 h")],
)
def test_times_are_told_as_people_tell_them(seconds, words):
    assert ago(seconds) == words
