"""The whole line on one machine: a simulated belt, the bundled model, a private broker, a reject arm; scored."""

from pathlib import Path
from string import Template
from typing import Any

from edge_agent.app.demo import toml
from edge_agent.app.demo.broker import HOST, start_broker
from edge_agent.app.demo.children import Child, children
from edge_agent.app.demo.simulated import Wish
from edge_agent.app.demo.trial import Finished, Plan, Viewer, conduct, stopped_by_signals, work_folder, write_arm
from edge_agent.config import load
from edge_agent.models.bundled import TFLITE

CAMERA = "top"
NO_BROKER = (
    "there is no mosquitto here (apt-get install mosquitto), so there is no broker and no reject arm: "
    "verdicts are read from the agent's output, and times end with the decision"
)


def run_demo(wish: Wish, viewer: Viewer, mosquitto: str | None, keep: Path | None = None) -> Finished:
    """Sets everything up in a folder that is gone afterwards (or in `keep`), runs the line, and scores it.

    `mosquitto` is the program; without it there is no broker, and no arm.

    Raises:
        ChildDiedError: a process ended that should not.
        KeyboardInterrupt: somebody stopped it before the line ran.
    """
    with stopped_by_signals() as stop, work_folder(keep) as folder, children() as started:
        plan = _plan(wish, viewer, mosquitto, folder, started)
        viewer.say("looking at the line for some seconds, so that the agent knows what is usual")
        return conduct(plan, folder, started, viewer, stop)


def _plan(wish: Wish, viewer: Viewer, program: str | None, folder: Path, started: list[Child]) -> Plan:
    truth = folder / "truth.jsonl"
    if program is None:
        viewer.say(NO_BROKER)
        publisher: dict[str, Any] = {"stdout": {}}
    else:
        port = start_broker(program, folder, started)
        viewer.say(f"a private mosquitto listens on {HOST}:{port}")
        publisher = {"mqtt": {"host": HOST, "port": port}}
    path = folder / "line.toml"
    text = Template(Path(__file__).with_name("line.toml").read_text("utf-8"))
    words = {"model": toml.value(TFLITE), "simulator": toml.keys(wish.camera_keys(truth))}
    path.write_text(text.substitute(words, publisher=toml.document(publisher)), "utf-8")
    config = load(path).config
    arm = None if program is None else write_arm(config, folder, ack=True)
    return Plan(path, config, {CAMERA: truth}, arm, wish.seconds)
