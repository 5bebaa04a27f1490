"""What every table of the file is."""

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """One table of the file: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
