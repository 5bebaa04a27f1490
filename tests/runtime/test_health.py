import contextlib
import queue
import time
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from edge_agent.core.datatypes import Frame
from edge_agent.core.health_judge import Bound, Limits
from edge_agent.core.parts import Decision
from edge_agent.core.ports import Message
from edge_agent.errors import CameraLostError, EndOfStreamError, FrameTimeoutError
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.capture import Capture
from edge_agent.runtime.health import Health, Vitals, latencies
from edge_agent.runtime.stages import Stages
from edge_agent.wire import messages as wire
from tests.runtime.stations import record, wait_for
from tests.runtime.test_pipeline import Works, picture

GOOD = Decision("pass")
UNKNOWN_CLOCK = wire.Clock(synced=None, max_error_ms=None)


class Faucet:
    """A camera that gives what the test puts in; an error is raised. Silent where there is nothing."""

    def __init__(self):
        self.tap = queue.SimpleQueue()

    def read(self, timeout_s):
        try:
            drop = self.tap.get(timeout=min(timeout_s, 0.02))
        except queue.Empty:
            raise FrameTimeoutError("silent") from None
        if isinstance(drop, Exception):
            raise drop
        return drop

    def close(self):
        pass


class Plant(Works):
    """Works with cameras and their health; `start_engine` and `start_cameras` are the test's to call."""

    def __init__(self, path, cameras=("top",), **settings):
        super().__init__(path, cameras=cameras, deadline_ms=20_000, **settings)
        self.faucets = [Faucet() for _ in cameras]
        self.captures = {
            camera: Capture(camera, lambda faucet=faucet: faucet, box, timeout_s=60)
            for camera, faucet, box in zip(cameras, self.faucets, self.boxes, strict=True)
        }
        boxes = dict(zip(cameras, self.boxes, strict=True))
        station = self.station
        links = {"line": station.line, "records": station.records}
        self.health = Health(
            self.captures,
            boxes,
            self.pipeline,
            station.ledger,
            station.desk,
            station.outbox,
            links,
            Vitals(UNKNOWN_CLOCK),
            time.monotonic_ns(),
            stall_s=60,
        )

    def __enter__(self):
        self.station.__enter__()
        return self

    def start_engine(self):
        self.pipeline.start()
        assert self.pipeline.opened.wait(30)

    def start_cameras(self):
        for capture in self.captures.values():
            capture.start()

    def __exit__(self, *_):
        self.room.close()
        for capture in self.captures.values():
            with contextlib.suppress(RuntimeError):  # it was not started
                capture.stop(30)
        if self.pipeline.engine:
            self.pipeline.engine.backend.close()
            assert self.pipeline.stop(30)
        self.station.__exit__()

    def run(self):
        """Everything open, and one frame of each camera judged."""
        self.start_engine()
        self.start_cameras()
        for faucet in self.faucets:
            faucet.tap.put(picture())
        wait_for(lambda: self.health.state() == ("running", ()))


@pytest.fixture
def plant(tmp_path):
    with Plant(record(tmp_path / "m.npz", [])) as plant:
        yield plant


def test_what_was_lost_on_its_way_in_is_counted_where_an_operator_sees_it(plant):
    assert plant.health.facts()["inbound"] == {}
    plant.station.line.unheard = 3
    assert plant.health.facts()["inbound"] == {"unheard": 3}


def test_it_starts_until_engine_and_cameras_are_open(plant):
    assert plant.health.state() == ("starting", ())
    plant.start_engine()
    assert plant.health.state() == ("starting", ())
    plant.start_cameras()
    assert plant.health.state() == ("starting", ())


def test_it_runs_once_a_part_was_seen(plant):
    plant.run()
    assert plant.ledger.opened == 1


def test_it_is_ready_while_everything_is_open_and_no_part_was_seen(tmp_path):
    def without_parts(_camera):
        class Blind:
            rules = ()

            def begin(self, frame):
                return None

            def finish(self, frame, part, detections, *, is_fit):
                return []

        return Blind()

    with Plant(record(tmp_path / "m.npz", []), make_inspector=without_parts) as plant:
        plant.start_engine()
        plant.start_cameras()
        plant.faucets[0].tap.put(picture())
        wait_for(lambda: plant.health.state() == ("ready", ()))


