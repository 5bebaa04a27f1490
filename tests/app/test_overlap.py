import os
from dataclasses import replace

import pytest

from edge_agent.app.overlap import maker
from edge_agent.config import load
from edge_agent.hardware.profile import Choice, load_all
from edge_agent.runtime.mailbox import Mailroom
from tests.fixtures import REPO
from tests.runtime.stations import engine_of, record

CORES = len(os.sched_getaffinity(0))
LOADED = load(REPO / "examples" / "tls-broker.toml")


def made(tmp_path, *, backend="tflite", says=None, profile_says="auto", **hardware):
    """Whether pictures are prepared ahead, and with which hurry."""
    table = LOADED.config.hardware.model_copy(update={"overlap": says, **hardware})
    config = LOADED.config.model_copy(update={"hardware": table})
    profile = load_all(None)["generic-x86_64"].model_copy(update={"overlap": profile_says})
    engine = replace(engine_of(record(tmp_path / "m.npz", [])), backend_kind=backend)
    ahead = maker(config, Choice(profile, supported=True, reason=""), Mailroom(), ())(engine)
    return ahead and ("at once" if ahead._at_once else "in time")


@pytest.mark.skipif(CORES < 2, reason="has one core")
def test_where_the_engine_leaves_a_core_the_next_picture_is_prepared_in_time(tmp_path):
    assert made(tmp_path, threads=CORES - 1) == "in time"
    assert made(tmp_path, backend="tensorrt") == "in time"


def test_where_it_takes_all_cores_nothing_is_prepared_ahead_unless_throughput_is_asked_for(tmp_path):
    assert made(tmp_path) is None
    assert made(tmp_path, threads=CORES) is None
    assert made(tmp_path, threads=CORES, says="throughput") == "at once"


def test_the_configuration_has_the_last_word(tmp_path):
    assert made(tmp_path, profile_says="throughput") == "at once"
    assert made(tmp_path, profile_says="throughput", says="off") is None
    assert made(tmp_path, profile_says="off", says="throughput") == "at once"
