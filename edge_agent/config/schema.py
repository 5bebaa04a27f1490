"""What may stand in the file. Kinds of cameras, rules, decoders and publishers bring their own tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import (
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent import plugins
from edge_agent.config.health import HealthConfig
from edge_agent.config.local import EvidenceConfig, MetricsConfig, RecorderConfig
from edge_agent.config.table import Table
from edge_agent.config.triggers import ExternalTrigger, FireConfig, Fraction, MqttTrigger, Trigger
from edge_agent.wire.messages import MOST_CAMERAS
from edge_agent.wire.topics import DeviceConfig, Id

Action = Literal["reject", "pass", "stop"]
Where = tuple[str | int, ...]

ID_TAKEN = "is the id of a camera above; each needs its own"
NEEDS_MQTT = "needs an [mqtt] table: what comes in comes by MQTT"
TOO_LATE = "with the time to the next picture must be below deadline_ms ({:g}), which counts from the trigger too"
TOO_EARLY = "lies before the oldest picture of the ring, which reaches {:.0f} ms back: make ring larger"
TOO_NARROW = "is shorter than the {:.0f} ms between two pictures of this camera: most parts would have no frame"
TOO_FAR = "must be below valid_ms ({:g}): the verdict would be stale when the part is there"
NO_PACE = "with a trigger from outside a replay needs a rate: 0 shows everything at once"
ON_THE_WAY_MS = 50  # for a verdict that leaves at its deadline, and for the broker's confirmation
ONE_PUBLISHER = "write either an [mqtt] or a [stdout] table: it says where verdicts go"


class TensorrtConfig(Table):
    """How TensorRT runs ONNX models: by engines that are built from them on this machine."""

    precision: Literal["auto", "fp32", "fp16", "int8"] = Field(
        "auto", description="Of the engine's numbers; `auto`: that of a quantised model, else what the profile prefers."
    )
    workspace_mb: int | None = Field(
        None, ge=16, le=65_536, description="Memory that one layer may take; not set: what the profile says, else 512."
    )
    build: Literal["beside", "before", "never"] = Field(
        "beside",
        description="When a missing engine is built: while another one serves, before the line starts, or not.",
    )
    allow_host_code: bool = Field(
        False, description="Whether a version-compatible engine may run the code that it brings along."
    )
    folder: Path | None = Field(None, description="Where built engines are kept; not set: in the state folder.")


class HardwareConfig(Table):
    """What to run on. The profile decides what is not given here."""

    profile: str = Field("auto", description="`auto`, or the name of a hardware profile.")
    backend: str = Field("auto", description="`auto`, or the engine to use.")
    threads: int | None = Field(None, ge=1, le=256, description="Threads of the engine.")
    overlap: Literal["auto", "off", "throughput"] | None = Field(
        None, description="Whether the next picture is prepared while the engine runs; not set: what the profile says."
    )
    tensorrt: TensorrtConfig = TensorrtConfig()

    @field_validator("backend")
    @classmethod
    def _known_backend(cls, backend: str) -> str:
        known = ("auto", *plugins.kinds("backends"))
        if backend not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return backend


class CameraConfig(Table):
    """What every camera has, whatever its kind."""

    id: Id = Field(description="Unique within the agent; stands in topics and part ids.")
    rotation: Literal[0, 90, 180, 270] = Field(0, description="Turns the picture clockwise, in degrees.")
    roi: tuple[tuple[Fraction, Fraction], tuple[Fraction, Fraction]] | None = Field(
        None, description="Top left and bottom right corner of what is looked at, in fractions of the turned picture."
    )
    trigger: Annotated[Trigger, Field(discriminator="kind", description="What makes a part.")]
    fire: FireConfig | None = Field(None, description="When a part is at the arm, where the belt has one speed.")
    health: HealthConfig | None = Field(None, description="When the camera counts as unhealthy.")
    if TYPE_CHECKING:
        kind: str
        timeout_s: float
        rules: tuple[Any, ...]

    @field_validator("roi")
    @classmethod
    def _roi_holds_something(cls, roi: Any) -> Any:
        if roi is None:
            return roi
        (left, top), (right, bottom) = roi
        if left == right or top == bottom:
            raise ValueError("is empty: its corners share an x or a y")
        if left > right or top > bottom:
            raise ValueError("has its corners swapped: the top left one comes first, [[x0, y0], [x1, y1]]")
        return roi


class VerdictConfig(Table):
    """When a verdict is due, how long it is valid, and what the actuator is told to do without one."""

    deadline_ms: float = Field(
        150, gt=0, le=60_000, description="From capture, or from the trigger, to publish; later it is unknown."
    )
    valid_ms: float = Field(
        600, gt=0, le=600_000, description="From capture, or from the trigger: after this nobody may act on it."
    )
    on_unknown: Action = Field("reject", description="Recommended to the actuator for `unknown`.")
    on_agent_loss: Action = Field("stop", description="Recommended to the actuator when the agent is lost.")
    unknown_in_row: int = Field(10, ge=0, le=10_000, description="So many `unknown` in a row are an alarm; 0: never.")
    reject_in_row: int = Field(20, ge=0, le=10_000, description="So many `reject` in a row are an alarm; 0: never.")

    @model_validator(mode="after")
    def _valid_longer_than_deadline(self) -> "VerdictConfig":
        if self.valid_ms < self.deadline_ms + ON_THE_WAY_MS:
            raise ValueError(
                f"valid_ms must be at least {ON_THE_WAY_MS} above deadline_ms: a verdict has to reach the broker"
            )
        return self


class RecordsConfig(Table):
    """Results and events that wait for the broker, on disk."""

    folder: Path | None = Field(None, description="Where they are kept; not set: the state folder of this device.")
    max_rows: int = Field(100_000, ge=100, le=1_000_000, description="At most so many; then the oldest results go.")
    max_mb: float = Field(200, gt=0, le=10_000, description="At most so many megabytes of them.")
    min_free_mb: float = Field(100, ge=0, le=100_000, description="So much of the disk is left free.")
    drain_per_s: float = Field(200, gt=0, le=100_000, description="How fast a backlog is sent.")
    results: Literal["all", "non_pass"] | Annotated[float, Field(ge=0, le=1)] = Field(
        "all", description="Which results are recorded: all, those that are not `pass`, or a fraction of them all."
    )


class AckConfig(Table):
    """What is expected of the arms: with this table the agent listens to `ack`."""

    within_ms: float = Field(1000, gt=0, le=600_000, description="From sending a verdict; later its ack is missing.")


class LogConfig(Table):
    """Logs go to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    format: Literal["auto", "console", "json", "journal"] = Field(
        "auto", description="`auto`: the journal under systemd, readable on a terminal, JSON otherwise."
    )


