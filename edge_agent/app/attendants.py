"""Who keeps and shows things on the device while the line runs. The line depends on none of them."""

from collections.abc import Callable, Iterator

from edge_agent.app.pictures import keep_pictures
from edge_agent.app.places import own_folder, runtime_folder
from edge_agent.app.recording import make_recorder
from edge_agent.app.shedding import watch_heat
from edge_agent.config import AgentConfig, Loaded
from edge_agent.hardware.profile import Choice
from edge_agent.runtime.agent import Agent, Attendant, Watch
from edge_agent.runtime.metrics_file import MetricsFile
from edge_agent.runtime.status import About, StatusBoard, StatusFile
from edge_agent.runtime.status_socket import StatusServer
from edge_agent.runtime.status_words import FILE as STATUS

METRICS = "metrics.prom"


def attend(agent: Agent, loaded: Loaded, choice: Choice) -> None:
    """Gives the agent its attendants, and the watches of what stays on the device. Once, before it is started."""
    config = loaded.config
    attendants: list[Attendant] = []
    watches: list[Watch] = []
    more: dict[str, Callable[[], object]] = {}  # what the others tell `edge-agent status`, by key
    file = StatusFile(own_folder(config) / STATUS)
    board = StatusBoard(agent, About(loaded.path.stem, loaded.path, _outlet(config), more), file.keep)
    attendants += (file, StatusServer(runtime_folder(config), board.document))
    watches.append(board)
    attendants += _metrics(agent, config)
    evidence = keep_pictures(agent, config)
    attendants.insert(0, evidence)  # the last but one to stop: a picture may take the time that the others leave
    more["evidence"] = evidence.facts
    if (heat := watch_heat(agent, config, choice.profile, evidence)) is not None:
        watches.append(heat)
    if (recorder := make_recorder(agent, loaded)) is not None:
        attendants.insert(0, recorder)  # the last to stop: the others may have something to note until then
        more["recorder"] = recorder.facts
    agent.attendants = tuple(attendants)
    agent.watches = (*agent.watches, *watches)


def _metrics(agent: Agent, config: AgentConfig) -> Iterator[Attendant]:
    """Who shows the figures. Their libraries are loaded when they are needed, and not before the line runs."""
    table, health, scribe = config.metrics, agent.health, agent.scribe

    def read_text() -> bytes:
        from edge_agent.runtime.metrics import Metrics

        return Metrics(health, scribe).text()

    if table.every_s:
        yield MetricsFile(table.file or runtime_folder(config) / METRICS, read_text, table.every_s)
    if table.http_port is not None:
        from edge_agent.runtime.metrics import Metrics
        from edge_agent.runtime.metrics_http import MetricsServer

        yield MetricsServer(table.http_port, Metrics(health, scribe))


def _outlet(config: AgentConfig) -> str:
    """Where verdicts go, for a person."""
    kind, table = config.publisher
    return f"{table.host}:{table.port}" if kind == "mqtt" else kind
