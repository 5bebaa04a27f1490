import re
from types import SimpleNamespace

import pytest

from edge_agent.core.health_judge import Bound, Limits
from edge_agent.errors import CameraLostError
from edge_agent.runtime.acks import Acks
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.health import Vitals
from edge_agent.runtime.metrics import Metrics
from edge_agent.wire import messages as wire
from tests.fixtures import REPO
from tests.runtime.figures import Figures
from tests.runtime.stations import record, wait_for
from tests.runtime.test_health import UNKNOWN_CLOCK, Plant
from tests.runtime.works import CRACKED, picture

MS_5 = ("0.0005", "0.001", "0.0025", "0.005")


def figures_of(plant):
    return Figures(Metrics(plant.health, plant.station.scribe).text().decode())


@pytest.fixture
def plant(tmp_path):
    with Plant(record(tmp_path / "m.npz", []), cameras=("top", "side")) as plant:
        yield plant


def test_all_that_is_shown_keeps_the_conventions_of_prometheus(plant):
    assert figures_of(plant).faults() == []
    plant.run()
    plant.health.vitals = Vitals(
        wire.Clock(synced=True, max_error_ms=0.5), 51.5, ("under_voltage",), 812, 120, {"cpu": 51.5, "off": None}, 1800
    )
    plant.station.desk.unsent.add("top", "no_connection", 7)
    assert figures_of(plant).faults() == []


def test_the_operations_page_names_all_of_them_and_no_other(plant):
    page = (REPO / "docs" / "operations.md").read_text()
    rows = page[page.index("| name, after `edge_agent_` |") :].split("\n\n")[0].split("\n")[2:]
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    shown = re.findall(r"(?m)^# TYPE edge_agent_(\w+)", figures_of(plant).text)
    assert sorted(told) == sorted(shown)


def test_of_the_states_one_is_1(plant):
    plant.run()
    states = {labels["state"]: figures_of(plant)("state", **labels) for labels in figures_of(plant).labels("state")}
    assert states == {"starting": 0, "ready": 0, "running": 1, "degraded": 0, "error": 0, "offline": 0}


def test_reasons_are_counted_by_their_code_and_not_by_what_they_name(plant):
    plant.run()
    for faucet in plant.faucets:
        faucet.tap.put(CameraLostError("unplugged"))
    wait_for(lambda: len(plant.health.state()[1]) == 2)
    figures = figures_of(plant)
    assert figures("state_reasons", reason="camera_lost") == 2
    assert (figures("camera_up", camera="top"), figures("camera_losses_total", camera="top")) == (0, 1)


def test_verdicts_are_told_by_camera(tmp_path):
    with Plant(record(tmp_path / "m.npz", CRACKED), cameras=("top", "side")) as plant:
        plant.run()
        figures = figures_of(plant)
    assert figures("verdicts_total", camera="top", verdict="reject") == 1
    assert figures("verdicts_total", camera="side", verdict="pass") == 0
    assert figures("verdicts_unknown_total", code="deadline_missed") == 0


def test_the_buckets_of_a_stage_count_every_frame_since_the_start(tmp_path):
    with Plant(record(tmp_path / "m.npz", [], latency_ms=6), cameras=("top",)) as plant:
        plant.run()
        plant.faucets[0].tap.put(picture(1))
        wait_for(lambda: len(plant.pipeline.stages) == 2)
        figures = figures_of(plant)
    assert figures("stage_duration_seconds_count", stage="infer") == 2
    assert figures("stage_duration_seconds_sum", stage="infer") >= 0.012
    assert [figures("stage_duration_seconds_bucket", stage="infer", le=bound) for bound in MS_5] == [0, 0, 0, 0]
    assert figures("stage_duration_seconds_bucket", stage="infer", le="+Inf") == 2
    assert figures("frame_duration_seconds_count") == 2
    assert {labels["stage"] for labels in figures.labels("stage_duration_seconds_count")} == {
        "queue",
        "preprocess",
        "infer",
        "decode",
        "decide",
    }


