"""Rejects a part with too few or too many of something."""

from bisect import bisect_left
from collections import Counter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_agent.core.parts import Decision, Reason
from edge_agent.core.ports import Observation, Rule

Label = Annotated[str, Field(min_length=1, max_length=64)]


class Config(BaseModel):
    """A part is rejected unless the number of one label on it is within bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["count"] = "count"
    name: str = Field("count", min_length=1, max_length=32, description="Stands in the reasons of the verdict.")
    label: Label = Field(description="What is counted.")
    min: int = Field(0, ge=0, description="At least so many.")
    max: int | None = Field(None, ge=0, description="At most so many; no bound where it is not given.")
    min_score: float = Field(0.5, ge=0, le=1, description="From this score on it counts.")
    unsure_score: float = Field(0.35, ge=0, le=1, description="What lies between makes the count unsure.")

    @model_validator(mode="after")
    def _in_order(self) -> "Config":
        if self.unsure_score > self.min_score:
            raise ValueError(
                f"unsure_score must not be above min_score: {self.unsure_score:g} is more than {self.min_score:g}"
            )
        if self.max is not None and self.max < self.min:
            raise ValueError("max must not be below min")
        return self

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The labels that the model has to know, by the key that names them."""
        return {"label": (self.label,)}


def create(config: Config) -> Rule:
    """The rule for one part."""
    return CountRule(config)


class CountRule:
    """Keeps how often each count came up: the most frequent one over the part's frames stands."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._counts: Counter[tuple[int, int]] = Counter()

    def update(self, seen: Observation) -> None:
        """One more frame of the part."""
        scores = seen.scores.get(self._config.label, ())
        sure = len(scores) - bisect_left(scores, self._config.min_score)
        possible = len(scores) - bisect_left(scores, self._config.unsure_score)
        self._counts[sure, possible] += 1

    def decide(self) -> Decision:
        """Reject where even the unsure ones cannot make it right, unknown where they decide."""
        if not self._counts:
            return Decision.unknown("no_frame")
        (sure, possible), _ = self._counts.most_common(1)[0]
        least, most = self._config.min, self._config.max
        if least <= sure and (most is None or possible <= most):
            return Decision("pass")
        if least <= possible and (most is None or sure <= most):
            return Decision("unknown", (Reason(self._config.name, self._config.label, None, "low_confidence"),))
        return Decision("reject", (Reason(self._config.name, self._config.label),))
