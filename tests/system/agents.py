"""A real agent process, with a configuration written for the test."""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.fixtures import REPO, SHARED

MODELS = SHARED / "fixtures" / "models"
IMAGES = SHARED / "fixtures" / "images"
ROOT = "factory/leon/bottling/3/capper/vision/test-01"

DEVICE = """
[device]
id = "test-01"
site = "leon"
area = "bottling"
line = "3"
cell = "capper"
"""


def config_text(*, model: Path | str, cameras: str, port: int, verdict: str = "", more: str = "") -> str:
    """A whole configuration; `verdict` and `more` are further TOML."""
    parts = [
        DEVICE,
        f'[model]\npath = "{model}"\n{more}',
        cameras,
        f"[verdict]\n{verdict}",
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n',
    ]
    return "\n".join(textwrap.dedent(part) for part in parts)


def replay(source: Path, *, camera: str = "top", fps: float = 5, loop: bool = True, trigger: str = 'kind = "frame"'):
    """One camera that replays files."""
    return f"""
[[cameras]]
id = "{camera}"
kind = "replay"
source = "{source}"
fps = {fps}
loop = {str(loop).lower()}

  [cameras.trigger]
  {trigger}
"""


class AgentProcess:
    """`edge-agent run` on a configuration file, behind the words of a command that runs it; its log, and all else that it says, is kept."""

    def __init__(
        self, folder: Path, config: str, words: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self.config = folder / "agent.toml"
        self.config.write_text(config)
        self._log_path = folder / "agent.log"
        with self._log_path.open("w") as log:
            command = [*words, sys.executable, "-m", "edge_agent", "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=REPO, env=env)

    def log(self) -> str:
        """What it has logged so far."""
        return self._log_path.read_text()

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        self.process.send_signal(number)

    def ended(self, timeout: float = 20) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(timeout)


@contextmanager
def running_agent(
    folder: Path, config: str, words: Sequence[str] = (), *, env: Mapping[str, str] | None = None
) -> Iterator[AgentProcess]:
    """An agent that is started, and gone afterwards whatever happened to it."""
    agent = AgentProcess(folder, config, words, env)
    try:
        yield agent
    except BaseException:
        sys.stdout.write(agent.log())
        raise
    finally:
        agent.process.kill()
        agent.process.wait()
