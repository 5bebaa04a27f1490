"""The table of a camera's health: what to look for, and how far it may go."""

from pathlib import Path

from pydantic import Field

from edge_agent.config.table import Table

DARK_BELOW = 5.0
OVEREXPOSED_ABOVE = 0.99
"""Where there is no baseline: next to nothing is to be seen. A dark machine with one lit part has more than the first, a
bright field behind the belt shows its edge. That the lens is covered cannot be told there: a plain belt looks the same.
"""


class HealthConfig(Table):
    """When a camera counts as unhealthy. What is not set comes from the baseline."""

    enabled: bool = Field(True, description="Whether the camera is watched at all.")
    baseline: Path | None = Field(None, description="The file of `edge-agent snapshot --baseline`.")
    dark_below: float | None = Field(None, ge=0, le=255, description="Mean brightness, 0 to 255.")
    overexposed_above: float | None = Field(None, ge=0, le=1, description="Share of clipped pixels.")
    covered_below: float | None = Field(None, ge=0, le=1, description="Share of the picture with structure.")
    blurred_below: float = Field(0.33, ge=0, le=1, description="Fraction of the baseline's sharpness.")
    moved_below: float = Field(0.33, ge=0, le=1, description="Share of the baseline's edges still in place.")
    frozen_s: float | None = Field(None, ge=0, le=3600, description="The same picture for so long.")
    rate_tolerance: float = Field(0.3, ge=0, le=1, description="How far the rate may be off, as a fraction; 0: any.")
    for_s: float = Field(1.0, ge=0, le=60, description="Bad for so long: the camera is unhealthy.")
    clear_s: float = Field(2.0, ge=0, le=600, description="Good for so long: it is healthy again.")
