"""Rejects a part on which something is missing."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_agent.core.parts import Decision, Reason, combine
from edge_agent.core.ports import Observation, Rule

Label = Annotated[str, Field(min_length=1, max_length=64)]


class Config(BaseModel):
    """A part is rejected unless each of these labels was seen on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["presence"] = "presence"
    name: str = Field("presence", min_length=1, max_length=32, description="Stands in the reasons of the verdict.")
    require: Annotated[tuple[Label, ...], Field(min_length=1, description="The labels that must be there.")]
    min_score: float = Field(0.5, ge=0, le=1, description="From this score on it is there.")
    unsure_score: float = Field(0.35, ge=0, le=1, description="Below this score it is missing; between, unknown.")

    @model_validator(mode="after")
    def _scores_in_order(self) -> "Config":
        if self.unsure_score > self.min_score:
            raise ValueError(
                f"unsure_score must not be above min_score: {self.unsure_score:g} is more than {self.min_score:g}"
            )
        return self

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The labels that the model has to know, by the key that names them."""
        return {"require": self.require}


def create(config: Config) -> Rule:
    """The rule for one part."""
    return PresenceRule(config)


class PresenceRule:
    """Keeps the best score of each required label; None for one that was never seen."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._frames = 0
        self._best: dict[str, float | None] = dict.fromkeys(config.require)

    def update(self, seen: Observation) -> None:
        """One more frame of the part."""
        self._frames += 1
        for label, scores in seen.scores.items():
            if label in self._best:
                self._best[label] = max(scores[-1], self._best[label] or 0.0)

    def decide(self) -> Decision:
        """Reject what is missing; one frame that shows it is enough. Unknown where nobody looked."""
        if not self._frames:
            return Decision.unknown("no_frame")
        return combine([self._judge(label, score) for label, score in self._best.items()])

    def _judge(self, label: str, score: float | None) -> Decision:
        config = self._config
        if score is not None and score >= config.min_score:
            return Decision("pass")
        if score is not None and score >= config.unsure_score:
            return Decision("unknown", (Reason(config.name, label, score, "low_confidence"),))
        return Decision("reject", (Reason(config.name, label, score),))
