"""Every message that leaves the process, as pydantic models: the payloads are these and nothing else.

No model has a field that could carry a picture, and strings and lists are bounded.
"""

from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

VERDICT_BYTES = 1023
SHORT = 8  # bytes of a name in a verdict that would be too long otherwise
MOST_CAMERAS = 100

Text = Annotated[str, Field(max_length=200)]
Name = Annotated[str, Field(max_length=64)]
PartId = Annotated[str, Field(max_length=96)]  # a camera's id, a dash and a number
Topic = Annotated[str, Field(max_length=1024)]
Fact = Text | bool | int | float | None
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
State = Literal["starting", "ready", "running", "degraded", "error", "offline"]
VerdictWord = Literal["pass", "reject", "unknown"]
Action = Literal["reject", "pass", "stop"]
UnknownCode = Literal[
    "no_frame",
    "stale_frame",
    "bad_frame",
    "deadline_missed",
    "overload",
    "camera_unhealthy",
    "model_not_ready",
    "low_confidence",
    "internal_error",
    "stopping",
]


def cut(text: str, most: int = 64) -> str:
    """At most so many bytes of UTF-8, and no control characters: a model file may say anything of itself."""
    if len(text) <= most and text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " for c in text).encode()[:most].decode(errors="ignore")


def utc_text(when: datetime) -> str:
    """`2026-11-21T09:14:03.446Z`."""
    utc = when if when.tzinfo is timezone.utc else when.astimezone(timezone.utc)
    return utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


Utc = Annotated[
    datetime, PlainSerializer(utc_text, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]
Ms = Annotated[float, PlainSerializer(lambda value: round(value, 3), return_type=float)]
Score = Annotated[float, PlainSerializer(lambda value: round(value, 4), return_type=float)]
Share = Annotated[float, PlainSerializer(lambda value: float(f"{value:.4g}"), return_type=float)]
Px = Annotated[float, PlainSerializer(lambda value: round(value, 1), return_type=float)]


class Part(BaseModel):
    """A piece of a message: frozen, and nothing unknown in it."""

    # messages gain keys in later releases: the published schemas must let them through
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        json_schema_extra=lambda schema: schema.pop("additionalProperties", None),
    )


class Envelope(Part):
    """The fields that every payload has."""

    schema_: str = Field(alias="schema", description="Name and major version of this message.")
    device: Name = Field(description="The device id of the configuration.")
    session: Name = Field(description="New at every start of the process.")
    seq: int = Field(ge=1, description="From 1, per session and topic.")
    at: Utc = Field(description="When the message was made, UTC.")

    def payload(self) -> bytes:
        """The message as it goes over the wire: one JSON object."""
        return self.model_dump_json(by_alias=True).encode()


class Reason(Part):
    """Why a verdict is not `pass`: what a rule found, or a code for why nothing could be found."""

    code: UnknownCode | None = Field(None, description="For `unknown`: why.")
    rule: Name | None = Field(None, description="The rule that objects.")
    label: Name | None = Field(None, description="What it found, or missed.")
    score: Score | None = Field(None, description="The best score of that label on the part, 0..1.")

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialise(self).items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The fields, which the serialiser would hide."""
        shown: Any = {key: value for key, value in core_schema.items() if key != "serialization"}
        return handler(shown)


class Clock(Part):
    """What the kernel says about the wall clock; null where it says nothing."""

    synced: bool | None = Field(description="Whether a time source disciplines the clock.")
    max_error_ms: float | None = Field(description="The kernel's bound on the error.")


class Latency(Part):
    """Where the time went, in milliseconds, from capture or trigger on; null where a stage did not run."""

    queue: Ms | None = Field(None, description="Until preprocessing: waiting, decoding, a look at the camera's health.")
    preprocess: Ms | None = Field(None, description="Resize, pad and convert into the engine's memory.")
    infer: Ms | None = Field(None, description="The engine alone.")
    decide: Ms | None = Field(None, description="Decoding, tracking and rules.")
    total: Ms = Field(description="From capture, or from the trigger, to the decision.")


class Model(Part):
    """Which model judged."""

    name: Name
    version: Name | None = None
    sha256: Digest


class Verdict(Envelope):
    """One part, one verdict. Not retained, never queued, never sent late."""

    schema_: Literal["edge-agent/verdict/1"] = Field("edge-agent/verdict/1", alias="schema")
    camera: Name
    trigger_id: Name | None = Field(None, description="The id that came with an external trigger.")
    position: float | None = Field(None, description="The position that came with an external trigger.")
    part_id: PartId = Field(description="Unique within the session.")
    verdict: VerdictWord
    reasons: tuple[Reason, ...] = Field(max_length=4)
    captured_at: Utc = Field(
        description="When the deciding frame was captured; without one, when the part was triggered."
    )
    valid_until: Utc = Field(description="After this nobody may act on it.")
    fire_at: Utc | None = Field(None, description="When to act, for belts of known speed.")
    sent_mono_ms: Ms = Field(description="The sender's monotonic clock at sending.")
    clock: Clock
    latency_ms: Latency
    model: Model | None = Field(description="Null until the engine is loaded.")
    config_sha256: Digest

    def payload(self) -> bytes:
        """As of every message, but under 1 KiB: where there is no room the last reasons stay away, then long names are cut.

        The result has all of it.
        """
        payload = super().payload()
        if len(payload) <= VERDICT_BYTES:
            return payload
        if len(self.reasons) > 1:
            return self.model_copy(update={"reasons": self.reasons[:-1]}).payload()
        return Envelope.payload(self._with_short_names())

    def _with_short_names(self) -> "Verdict":
        reasons = tuple(
            reason.model_copy(
                update={key: cut(text, SHORT) for key in ("rule", "label") if (text := getattr(reason, key))}
            )
            for reason in self.reasons
        )
        model = self.model and self.model.model_copy(
            update={key: cut(text, SHORT) for key in ("name", "version") if (text := getattr(self.model, key))}
        )
        return self.model_copy(update={"reasons": reasons, "model": model})


class Found(Part):
    """One detection, in pixels of the camera's frame."""

    label: Name
    class_id: int
    score: Score
    box: tuple[Px, Px, Px, Px] = Field(description="x1, y1, x2, y2.")