def test_a_lost_camera_is_an_error_and_names_it(tmp_path):
    with Plant(record(tmp_path / "m.npz", []), cameras=("top", "side")) as plant:
        plant.run()
        plant.faucets[1].tap.put(CameraLostError("unplugged"))
        wait_for(lambda: plant.health.state() == ("error", ("camera_lost:side",)))


def test_a_camera_that_is_back_ends_the_error(plant):
    plant.run()
    plant.faucets[0].tap.put(CameraLostError("unplugged"))
    wait_for(lambda: plant.health.state()[0] == "error")
    plant.faucets[0].tap.put(picture(1))
    wait_for(lambda: plant.health.state() == ("running", ()))


def test_a_camera_that_is_missing_at_the_start_is_no_error_before_the_engine_is_open(plant):
    plant.faucets[0].tap.put(CameraLostError("not there"))
    plant.start_cameras()
    wait_for(lambda: plant.captures["top"].condition == "lost")
    assert plant.health.state() == ("starting", ())
    plant.start_engine()
    assert plant.health.state() == ("error", ("camera_lost:top",))


def test_a_source_that_has_ended_is_no_error(plant):
    plant.run()
    plant.faucets[0].tap.put(EndOfStreamError("the end"))
    wait_for(lambda: plant.captures["top"].condition == "finished")
    assert plant.health.state() == ("running", ())


def test_an_engine_that_does_not_come_back_is_an_error(tmp_path):
    with Plant(record(tmp_path / "m.npz", [], hang_after=2)) as plant:
        plant.run()
        plant.health.stall_s = 0.3
        plant.faucets[0].tap.put(picture(1))
        wait_for(lambda: plant.health.state() == ("error", ("engine_stalled",)))


def test_an_idle_belt_is_no_error(plant):
    plant.run()
    plant.health.stall_s = 2.0
    until_s = time.monotonic() + 2.5
    while time.monotonic() < until_s:
        assert plant.health.state() == ("running", ())
        time.sleep(0.02)


def test_a_missed_deadline_degrades_it(plant):
    plant.run()
    plant.station.desk.overdue(plant.station.open_part())
    assert plant.health.state() == ("degraded", ("deadline_missed",))


def test_that_nobody_listens_degrades_it_until_somebody_does(plant):
    plant.run()
    plant.station.desk.unheard.add("top")
    assert plant.health.state() == ("degraded", ("no_arm",))
    plant.station.desk.unheard.clear()
    assert plant.health.state() == ("running", ())


def test_throttling_degrades_it_while_it_lasts(plant):
    plant.run()
    plant.health.vitals = replace(plant.health.vitals, throttled=("under_voltage", "frequency_capped_since_boot"))
    assert plant.health.state() == ("degraded", ("throttled:under_voltage",))
    plant.health.vitals = replace(plant.health.vitals, throttled=("under_voltage_since_boot",))
    assert plant.health.state() == ("running", ())


def test_an_unhealthy_camera_degrades_it_and_is_named_with_its_faults(plant):
    plant.run()
    watch = CameraWatch("top", Limits(brightness=Bound(40, 48)))
    plant.health.watches = {"top": watch}
    assert plant.health.state() == ("running", ())
    for number in range(60):
        watch.examine(Frame(np.full((90, 160, 3), number % 8, np.uint8), number, number * 40_000_000))
    assert plant.health.state() == ("degraded", ("camera_unhealthy:top",))
    told = plant.health.facts()["cameras"]["top"]
    assert (told.faults, told.unhealthy, told.picture.brightness) == (("dark",), 1, 59 % 8)


def test_what_concerns_the_whole_device_comes_before_its_cameras(plant):
    plant.run()
    dark = {f"cam{number}": CameraWatch(f"cam{number}", Limits(brightness=Bound(40, 48))) for number in range(20)}
    for watch in dark.values():
        for number in range(30):
            watch.examine(Frame(np.full((9, 16, 3), number % 8, np.uint8), number, number * 40_000_000))
    plant.health.watches = dark
    plant.station.desk.unheard.add("top")
    reasons = plant.health.state()[1]
    assert reasons[0] == "no_arm"
    assert len(reasons) == 21


