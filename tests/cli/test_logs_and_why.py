"""`edge-agent logs` and `edge-agent why`, on a recorder's file."""

import json
import re
from datetime import datetime, timedelta

import pytest
from typer.testing import CliRunner

from edge_agent.cli import app
from edge_agent.errors import UsageError
from edge_agent.runtime import recorder as recorder_module
from tests.runtime.flights import DEFECT, recording, result, setting

CRACK = {"rule": "defect", "label": "crack", "score": 0.93}
LOST = {"event": "camera_lost", "level": "error", "message": "camera top is lost", "camera": "top"}
DEVICE = '[device]\nid = "cap-01"\n[records]\nfolder = "own"\n[[cameras]]\n'


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """The configuration of an agent that has ended, and left a recorder's file."""
    monkeypatch.setattr(recorder_module, "WRITE_EVERY_S", 0.005)
    config = tmp_path / "line3.toml"
    config.write_text(DEVICE)
    with recording(tmp_path / "own") as recorder:
        recorder.note("setting", setting(DEFECT))
        recorder.note("log", LOST)
        for seq in (1, 2):
            recorder.note("result", result(seq, "reject", reasons=[CRACK]))
            recorder.note("receipt", {"camera": "top", "seq": seq, "code": 0, "ms": 1.2})
        recorder.note("log", {"event": "ready", "level": "info", "state": "running"})
    return config


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def names(*words):
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return [json.loads(line)["name"] for line in done.stdout.splitlines()]


def test_logs_shows_all_in_order(agent):
    assert names("logs", "-c", agent) == [
        "setting", "camera_lost", "verdict", "delivered", "verdict", "delivered", "ready",
    ]  # fmt: skip


def test_a_line_has_time_severity_name_and_words(agent):
    lines = run("logs", "-c", agent).stdout.splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  error    camera_lost       camera top is lost", lines[1]
    )


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--severity", "error"], ["camera_lost"]),
        (["--event", "camera_*"], ["camera_lost"]),
        (["--camera", "top", "-e", "ready"], []),
        (["--part", "top-2"], ["verdict", "delivered"]),
        (["-p", "last reject"], ["verdict", "delivered"]),
        (["-n", "2"], ["delivered", "ready"]),
        (["-n", "0", "-e", "verdict"], ["verdict", "verdict"]),
        (["--since", "1h", "-e", "ready"], ["ready"]),
        (["--since", "2099-01-01"], []),
    ],
)
def test_logs_shows_what_is_asked_for(agent, words, shown):
    assert names("logs", "-c", agent, *words) == shown


def test_a_time_of_today_may_be_given(agent):
    later = (datetime.now().astimezone() + timedelta(minutes=2)).strftime("%H:%M")
    earlier = (datetime.now().astimezone() - timedelta(minutes=2)).strftime("%H:%M:%S")
    if earlier < later:  # not around midnight
        assert names("logs", "-c", agent, "--since", later) == []
        assert names("logs", "-c", agent, "--since", earlier, "-e", "ready") == ["ready"]


def test_a_time_that_is_none_is_refused(agent):
    done = run("logs", "-c", agent, "--since", "yesterday")
    assert isinstance(done.exception, UsageError)
    assert "write 90s, 10m, 2h or 3d" in str(done.exception)


def test_an_agent_without_a_recorder_is_told(tmp_path):
    config = tmp_path / "line3.toml"
    config.write_text(DEVICE)
    assert "nothing was recorded here" in str(run("logs", "-c", config).exception)


def test_why_tells_the_story(agent):
    text = run("why", "last", "reject", "-c", agent).stdout
    assert text.startswith("top-2 of cap-01: reject\nverdict 2 of camera top, session 5f0c9a1b, ")
    assert "\nWhy reject\n  rule defect objects: crack 0.93 is at or above min_score 0.5\n" in text
    assert "error    camera_lost  camera top is lost" in text


def test_what_others_said_cannot_move_the_cursor(agent):
    with recording(agent.parent / "own") as recorder:
        recorder.note("result", result(3, trigger_id="\x1b[2J"))
        recorder.note("ack", {"camera": "top", "seq": 3, "action": "none", "why": "\x1b[2J\nfake", "ms": 1})
    for words in (["logs"], ["why", "last"]):
        text = run(*words, "-c", agent).stdout
        assert "\x1b" not in text
        assert "\\x1b[2J\\x0afake" in text


def test_why_gives_one_document(agent):
    document = json.loads(run("why", "top-1", "-c", agent, "--json").stdout)
    assert [document[key] for key in ("part_id", "camera", "seq", "verdict", "picture")] == [
        "top-1",
        "top",
        1,
        "reject",
        None,
    ]
    assert document["result"]["reasons"] == [CRACK]
    assert document["setting"]["cameras"]["top"]["rules"] == [DEFECT]
    assert [fate["name"] for fate in document["fates"]] == ["delivered"]
    assert [entry["name"] for entry in document["around"]] == ["camera_lost", "ready"]
