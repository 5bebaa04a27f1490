"""What the agent reads of other programs' messages: the fields it needs, with types and bounds. Others are let through.

They may come from a controller of few words: what every message of the agent has (`schema`, `session`, …) may be missing.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from edge_agent.wire.messages import Action, Name

Word = Annotated[Name, Field(min_length=1)]
TriggerId = Annotated[str, Field(pattern=r"^[ !#-\[\]-~]{1,64}$")]
"""Printable ASCII without quotation marks and backslashes: it comes back in the verdict, which has to stay under 1 KiB."""


class Inbound(BaseModel):
    """Text is no number, and infinity is none either."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class SenderClock(Inbound):
    """What the sender knows of its own wall clock."""

    synced: bool
    max_error_ms: float | None = Field(None, ge=0, description="The bound on its error.")


class Trigger(Inbound):
    """A part comes: published by whoever senses it, once; not retained, with an expiry."""

    schema_: Literal["edge-agent/trigger/1"] = Field("edge-agent/trigger/1", alias="schema")
    trigger_id: TriggerId = Field(description="Comes back in the verdict. One that was used lately is a duplicate.")
    position: float | None = Field(None, description="Comes back in the verdict: an encoder's count, for example.")
    time: AwareDatetime | None = Field(
        None, description="When the part was sensed. Counts where `clock` says how good the sender's clock is."
    )
    clock: SenderClock | None = Field(None, description="The sender's wall clock.")


class Ack(Inbound):
    """What an arm did with a verdict. The verdict is named by `camera`, and `session` with `seq`, or `trigger_id`."""

    schema_: Literal["edge-agent/ack/1"] = Field("edge-agent/ack/1", alias="schema")
    camera: Word
    session: Word | None = None
    seq: int | None = Field(None, ge=1)
    trigger_id: Word | None = None
    action: Action | Literal["none"]
    why: Name | None = None
    at_mono_ms: float | None = None

    @model_validator(mode="after")
    def _names_a_verdict(self) -> "Ack":
        if self.trigger_id is None and (self.seq is None or self.session is None):
            raise ValueError("names no verdict: session and seq, or trigger_id")
        return self