class FrameInfo(Part):
    """Which picture was judged."""

    seq: int = Field(description="The camera's own number: gaps are frames lost before the agent.")
    width: int
    height: int
    source: Text = Field("", description="The file, for a replay.")


class Late(Part):
    """A decision that came after the deadline. The verdict that was sent is `unknown`."""

    verdict: VerdictWord
    reasons: tuple[Reason, ...] = Field(max_length=4)


class Result(Envelope):
    """The full record of one part."""

    schema_: Literal["edge-agent/result/1"] = Field("edge-agent/result/1", alias="schema")
    camera: Name
    verdict_seq: int | None = Field(description="`seq` of the part's verdict.")
    sent: bool = Field(description="Whether the verdict was handed to a live connection in time.")
    trigger_id: Name | None = None
    position: float | None = None
    part_id: PartId
    verdict: VerdictWord
    reasons: tuple[Reason, ...] = Field(max_length=4)
    late: Late | None = Field(None, description="What the engine would have said, after the deadline.")
    captured_at: Utc
    clock: Clock
    latency_ms: Latency
    frame: FrameInfo | None = Field(description="Null where no frame was judged.")
    detections: tuple[Found, ...] = Field(max_length=100, description="In the deciding frame, best first.")
    detections_total: int = Field(description="How many there were, where the list is cut.")
    frames: int = Field(description="How many frames of the part were seen.")
    model: Model | None = Field(description="Null until the engine is loaded.")
    config_sha256: Digest
    profile: Name
    agent_version: Name


class StateMessage(Envelope):
    """What the agent can do now. Retained; the will says `offline`."""

    schema_: Literal["edge-agent/state/1"] = Field("edge-agent/state/1", alias="schema")
    state: State
    reasons: tuple[Text, ...] = Field(max_length=16)


class Heartbeat(Envelope):
    """Four times a second while a part could be judged."""

    schema_: Literal["edge-agent/heartbeat/1"] = Field("edge-agent/heartbeat/1", alias="schema")
    state: State
    last_verdict_seq: dict[Name, int] = Field(description="Per camera: the last `seq` used.")
    sent_mono_ms: Ms


class Engine(Part):
    """What runs the model, and why it was chosen."""

    backend: Name
    runtime: Text
    decoder: Name
    reason: Text


class CameraInfo(Part):
    """One camera of this device."""

    id: Name
    kind: Name
    trigger: Name


class Birth(Envelope):
    """Who this is. Retained; sent on every connect and every 10 s."""

    schema_: Literal["edge-agent/birth/1"] = Field("edge-agent/birth/1", alias="schema")
    agent_version: Name
    python: Name
    board: Name
    profile: Name
    engine: Engine | None = Field(description="Null until the engine is loaded.")
    model: Model | None
    config_sha256: Digest
    cameras: tuple[CameraInfo, ...] = Field(max_length=MOST_CAMERAS)
    on_unknown: Action
    on_agent_loss: Action
    deadline_ms: float
    valid_ms: float
    schemas: tuple[Name, ...] = Field(max_length=16)
    topics: tuple[Topic, ...] = Field(max_length=16 + 4 * MOST_CAMERAS)
    listens: tuple[Topic, ...] = Field((), max_length=1 + MOST_CAMERAS, description="Topics that it subscribes to.")


