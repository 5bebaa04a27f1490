"""Where messages go: `{prefix}/{site}/{area}/{line}/{cell}/vision/{device}/…`."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field


def _levels(prefix: str) -> str:
    if any(c in prefix for c in "+#$\0") or not all(prefix.split("/")):
        raise ValueError("must be topic levels such as factory or acme/leon: no empty level, no + # $ and no NUL")
    return prefix


Prefix = Annotated[str, Field(max_length=128), AfterValidator(_levels)]
"""The first level or levels of every topic."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device."""

    prefix: str
    site: str
    area: str
    line: str
    cell: str
    device: str

    def of(self, name: str, camera: str = "") -> str:
        """The topic of a message: `of("state")`, `of("verdict", "top")`."""
        root = f"{self.prefix}/{self.site}/{self.area}/{self.line}/{self.cell}/vision/{self.device}"
        return f"{root}/{name}/{camera}" if camera else f"{root}/{name}"

    def listing(self, cameras: tuple[str, ...]) -> tuple[str, ...]:
        """Every topic that the device publishes."""
        single = tuple(self.of(name) for name in ("state", "birth", "heartbeat", "event", "health"))
        return single + tuple(self.of(name, camera) for camera in cameras for name in ("verdict", "result"))
