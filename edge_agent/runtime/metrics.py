"""The agent's figures for Prometheus: the facts of `health`, counted from the start, in base units.

Every sample bears the label `device`, so that several agents of one machine can be told apart. The other labels are
cameras, links, kinds and words of this release: their number does not grow while the agent runs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from edge_agent.runtime.acks import COUNTED
from edge_agent.runtime.health import Health
from edge_agent.runtime.inbound import Outcome
from edge_agent.runtime.scribe import Scribe
from edge_agent.runtime.stages import BOUNDS_MS, NAMES, Histogram
from edge_agent.runtime.unsent import REASONS
from edge_agent.wire import messages as wire

PREFIX = "edge_agent_"
SHORT = 12  # of a digest's digits
MB = 2**20
WHOLE = "total"  # the stage that holds all others
BRIGHTEST = 255
Values = Mapping[str, float | None]


class Metrics:
    """A collector of prometheus-client. Any thread may ask; what is unknown is left out."""

    def __init__(self, health: Health, scribe: Scribe) -> None:
        self._health, self._scribe = health, scribe

    def text(self) -> bytes:
        """The text format, version 0.0.4."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Every figure, made anew."""
        facts = self._health.figures()
        yield from self._identity(facts)
        yield from self._state()
        yield from self._cameras(facts["cameras"])
        yield from self._pictures(facts["cameras"])
        yield from self._verdicts(facts)
        yield from self._durations()
        yield from self._records(facts)
        yield from self._inbound(facts["inbound"])
        yield from self._acks(facts["acks"])
        yield from self._board(facts)
        yield from self._local(facts)

    # ---- who and how

    def _identity(self, facts: Mapping[str, Any]) -> Iterator[Metric]:
        who, model, engine = self._scribe.identity, self._scribe.model, self._scribe.engine
        build = {"version": who.agent_version, "python": who.python, "board": who.board, "profile": who.profile}
        yield self._info("build", "The agent, and what it runs on.", build)
        yield self._info("config", "The configuration.", {"sha256": who.config_sha256[:SHORT]})
        told = {}
        if model and engine:
            told = {"name": model.name, "version": model.version or "", "sha256": model.sha256[:SHORT]}
            told["backend"] = engine.backend
        yield self._info("model", "The model, and the engine that runs it.", told)
        yield self._gauge("uptime_seconds", "Since the start of the session.", facts["uptime_s"])

    def _state(self) -> Iterator[Metric]:
        state, reasons = self._health.state()
        codes = Counter(reason.split(":")[0] for reason in reasons)
        states = {name: float(name == state) for name in get_args(wire.State)}
        yield self._gauge("state", "1 for the state that the agent is in.", states, "state")
        yield self._gauge("state_reasons", "Why, by code: how many cameras or links each holds for.", codes, "reason")

    # ---- cameras

    def _cameras(self, cameras: Mapping[str, wire.CameraHealth]) -> Iterator[Metric]:
        def of(key: str) -> Values:
            return {name: getattr(camera, key) for name, camera in cameras.items()}

        opened = {name: float(camera.condition == "open") for name, camera in cameras.items()}
        ages = {name: _seconds(camera.age_ms) for name, camera in cameras.items()}
        dropped = {name: {"overtaken": c.dropped - c.shed, "shed": c.shed} for name, c in cameras.items()}
        yield self._gauge("camera_up", "1 while the camera is open.", opened, "camera")
        yield self._gauge("camera_frame_age_seconds", "Age of the newest frame.", ages, "camera")
        yield self._gauge("camera_frame_rate_hertz", "Frames a second, over the last seconds.", of("fps"), "camera")
        yield self._counter("camera_frames", "Frames that came.", of("frames"), "camera")
        yield self._counter("camera_frames_judged", "Frames that the engine got.", of("taken"), "camera")
        yield self._pairs("camera_frames_dropped", "Frames that it did not get.", dropped, ("camera", "reason"))
        yield self._counter("camera_pictures_skipped", "Unreadable pictures of a replay.", of("skipped"), "camera")
        yield self._counter("camera_timeouts", "No frame in time.", of("timeouts"), "camera")
        yield self._counter("camera_losses", "How often the camera was lost.", of("losses"), "camera")
        yield self._counter("camera_outbreaks", "How often it became unhealthy.", of("unhealthy"), "camera")

    def _pictures(self, cameras: Mapping[str, wire.CameraHealth]) -> Iterator[Metric]:
        faults = {name: float(bool(camera.faults)) for name, camera in cameras.items()}
        yield self._gauge("camera_unhealthy", "1 while it does not see well.", faults, "camera")
        seen = {name: camera.picture for name, camera in cameras.items() if camera.picture is not None}
        for key, text in (("clipped", "at the upper end"), ("structure", "that is not plain")):
            shares = {name: getattr(picture, key) for name, picture in seen.items()}
            yield self._gauge(f"camera_{key}_ratio", f"Share of the newest picture {text}.", shares, "camera")
        bright = {name: picture.brightness / BRIGHTEST for name, picture in seen.items()}
        yield self._gauge("camera_brightness_ratio", "Mean of the newest picture.", bright, "camera")
        sharp = {name: picture.sharpness for name, picture in seen.items()}
        yield self._gauge("camera_sharpness", "Of the newest picture: compare it with before.", sharp, "camera")

    # ---- parts

    def _verdicts(self, facts: Mapping[str, Any]) -> Iterator[Metric]:
        words = get_args(wire.VerdictWord)
        said = {
            name: {word: camera.verdicts.get(word, 0) for word in words} for name, camera in facts["cameras"].items()
        }
        codes = {code: facts["verdicts"].get(f"unknown.{code}", 0) for code in get_args(wire.UnknownCode)}
        yield self._pairs("verdicts", "Verdicts, sent or not.", said, ("camera", "verdict"))
        yield self._counter("verdicts_unknown", "Those of them that are unknown, by their first code.", codes, "code")
        unsent = dict.fromkeys(REASONS, 0) | facts["unsent"]  # from the start: what appears later has no first increase
        yield self._counter("verdicts_unsent", "Those that were not delivered.", unsent, "reason")
        yield self._counter("frames_failed", "Frames that could not be judged.", facts["frames_failed"])

    def _durations(self) -> Iterator[Metric]:
        durations = self._health.pipeline.durations.of
        stages = HistogramMetricFamily(
            f"{PREFIX}stage_duration_seconds", "What each stage took, of all frames.", labels=["device", "stage"]
        )
        for name in NAMES:
            if name != WHOLE:
                stages.add_metric([self._device, name], *_buckets(durations[name]))
        whole = HistogramMetricFamily(
            f"{PREFIX}frame_duration_seconds", "From capture to the decision, of all frames.", labels=["device"]
        )
        whole.add_metric([self._device], *_buckets(durations[WHOLE]))
        yield from (stages, whole)

    # ---- the broker

    def _records(self, facts: Mapping[str, Any]) -> Iterator[Metric]:
        queues: Mapping[str, wire.QueueHealth] = facts["queues"]
        counts, links = facts["records"], self._health.links
        dropped = {kind: counts.get(f"dropped_{kind}s", 0) for kind in queues}
        for name, text, values in (
            ("records_waiting", "Messages", {kind: queue.waiting for kind, queue in queues.items()}),
            ("records_waiting_bytes", "Bytes", {kind: queue.bytes for kind, queue in queues.items()}),
        ):
            yield self._gauge(name, f"{text} that the broker has not confirmed.", values, "kind")
        oldest = {kind: queue.oldest_s for kind, queue in queues.items()}
        yield self._gauge("records_oldest_age_seconds", "Age of the oldest of them.", oldest, "kind")
        yield self._counter("records_dropped", "Let go because of the limits.", dropped, "kind")
        for outcome in ("delivered", "refused", "unheard", "set_aside"):
            text = f"Messages that were {outcome.replace('_', ' ')}."
            yield self._counter(f"records_{outcome}", text, counts[outcome])
        connected = {name: float(link.connected) for name, link in links.items()}
        yield self._gauge("mqtt_connected", "1 while the connection stands.", connected, "link")
        yield self._counter("mqtt_connections", "Connections that were made.", facts["links"], "link")

    def _inbound(self, counts: Mapping[str, int]) -> Iterator[Metric]:
        """Keys are `trigger.accepted`, `unknown_topic`, `called.CAMERA` and so on."""
        health, outcomes = self._health, get_args(Outcome)
        kinds = ["trigger"] * bool(health.triggered) + ["ack"] * bool(health.desk.acks)
        heard: dict[str, dict[str, float | None]] = {kind: dict.fromkeys(outcomes, 0) for kind in kinds}
        for key, count in counts.items():
            kind, _, outcome = key.rpartition(".")
            if outcome in outcomes:
                heard.setdefault(kind or "other", {})[outcome] = count
        text = "What became of messages that came in."
        yield self._pairs("inbound_messages", text, heard, ("kind", "outcome"))
        for word, said in (("waited", "nobody knows when they came"), ("time_unused", "their own time is not used")):
            text = f"Triggers that were accepted, but {said}."
            yield self._counter(f"triggers_{word}", text, counts.get(f"trigger.{word}", 0))
        calls = {camera: summons.calls for camera, summons in health.summons.items()}
        lost = {camera: summons.uncalled for camera, summons in health.summons.items()}
        yield self._counter("parts_called", "Parts called for from outside.", calls, "camera")
        yield self._counter("triggers_lost", "Triggers that are not even parts.", lost, "camera")
        yield self._counter("inbound_failed", "Messages that met an error of ours.", counts.get("unheard", 0))
        yield self._counter("audit_lines_lost", "Lines that the audit trail lacks.", counts.get("audit_lost", 0))

    def _acks(self, counts: Mapping[str, int]) -> Iterator[Metric]:
        known = {key: counts[key] for key in COUNTED if key in counts}  # and not in the arms' own words
        yield self._counter("acks", "What became of verdicts and their acks.", known, "outcome")
        yield self._gauge("acks_waiting", "Verdicts whose ack is not due yet.", counts.get("waiting"))

    # ---- the device

    def _board(self, facts: Mapping[str, Any]) -> Iterator[Metric]:
        throttled, clock = facts["throttled"], facts["clock"]
        yield self._gauge("temperature_celsius", "What thermal limits go by.", facts["temperature_c"])
        yield self._gauge("zone_temperature_celsius", "Each thermal zone.", facts["zones_c"], "zone")
        now = None if throttled is None else float(any(not flag.endswith("_since_boot") for flag in throttled))
        yield self._gauge("throttled", "1 while the board slows itself down.", now)
        flags = dict.fromkeys(throttled or (), 1.0)
        yield self._gauge("throttled_reasons", "1 for each reason, now and since boot.", flags, "reason")
        for key, name, text in (
            ("memory_available_mb", "memory_available", "Memory that programs may still have."),
            ("rss_mb", "resident_memory", "Memory that the agent has."),
            ("disk_free_mb", "disk_free", "Room on the disk of the records."),
        ):
            value = facts[key]
            yield self._gauge(f"{name}_bytes", text, None if value is None else value * MB)
        mhz = facts["cpu_mhz"]
        yield self._gauge("cpu_frequency_hertz", "Of the fastest core.", None if mhz is None else mhz * 1e6)
        yield self._gauge("clock_synced", "1 where a time source keeps the clock.", _flag(clock.synced))
        yield self._gauge("clock_error_seconds", "Its largest error.", _seconds(clock.max_error_ms))

    def _local(self, facts: Mapping[str, Any]) -> Iterator[Metric]:
        yield self._counter("recorder_entries", "What became of entries of the recorder.", facts["recorder"], "outcome")
        yield self._counter("evidence_pictures", "What became of pictures of rejects.", facts["evidence"], "outcome")
        shed = dict.fromkeys(facts["shedding"], 1.0)
        yield self._gauge("shedding", "1 for what is left off, so that the device cools down.", shed, "what")

    # ---- families

    @property
    def _device(self) -> str:
        return self._scribe.identity.device

    def _info(self, name: str, text: str, labels: dict[str, str]) -> Metric:
        return InfoMetricFamily(PREFIX + name, text, {"device": self._device, **labels} if labels else None)

    def _gauge(self, name: str, text: str, value: Values | float | None, label: str = "") -> Metric:
        return self._family("gauge", name, text, value, label)

    def _counter(self, name: str, text: str, value: Values | float | None, label: str = "") -> Metric:
        return self._family("counter", name, text, value, label)

    def _family(
        self, kind: Literal["gauge", "counter"], name: str, text: str, value: Values | float | None, label: str
    ) -> Metric:
        """One value, or one for each value of the label."""
        make = GaugeMetricFamily if kind == "gauge" else CounterMetricFamily
        labels = ["device", label] if isinstance(value, Mapping) else ["device"]
        family = make(PREFIX + name, text, labels=labels)
        for key, one in value.items() if isinstance(value, Mapping) else [(None, value)]:
            if one is not None:
                family.add_metric([self._device] if key is None else [self._device, key], one)
        return family

    def _pairs(self, name: str, text: str, values: Mapping[str, Values], labels: tuple[str, str]) -> Metric:
        """A counter with two labels."""
        family = CounterMetricFamily(PREFIX + name, text, labels=["device", *labels])
        for first, row in values.items():
            for second, value in row.items():
                family.add_metric([self._device, first, second], value or 0)
        return family


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """With upper bounds in seconds, and the sum of all."""
    bounds = [*(str(bound / 1000) for bound in BOUNDS_MS), "+Inf"]
    return [(bound, float(n)) for bound, n in zip(bounds, histogram.up_to(), strict=True)], histogram.sum_ms / 1000


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


def _flag(value: bool | None) -> float | None:  # noqa: FBT001 - a value, and no switch
    return None if value is None else float(value)