def test_an_error_outweighs_what_degrades(plant):
    plant.run()
    plant.station.desk.unheard.add("top")
    plant.faucets[0].tap.put(CameraLostError("unplugged"))
    wait_for(lambda: plant.health.state() == ("error", ("camera_lost:top",)))


def test_once_it_stops_it_is_offline_whatever_else(plant):
    plant.run()
    plant.faucets[0].tap.put(CameraLostError("unplugged"))
    wait_for(lambda: plant.health.state()[0] == "error")
    plant.health.stopping = True
    assert plant.health.state() == ("offline", ("stopping",))


def test_the_facts_are_a_health_message(plant):
    plant.run()
    wait_for(lambda: plant.station.outbox.counts["delivered"] == 1 and plant.pipeline.stages)
    plant.health.vitals = Vitals(wire.Clock(synced=True, max_error_ms=0.5), 51.5, ("under_voltage",), 812.0, 120.5)
    told = wire.Health.model_validate_json(plant.station.herald.health(plant.health.facts()).payload)
    assert told.cameras["top"].condition == "open"
    assert (told.cameras["top"].frames, told.cameras["top"].taken, told.cameras["top"].dropped) == (1, 1, 0)
    assert told.verdicts == {"pass": 1}
    assert (told.records["delivered"], told.records["waiting"]) == (1, 0)
    assert told.links == {"line": 1, "records": 1}
    assert (told.temperature_c, told.throttled, told.rss_mb) == (51.5, ("under_voltage",), 120.5)
    assert told.latency_ms["total"].p50 > 0


def test_it_tells_how_much_waits_for_the_broker_and_for_how_long(plant):
    plant.station.records.stop(5)
    plant.station.outbox.put("result", Message("a/result/top", b'{"at": "2020-01-01T00:00:00.000Z"}'))
    plant.station.outbox.put("event", Message("a/event", b"not of ours"))
    told = wire.Health.model_validate_json(plant.station.herald.health(plant.health.facts()).payload)
    assert (told.queues["result"].waiting, told.queues["event"].waiting) == (1, 1)
    assert told.queues["result"].oldest_s > 1e8
    assert told.queues["event"].oldest_s is None


def test_it_tells_what_keeps_and_shows_beside_the_line(plant):
    class Keeper:
        counts: ClassVar = {"written": 3, "lost": 1}

    plant.health.recorder, plant.health.shedding = Keeper(), lambda: ("evidence",)
    told = wire.Health.model_validate_json(plant.station.herald.health(plant.health.facts()).payload)
    assert (told.recorder, told.evidence, told.shedding) == ({"written": 3, "lost": 1}, {}, ("evidence",))


def test_names_of_zones_are_the_kernels_and_fit_the_message(plant):
    zones = {f"zone-{number}-{'x' * 80}": 40.0 for number in range(50)} | {"off": None}
    plant.health.vitals = Vitals(UNKNOWN_CLOCK, zones_c=zones, cpu_mhz=1800)
    told = wire.Health.model_validate_json(plant.station.herald.health(plant.health.facts()).payload)
    assert (len(told.zones_c), told.cpu_mhz) == (32, 1800)


def test_what_is_not_known_is_null_and_not_zero(plant):
    told = wire.Health.model_validate_json(plant.station.herald.health(plant.health.facts()).payload)
    assert (told.temperature_c, told.throttled, told.memory_available_mb, told.rss_mb) == (None, None, None, None)
    assert (told.cameras["top"].fps, told.cameras["top"].age_ms) == (None, None)
    assert told.latency_ms == {}


def test_latencies_are_percentiles_of_every_stage():
    stages = [Stages(queue=n, preprocess=1, infer=2 * n, decode=1, decide=0, total=3 * n) for n in range(101)]
    told = latencies(stages)
    assert set(told) == {"queue", "preprocess", "infer", "decode", "decide", "total"}
    assert (told["queue"].p50, told["queue"].p99, told["queue"].max) == (50, 99, 100)
    assert (told["infer"].p50, told["infer"].max) == (100, 200)