def taken_ids(ids: Sequence[Any]) -> list[int]:
    """The indices of the ids that stand further up already."""
    return [index for index, camera_id in enumerate(ids) if isinstance(camera_id, str) and camera_id in ids[:index]]


def _or_refuse(config: "AgentConfig", problems: Sequence[tuple[Where, str]]) -> "AgentConfig":
    """The configuration, unless it has problems: where, and what. Raises `ValidationError`."""
    errors = [
        InitErrorDetails(type=PydanticCustomError("does_not_fit", message), loc=where, input=None)
        for where, message in problems
    ]
    if errors:
        raise ValidationError.from_exception_data("configuration", errors)
    return config


def _union(tables: dict[str, Any]) -> Any:
    """One of several tables, told apart by `kind`."""
    members = tuple(tables.values())
    return Annotated[Union[members], Field(discriminator="kind")] if len(members) > 1 else members[0]  # noqa: UP007 - built at run time


_Rule: Any = _union(plugins.configs("rules"))
_Decoder = _union(plugins.configs("decoders"))


def _camera_table(kind: str, driver: Any) -> Any:
    """The table of one kind of camera: what every camera has, and what its driver asks for."""
    rules: Any = (tuple[_Rule, ...], Field((), description="What makes a part good or bad."))
    return create_model(
        f"{kind.capitalize()}Camera", __base__=(driver, CameraConfig), __doc__=driver.__doc__, rules=rules
    )


_Camera = _union({kind: _camera_table(kind, driver) for kind, driver in plugins.configs("cameras").items()})
_Publishers = plugins.configs("publishers")


