"""Configurations for the container, and instances of the service that run them."""

import json
import re
from dataclasses import dataclass
from subprocess import Popen
from typing import Any

from tests.service.container import Container, wait_until

MODEL = "/etc/edge-agent/models/bottles.tflite"
PICTURES = "/var/lib/line-pictures"
READY_MOST_S = 90.0
PROPERTIES = ("ActiveState", "SubState", "MainPID", "NRestarts", "Result", "StatusText", "ExecMainStatus")

SOME_PICTURES = f'kind = "replay"\nsource = "{PICTURES}"\nfps = 2\nloop = true'
SELDOM = SOME_PICTURES.replace("fps = 2", "fps = 1")
NO_CAMERA = 'kind = "opencv"\nsource = "/dev/video99"\nwidth = 640\nheight = 480\nfps = 30'
EVERY_FRAME = 'kind = "frame"'
BY_MESSAGE = 'kind = "mqtt"\n  window_ms = 1000'
BY_INPUT_LINE = 'kind = "gpio"\n  chip = "/dev/gpiochip0"\n  line = 4\n  window_ms = 1000'


def configuration(
    device: str,
    *,
    camera: str = SOME_PICTURES,
    trigger: str = EVERY_FRAME,
    broker: str = 'host = "localhost"',
    more: str = "",
) -> str:
    """A whole configuration with one camera `top`. Of its eight pictures five are rejected."""
    return f"""
[device]
id = "{device}"
site = "test"
area = "test"
line = "1"
cell = "1"

[model]
path = "{MODEL}"

[[cameras]]
id = "top"
{camera}

  [cameras.trigger]
  {trigger}

  [[cameras.rules]]
  kind = "defect"
  reject = ["label_misaligned"]
  min_score = 0.5

[verdict]
deadline_ms = 2000
valid_ms = 4000

[mqtt]
{broker}
{more}
"""


@dataclass(frozen=True, slots=True)
class Instance:
    """`edge-agent@NAME.service` in a container; its device id is its name."""

    container: Container
    name: str

    @property
    def unit(self) -> str:
        """What systemctl calls it."""
        return f"edge-agent@{self.name}.service"

    def configure(self, text: str) -> None:
        """Writes its configuration."""
        self.container.write(f"/etc/edge-agent/{self.name}.toml", text)

    def systemctl(self, verb: str, *, timeout_s: float = READY_MOST_S) -> None:
        """`systemctl VERB` on it; returns when systemd says it is done."""
        self.container.run("systemctl", verb, self.unit, timeout_s=timeout_s)

    def facts(self) -> dict[str, str]:
        """What systemd knows of it."""
        return self.container.show(self.unit, *PROPERTIES)

    def pid(self) -> int:
        """Its main process, 0 where there is none."""
        return int(self.facts()["MainPID"])

    def restarts(self) -> int:
        """How often systemd has started it anew by itself."""
        return int(self.facts()["NRestarts"])

    def is_active(self) -> bool:
        """Whether systemd takes it to be up: it said READY and runs."""
        return self.facts()["ActiveState"] == "active"

    def wait_active(self, timeout_s: float = READY_MOST_S) -> None:
        """Until it is up."""
        try:
            wait_until(self.is_active, timeout_s, f"{self.unit} is active")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from None

    def forget(self) -> None:
        """Stops it and takes its configuration away."""
        self.container.run("systemctl", "stop", self.unit, check=False)
        self.container.run("systemctl", "reset-failed", self.unit, check=False)
        self.container.run("rm", "-f", f"/etc/edge-agent/{self.name}.toml")

    def last_words(self) -> str:
        """The end of its journal."""
        return "\n".join(self.container.journal_text(self.unit).splitlines()[-12:])

    def message(self, topic: str, timeout_s: int = 10) -> dict[str, Any]:
        """The next message of a topic, or the retained one."""
        command = ["mosquitto_sub", "-V", "5", "-C", "1", "-W", str(timeout_s)]
        done = self.container.run(*command, "-t", f"factory/test/test/1/1/vision/{self.name}/{topic}", check=False)
        assert done.stdout, f"no message on {topic} of {self.name} within {timeout_s} s"
        message: dict[str, Any] = json.loads(done.stdout)
        return message

    def listen(self, topic: str, for_s: int) -> "Popen[str]":
        """A process that prints each message of a topic, and ends by itself."""
        topic = f"factory/test/test/1/1/vision/{self.name}/{topic}"
        return self.container.start("mosquitto_sub", "-V", "5", "-W", str(for_s), "-t", topic)

    def count(self, pattern: str) -> int:
        """How many lines of its journal the pattern is in."""
        return len(re.findall(pattern, self.container.journal_text(self.unit)))
