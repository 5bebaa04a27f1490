"""What the reference reject arm says to the agent. What is read of any arm is in `inbound`."""

from typing import Literal

from pydantic import Field

from edge_agent.wire.messages import Action, Envelope, Ms, Name


class Ack(Envelope):
    """What an arm did with a verdict: published by the arm, one for each verdict; not retained."""

    schema_: Literal["edge-agent/ack/1"] = Field("edge-agent/ack/1", alias="schema")
    session: Name = Field(description="That of the verdict.")
    seq: int = Field(ge=1, description="That of the verdict: an ack has no number of its own.")
    camera: Name
    trigger_id: Name | None = Field(None, description="That of the verdict.")
    action: Action | Literal["none"] = Field(description="What the arm did.")
    why: Name = Field(description="`verdict`, `on_unknown`, or why it did nothing.")
    at_mono_ms: Ms | None = Field(None, description="When, by the arm's monotonic clock.")