class Event(Envelope):
    """Something happened that an operator may want to know."""

    schema_: Literal["edge-agent/event/1"] = Field("edge-agent/event/1", alias="schema")
    code: Name
    severity: Literal["info", "warning", "alarm"]
    message: Text
    data: dict[Name, Fact] = Field(default_factory=dict, max_length=16, description="The facts.")


class PictureHealth(Part):
    """What a camera's newest picture looks like; null where it cannot be told."""

    brightness: Share = Field(description="Mean, 0 to 255.")
    clipped: Share = Field(description="Share of the picture at the upper end, 0 to 1.")
    structure: Share = Field(description="Share of the picture that is more than a plain surface, 0 to 1.")
    sharpness: Share | None = Field(description="To be compared with the baseline's; null: the picture is too plain.")
    in_place: Share | None = Field(description="Share of the baseline's edges that are where they were.")


class CameraHealth(Part):
    """One camera since the start; `fps` over the last seconds."""

    condition: Name
    fps: float | None
    frames: int
    taken: int
    dropped: int
    timeouts: int
    losses: int
    skipped: int = Field(0, description="Pictures of a replay that could not be read.")
    shed: int = Field(0, description="Frames that were not judged, so that the device cools down.")
    verdicts: dict[Name, int] = Field(default_factory=dict, description="Of its parts, by word.")
    age_ms: float | None = Field(description="Age of the newest frame.")
    faults: Annotated[tuple[Name, ...], Field(max_length=8)] = Field((), description="Why it is unhealthy now.")
    unhealthy: int = Field(0, description="How often it became unhealthy.")
    picture: PictureHealth | None = Field(None, description="Null where the camera's health is not watched.")


class LatencyHealth(Part):
    """Over the last parts: p50, p99 and the worst, in milliseconds."""

    p50: Ms
    p99: Ms
    max: Ms


class QueueHealth(Part):
    """What waits for the broker, of one kind."""

    waiting: int
    bytes: int
    oldest_s: float | None = Field(description="Age of the oldest; null: there is none, or it was not read yet.")


class Health(Envelope):
    """Rates, latencies, drops, temperatures, queues. Retained, expires after 60 s."""

    schema_: Literal["edge-agent/health/1"] = Field("edge-agent/health/1", alias="schema")
    uptime_s: float
    cameras: dict[Name, CameraHealth]
    verdicts: dict[Name, int] = Field(description="By word, and unknown ones by code.")
    frames_failed: int = Field(0, description="Frames that could not be judged because of an error.")
    unsent: dict[Name, int] = Field(description="Verdicts that were not sent, by reason.")
    latency_ms: dict[Name, LatencyHealth] = Field(description="By stage; `ack`: from sending a verdict to its ack.")
    acks: dict[Name, int] = Field(default_factory=dict, description="What arms said, where they are expected to.")
    inbound: dict[Name, int] = Field(default_factory=dict, description="What became of messages that came in.")
    records: dict[Name, int] = Field(description="Waiting, delivered, dropped, refused.")
    queues: dict[Name, QueueHealth] = Field(default_factory=dict, description="What waits, by kind.")
    links: dict[Name, int] = Field(description="Connections made, by link.")
    recorder: dict[Name, int] = Field(default_factory=dict, description="What became of what the recorder was given.")
    evidence: dict[Name, int] = Field(default_factory=dict, description="What became of pictures of rejects.")
    shedding: Annotated[tuple[Name, ...], Field(max_length=8)] = Field((), description="Left off to cool down.")
    temperature_c: float | None = Field(description="What thermal limits go by.")
    zones_c: dict[Name, float | None] = Field(default_factory=dict, description="Each thermal zone.")
    throttled: Annotated[tuple[Name, ...], Field(max_length=16)] | None
    memory_available_mb: float | None
    rss_mb: float | None
    disk_free_mb: float | None = Field(None, description="On the disk of the records.")
    cpu_mhz: float | None = Field(None, description="The clock of the fastest core.")
    clock: Clock


MESSAGES: dict[str, type[Envelope]] = {
    "state": StateMessage,
    "birth": Birth,
    "heartbeat": Heartbeat,
    "verdict": Verdict,
    "result": Result,
    "event": Event,
    "health": Health,
}
"""What the agent publishes."""