def test_what_is_not_known_is_left_out(plant):
    figures = figures_of(plant)
    for name in ("temperature_celsius", "throttled", "memory_available_bytes", "clock_synced", "disk_free_bytes"):
        assert figures(name) is None
        assert f"# TYPE edge_agent_{name} gauge" in figures.text
    assert figures("camera_frame_age_seconds", camera="top") is None


def test_the_board_is_told_in_base_units(plant):
    zones = {"cpu-thermal": 61.25, "off": None}
    plant.health.vitals = Vitals(
        wire.Clock(synced=False, max_error_ms=0.5), 61.25, ("throttled_since_boot",), 1, 2, zones, 1800
    )
    figures = figures_of(plant)
    assert figures("temperature_celsius") == 61.25
    assert figures("zone_temperature_celsius", zone="cpu-thermal") == 61.25
    assert figures("zone_temperature_celsius", zone="off") is None
    assert (figures("throttled"), figures("throttled_reasons", reason="throttled_since_boot")) == (0, 1)
    assert (figures("memory_available_bytes"), figures("resident_memory_bytes")) == (2**20, 2**21)
    assert figures("cpu_frequency_hertz") == 1.8e9
    assert (figures("clock_synced"), figures("clock_error_seconds")) == (0, 0.0005)


def test_what_waits_for_the_broker_has_an_age(plant):
    plant.station.records.stop(5)
    plant.station.reporter.event("failed", "alarm", "a test")
    figures = figures_of(plant)
    assert figures("records_waiting", kind="event") == 1
    assert figures("records_waiting_bytes", kind="event") > 100
    assert 0 <= figures("records_oldest_age_seconds", kind="event") < 5
    assert figures("records_oldest_age_seconds", kind="result") is None
    assert figures("mqtt_connected", link="records") == 0


def test_a_camera_that_does_not_see_well_is_told_with_what_it_sees(tmp_path):
    watch = CameraWatch("top", Limits(brightness=Bound(40, 48)))
    with Plant(record(tmp_path / "m.npz", []), watches=(watch,)) as plant:
        plant.health.watches = {"top": watch}
        plant.start_engine()
        plant.start_cameras()
        plant.faucets[0].tap.put(picture())
        wait_for(watch.picture)
        figures = figures_of(plant)
    assert figures("camera_brightness_ratio", camera="top") == 0
    assert figures("camera_unhealthy", camera="top") in (0, 1)


def test_what_came_in_is_told_by_kind_and_outcome_and_not_in_the_senders_words(tmp_path):
    def told():
        counts = {"trigger.accepted": 3, "ack.malformed": 1, "unknown_topic": 2, "trigger.waited": 1, "called.top": 9}
        return counts | {"not_done.their words": 1}

    acks = Acks(["top"], 1000, "5f0c")
    with Plant(record(tmp_path / "m.npz", []), acks=acks) as plant:
        plant.health.inbound = SimpleNamespace(counts=told())
        figures = figures_of(plant)
    assert figures.faults() == []
    assert figures("inbound_messages_total", kind="trigger", outcome="accepted") == 3
    assert figures("inbound_messages_total", kind="ack", outcome="malformed") == 1
    assert figures("inbound_messages_total", kind="ack", outcome="accepted") == 0
    assert figures("inbound_messages_total", kind="other", outcome="unknown_topic") == 2
    assert figures("triggers_waited_total") == 1
    assert figures("acks_total", outcome="missing") == 0
    assert "their words" not in figures.text


def test_each_of_several_agents_on_a_machine_has_figures_of_its_own(plant):
    assert all(sample.labels["device"] == "cap-01" for sample in figures_of(plant).samples)


def test_the_model_is_told_once_there_is_one(plant):
    assert figures_of(plant)("model_info", name="caps", version="", sha256="a" * 12, backend="recorded") == 1
    plant.station.scribe.engine = None
    assert figures_of(plant).labels("model_info") == []


def test_after_a_stop_it_says_offline(plant):
    plant.run()
    plant.health.stopping = True
    plant.health.vitals = Vitals(UNKNOWN_CLOCK)
    assert figures_of(plant)("state", state="offline") == 1
