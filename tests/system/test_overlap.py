"""Preparing pictures ahead, and threads that stand back, in a real process."""

import os
import signal
from pathlib import Path

import pytest

from edge_agent.models.bundled import TFLITE
from edge_agent.runtime.scheduling import BACKGROUND_NICE
from tests.fixtures import REPO
from tests.system.agents import ROOT, config_text, replay, running_agent

pytestmark = pytest.mark.system
PHOTOS = REPO / "examples" / "photos"
OVERLAP = '\n[hardware]\nthreads = 1\noverlap = "throughput"\n'


def is_verdict(heard):
    return heard.topic == f"{ROOT}/verdict/top"


def niceness_of(process_id):
    """Of each thread, by the kernel's number."""
    tasks = Path("/proc", str(process_id), "task").iterdir()
    return {int(task.name): int((task / "stat").read_text().rpartition(")")[2].split()[16]) for task in tasks}


def test_with_pictures_that_are_prepared_ahead_every_frame_gets_one_verdict(tmp_path, broker, listener):
    cameras = replay(PHOTOS, fps=0)
    verdict = "deadline_ms = 20000\nvalid_ms = 30000"
    config = config_text(model=TFLITE, cameras=cameras, port=broker.port, verdict=verdict, more=OVERLAP)
    with running_agent(tmp_path, config) as agent:
        verdicts = listener.wait_for_count(is_verdict, 30, timeout=30)
        niceness = niceness_of(agent.process.pid)
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    seqs = [heard.json["seq"] for heard in verdicts]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert {heard.json["verdict"] for heard in verdicts} == {"pass"}
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness[agent.process.pid] == usual
    assert list(niceness.values()).count(min(usual + BACKGROUND_NICE, 19)) == 1
    assert "scheduling_refused" not in agent.log()
