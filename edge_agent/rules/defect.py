"""Rejects a part on which a defect was seen."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_agent.core.parts import Decision, Reason, Word
from edge_agent.core.ports import Observation, Rule

Label = Annotated[str, Field(min_length=1, max_length=64)]


class Config(BaseModel):
    """A part is rejected when one of these labels was seen on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["defect"] = "defect"
    name: str = Field("defect", min_length=1, max_length=32, description="Stands in the reasons of the verdict.")
    reject: Annotated[tuple[Label, ...], Field(min_length=1, description="The labels that are defects.")]
    min_score: float = Field(0.5, ge=0, le=1, description="From this score on it is a defect.")
    unsure_score: float = Field(0.35, ge=0, le=1, description="From this score on the part is not `pass` but unknown.")
    min_frames: int = Field(
        1, ge=1, description="In so many frames of the part it must be seen (in all, where there were fewer)."
    )

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
        return {"reject": self.reject}


def create(config: Config) -> Rule:
    """The rule for one part."""
    return DefectRule(config)


class DefectRule:
    """Keeps, per label, the best score and the number of frames at or above `min_score`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._frames = 0
        self._best: dict[str, float] = {}
        self._frames_seen: dict[str, int] = {}

    def update(self, seen: Observation) -> None:
        """One more frame of the part."""
        self._frames += 1
        for label, scores in seen.scores.items():
            if label not in self._config.reject:
                continue
            score = scores[-1]
            self._best[label] = max(score, self._best.get(label, 0.0))
            if score >= self._config.min_score:
                self._frames_seen[label] = self._frames_seen.get(label, 0) + 1

    def decide(self) -> Decision:
        """Reject on a sure defect, unknown on an unsure one, or where nobody looked."""
        if not self._frames:
            return Decision.unknown("no_frame")
        needed = min(self._config.min_frames, self._frames)
        sure = [label for label, frames in self._frames_seen.items() if frames >= needed]
        if sure:
            return self._decision("reject", sure, None)
        unsure = [label for label, score in self._best.items() if score >= self._config.unsure_score]
        return self._decision("unknown", unsure, "low_confidence") if unsure else Decision("pass")

    def _decision(self, word: Word, labels: list[str], code: str | None) -> Decision:
        reasons = (Reason(self._config.name, label, self._best[label], code) for label in labels)
        return Decision(word, tuple(reasons))
