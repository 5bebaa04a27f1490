"""Where messages go: `{prefix}/{site}/{area}/{line}/{cell}/vision/{device}/…`."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _levels(prefix: str) -> str:
    if any(c in prefix for c in "+#$\0") or not all(prefix.split("/")):
        raise ValueError("must be topic levels such as factory or acme/leon: no empty level, no + # $ and no NUL")
    return prefix


Prefix = Annotated[str, Field(max_length=128), AfterValidator(_levels)]
"""The first level or levels of every topic."""


def _topic_level(most: int) -> Any:
    """Text that can be a level of a topic, of at most so many characters."""
    pattern = f"[A-Za-z0-9_.:-]{{1,{most}}}"

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be 1 to {most} letters (a to z), digits and signs of _ . : -")
        return text

    return Annotated[str, AfterValidator(check), Field(json_schema_extra={"pattern": f"^{pattern}$"})]


if TYPE_CHECKING:
    TopicLevel = str
    Id = str
else:
    TopicLevel, Id = _topic_level(64), _topic_level(32)  # ids stand in every verdict, which has to stay under 1 KiB


class DeviceConfig(BaseModel):
    """Where in the plant the device stands: it makes the topic path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Id = Field(description="Unique in the plant; also the MQTT client id.")
    site: TopicLevel = Field(description="The plant.")
    area: TopicLevel = Field(description="The part of the plant.")
    line: TopicLevel = Field(description="The production line.")
    cell: TopicLevel = Field(description="The station on the line.")

    def topics(self, prefix: str) -> "Topics":
        """The topics of this device."""
        return Topics(prefix, self.site, self.area, self.line, self.cell, self.id)


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