class ModelConfig(Table):
    """Which model, and its thresholds."""

    path: Path = Field(description="The model file; relative to this configuration file.")
    labels: Path | None = Field(None, description="Names of the classes: a text file or a .pbtxt label map.")
    conf: float = Field(0.25, ge=0, le=1, description="Detections with a score above are kept.")
    iou: float = Field(0.7, ge=0, le=1, description="Of two of a class that overlap more, one is kept.")
    if TYPE_CHECKING:
        decoder: Any
    else:
        decoder: _Decoder | None = Field(None, description="How to read the outputs, where the file does not tell.")


class AgentConfig(Table):
    """The whole file."""

    device: DeviceConfig
    hardware: HardwareConfig = HardwareConfig()
    model: ModelConfig
    verdict: VerdictConfig = VerdictConfig()
    records: RecordsConfig = RecordsConfig()
    ack: AckConfig | None = Field(None, description="Arms acknowledge what they did.")
    log: LogConfig = LogConfig()
    recorder: RecorderConfig = RecorderConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    metrics: MetricsConfig = MetricsConfig()
    if TYPE_CHECKING:
        cameras: tuple[CameraConfig, ...]
        mqtt: Any
        stdout: Any
    else:
        cameras: Annotated[
            tuple[_Camera, ...], Field(min_length=1, max_length=MOST_CAMERAS, description="One or more.")
        ]
        mqtt: _Publishers["mqtt"] | None = Field(None, description="The broker.")
        stdout: _Publishers["stdout"] | None = Field(None, description="Messages to standard output, in its place.")

    @field_validator("cameras")
    @classmethod
    def _unique_ids(cls, cameras: tuple[CameraConfig, ...]) -> tuple[CameraConfig, ...]:
        taken = [
            InitErrorDetails(type=PydanticCustomError("id_taken", ID_TAKEN), loc=(index, "id"), input=cameras[index].id)
            for index in taken_ids([camera.id for camera in cameras])
        ]
        if taken:
            raise ValidationError.from_exception_data("cameras", taken)
        return cameras

    @model_validator(mode="after")
    def _one_publisher(self) -> "AgentConfig":
        if (self.mqtt is None) == (self.stdout is None):
            raise ValueError(ONE_PUBLISHER)
        return self

    @model_validator(mode="after")
    def _can_be_heard(self) -> "AgentConfig":
        """What comes in comes by MQTT."""
        if self.mqtt is not None:
            return self
        listening: list[Where] = [("ack",)] if self.ack else []
        for index, camera in enumerate(self.cameras):
            if isinstance(camera.trigger, MqttTrigger):
                listening.append(("cameras", index, "trigger", "kind"))
        return _or_refuse(self, [(where, NEEDS_MQTT) for where in listening])

    @model_validator(mode="after")
    def _times_fit(self) -> "AgentConfig":
        """What a part waits for must come before its verdict is due, and be over before that is stale."""
        problems: list[tuple[Where, str]] = []
        for index, camera in enumerate(self.cameras):
            trigger, fire, due = camera.trigger, camera.fire, self.verdict
            if isinstance(trigger, ExternalTrigger):
                where, fps = ("cameras", index, "trigger"), getattr(camera, "fps", None)
                if fps == 0:
                    problems.append((("cameras", index, "fps"), NO_PACE))
                elif fps and 1000 / fps > trigger.window_ms:
                    problems.append(((*where, "window_ms"), TOO_NARROW.format(1000 / fps)))
                if fps and -trigger.offset_ms > trigger.ring * 1000 / fps:
                    problems.append(((*where, "offset_ms"), TOO_EARLY.format(trigger.ring * 1000 / fps)))
                if trigger.offset_ms + (1000 / fps if fps else 0) >= due.deadline_ms:
                    problems.append(((*where, "offset_ms"), TOO_LATE.format(due.deadline_ms)))
            if fire and fire.after_ms >= due.valid_ms:
                problems.append((("cameras", index, "fire", "after_ms"), TOO_FAR.format(due.valid_ms)))
        return _or_refuse(self, problems)

    @property
    def publisher(self) -> tuple[str, Any]:
        """The kind of the publisher, and its table."""
        return ("mqtt", self.mqtt) if self.mqtt is not None else ("stdout", self.stdout)


__all__ = ["AgentConfig", "CameraConfig"]
