"""What the arm reads of the agent's messages: the fields it needs, with types and bounds. Others are let through.

Agents of later releases send more keys; what a reader must not misunderstand gets a new number in `schema`.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from edge_agent.wire.messages import MOST_CAMERAS, Action, Name, PartId, VerdictWord
from edge_agent.wire.messages import State as StateWord

Seq = Annotated[int, Field(ge=1, lt=1 << 53)]  # what every reader of JSON can hold exactly
Ms = Annotated[float, Field(ge=0, le=1e13, allow_inf_nan=False)]  # of a clock that began at the start of a machine
LastSeq = Annotated[int, Field(ge=0, lt=1 << 53)]


class Message(BaseModel):
    """What all have: of one session. Text is no number, and infinity is none either."""

    model_config = ConfigDict(frozen=True, strict=True)

    session: Annotated[Name, Field(min_length=1)]


class Verdict(Message):
    """One part, one verdict."""

    schema_: Literal["edge-agent/verdict/1"] = Field(alias="schema")
    seq: Seq
    at: AwareDatetime
    camera: Name
    part_id: PartId
    trigger_id: Name | None = None
    verdict: VerdictWord
    valid_until: AwareDatetime
    sent_mono_ms: Ms

    @property
    def valid_ms(self) -> float:
        """How long it was valid when it was made: a difference of one clock, the sender's."""
        return (self.valid_until - self.at).total_seconds() * 1000


class Heartbeat(Message):
    """The agent could judge a part."""

    schema_: Literal["edge-agent/heartbeat/1"] = Field(alias="schema")
    state: StateWord
    last_verdict_seq: Annotated[dict[Name, LastSeq], Field(max_length=MOST_CAMERAS)]
    sent_mono_ms: Ms


class State(Message):
    """What the agent can do."""

    schema_: Literal["edge-agent/state/1"] = Field(alias="schema")
    state: StateWord


class Birth(Message):
    """What the agent's configuration recommends to the arm."""

    schema_: Literal["edge-agent/birth/1"] = Field(alias="schema")
    on_unknown: Action
    on_agent_loss: Action


MODELS: dict[str, type[Message]] = {"verdict": Verdict, "heartbeat": Heartbeat, "state": State, "birth": Birth}
"""By the name in the topic."""


def parse(name: str, payload: bytes) -> Message:
    """The message of that name.

    Raises:
        ValueError: it is none, or not one that this arm understands.
    """
    return MODELS[name].model_validate_json(payload)
