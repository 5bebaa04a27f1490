"""The status board of a whole agent that was built, but not started; and the file of its last state."""

import json
import queue
import stat
import threading

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from edge_agent.app.agent import build
from edge_agent.config import load
from edge_agent.core.parts import Decision
from edge_agent.runtime.agent import Ending
from edge_agent.runtime.status import About, StatusBoard, StatusFile
from edge_agent.runtime.status_words import STUCK_S, link_words, stuck_threads, words
from tests.fixtures import REPO
from tests.runtime.stations import wait_for

FACTS = {
    "state": "running",
    "reasons": [],
    "parts": {"opened": 1835, "closed": 1834, "per_s": 12.94},
    "model": {"name": "caps", "version": "1.4.0", "sha256": "9b1c"},
    "engine": {"backend": "tensorrt"},
    "workshop": None,
    "links": {"line": True, "records": True},
    "queues": {"records": 0},
    "threads": {"pipeline": 0.1, "outbox": 0.2},
}


@pytest.fixture
def agent(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return build(load(REPO / "examples" / "photos.toml"), queue.SimpleQueue())[0]


@pytest.fixture
def kept():
    return []


@pytest.fixture
def board(agent, kept, tmp_path):
    return StatusBoard(agent, About("photos", tmp_path / "photos.toml", "localhost:1883"), kept.append)


def read(board):
    return json.loads(board.document())


def test_the_board_knows_the_agent_before_its_start(board):
    facts = read(board)
    assert (facts["name"], facts["device"], facts["state"]) == ("photos", "demo-01", "starting")
    assert facts["health"]["cameras"]["top"]["condition"] == "opening"
    assert facts["ended"] is None
    assert facts["age_s"] < 5


def test_it_looks_once_a_second_and_keeps_what_it_saw_every_ten(board, kept):
    for step in range(105):
        board.report(1000 + step / 5)
    assert len(kept) == 3
    assert kept[0]["parts"]["per_s"] is None
    assert kept[1]["parts"]["per_s"] == 0


def test_another_state_is_kept_at_once_but_once_a_second_at_most(board, agent, kept):
    for step in range(10):
        agent.health.stopping = step % 2 == 1
        board.report(1000 + step / 5)
    assert [facts["state"] for facts in kept] == ["starting", "offline"]


def test_the_last_look_says_why_it_ended(board, agent, kept):
    board.report(1000)
    agent.ending = Ending("failed", "the camera driver is missing", 78)
    board.report(1000.1, is_last=True)
    assert kept[-1]["ended"] == {"why": "failed", "reason": "the camera driver is missing", "exit_code": 78}


def test_an_agent_that_never_ran_writes_over_nobody(board, kept):
    board.report(1000, is_last=True)
    assert kept == []


def test_the_last_verdicts_are_there(board, agent):
    for _ in range(12):
        part = agent.ledger.open("top", 0)
        agent.desk.judged(part, Decision.unknown("stopping"))
    board.report(1000)
    recent = read(board)["recent"]
    assert [told["seq"] for told in recent] == list(range(3, 13))
    assert recent[-1]["reasons"] == [{"code": "stopping"}]


def test_an_error_while_it_looks_harms_nothing(agent, tmp_path):
    def fail():
        raise ValueError("no")

    more = {}
    board = StatusBoard(agent, About("photos", tmp_path, "localhost:1883", more), print)
    more["evidence"] = fail
    with capture_logs() as logs:
        board.report(1000)
        board.report(1002)
    assert [line["event"] for line in logs] == ["status_failed"]


def test_what_others_tell_is_in_the_document(agent, tmp_path):
    about = About("photos", tmp_path, "localhost:1883", {"evidence": lambda: {"pictures": 3}})
    assert read(StatusBoard(agent, about, print))["evidence"] == {"pictures": 3}


def test_the_line_for_systemd_is_for_people():
    assert words(FACTS) == "running; 1834 parts, 12.9/s; caps 1.4.0 by tensorrt; broker up, 0 waiting"


def test_the_line_for_systemd_says_what_is_wrong():
    wrong = {"state": "degraded", "reasons": ["no_arm", "throttled:hot"], "links": {"line": False, "records": True}}
    said = words({**FACTS, **wrong, "threads": {"outbox": STUCK_S + 1}})
    assert said.startswith("degraded (no_arm, throttled:hot); no sign of life of outbox; 1834 parts")
    assert said.endswith("broker line down, 0 waiting")


def test_the_line_for_systemd_says_how_far_a_start_is():
    start = {"state": "starting", "model": None, "engine": None}
    assert words({**FACTS, **start}) == "starting; opening the engine; broker up, 0 waiting"
    assert "; building 12 %; " in words({**FACTS, **start, "workshop": "building 12 %"})


def test_links_are_up_or_down_or_one_of_them_is():
    assert link_words({"line": False, "records": False}) == "down"
    assert link_words({"line": True, "records": False}) == "records down"


def test_a_thread_that_is_silent_for_long_hangs():
    assert stuck_threads({"threads": {"pipeline": STUCK_S + 0.1, "timer": STUCK_S - 1}}) == ["pipeline"]


def test_the_last_state_is_a_whole_file_for_its_owner_and_group(tmp_path):
    file = StatusFile(tmp_path / "status.json")
    file.start()
    file.keep(FACTS)
    wait_for((tmp_path / "status.json").exists)
    file.stop(5)
    assert json.loads((tmp_path / "status.json").read_text()) == FACTS
    assert stat.S_IMODE((tmp_path / "status.json").stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_what_is_given_shortly_before_the_stop_is_written(tmp_path):
    file = StatusFile(tmp_path / "status.json")
    file.start()
    file.keep({**FACTS, "state": "offline"})
    file.stop(5)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "offline"


def test_a_disk_that_takes_nothing_is_told_once_and_tried_again(tmp_path):
    file = StatusFile(tmp_path / "folder" / "status.json")
    with capture_logs() as logs:
        file.start()
        for _ in range(2):
            file.keep(FACTS)
            wait_for(lambda: file._wanted is None)
        wait_for(lambda: logs)
        (tmp_path / "folder").mkdir()
        file.keep(FACTS)
        file.stop(5)
    assert [line["event"] for line in logs] == ["status_not_kept"]
    assert (tmp_path / "folder" / "status.json").exists()


def test_what_is_given_while_the_disk_is_busy_is_written_before_the_end(tmp_path):
    may_go_on, file = threading.Event(), StatusFile(tmp_path / "status.json")

    class Slow(BaseModel):
        def model_dump(self, **_):
            may_go_on.wait(20)
            return {}

    file.start()
    file.keep({"facts": Slow()})
    wait_for(lambda: file._wanted is None)
    file.keep(FACTS)
    assert not file.stop(0)
    may_go_on.set()
    assert file.stop(20)
    assert json.loads((tmp_path / "status.json").read_text()) == FACTS


def test_a_link_that_was_put_in_its_way_is_not_followed(tmp_path):
    (tmp_path / "other").write_text("somebody's")
    for name in ("status.json", ".status.json.new"):
        (tmp_path / name).symlink_to("other")
    file = StatusFile(tmp_path / "status.json")
    file.start()
    file.keep(FACTS)
    file.stop(5)
    assert (tmp_path / "other").read_text() == "somebody's"
    assert json.loads((tmp_path / "status.json").read_text()) == FACTS
