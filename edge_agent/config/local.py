"""The tables of what is kept and shown on the device itself, and never published."""

from pathlib import Path

from pydantic import Field, field_validator

from edge_agent.config.table import Table


class RecorderConfig(Table):
    """The flight recorder: the last verdicts and events, for `edge-agent logs` and `why`."""

    max_mb: float = Field(
        16, ge=0, le=1000, description="Of its file, taken at the start, at least 1; 0: there is no recorder."
    )

    @field_validator("max_mb")
    @classmethod
    def _holds_something(cls, max_mb: float) -> float:
        if 0 < max_mb < 1:
            raise ValueError("must be at least 1, or 0 for no recorder")
        return max_mb


class EvidenceConfig(Table):
    """Annotated pictures of the last parts that did not pass. They stay on the device."""

    keep: int = Field(200, ge=0, le=100_000, description="At most so many pictures; 0: none are kept.")
    max_mb: float = Field(100, gt=0, le=100_000, description="At most so many megabytes of them.")
    max_days: float = Field(30, gt=0, le=3650, description="Older ones are deleted.")


class MetricsConfig(Table):
    """Figures for Prometheus."""

    file: Path | None = Field(None, description="The text file; not set: `metrics.prom` beside the status socket.")
    every_s: float = Field(10, ge=0, le=3600, description="From one text file to the next; 0: none is written.")
    http_port: int | None = Field(None, ge=1, le=65_535, description="Also over HTTP, on this machine only.")
