"""How long until silence is noticed: by the arm, whatever died, and by the agent, which then opens a new connection.

    python -m benchmarks.silence [--repeat N] [--fault NAME] [--belt NAME] [--json]

The real `edge-agent run` and `edge-agent reject-arm`, each behind a TCP proxy of its own, and a mosquitto on loopback;
all fresh for each measurement. The moment of the fault is drawn anew each time. A cut swallows both ways of all
connections; the proxy's kernel goes on to acknowledge what is sent, as a router with connections of its own would. The
agent has noticed when it logs `link_down`, for each of its two connections.

Example: python -m benchmarks.silence --repeat 3 --belt idle --fault agent-cut
"""

import argparse
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import rig
from benchmarks.arguments import at_least, positive
from edge_agent.app.demo.broker import HOST
from tests.brokers import Broker, running_broker
from tests.proxies import Proxy, running_proxy

PROMISED_S = 2.0  # by which the arm has noticed
SETTLE_S = 1.0
MOMENT_S = 2.0  # over which it is drawn: several heartbeats, and several of the agent's pings
PATIENCE_S = 30.0
LINKS = ("line", "records")
BELTS = {"parts": True, "idle": False}


@dataclass(frozen=True, slots=True)
class Line:
    """All that runs."""

    broker: Broker
    agents_network: Proxy
    arms_network: Proxy
    agent: rig.Process
    arm: rig.Process


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, and whether the agent can notice; the arm always must."""

    words: str
    strike: Callable[[Line], None]
    agent_notices: bool = False


FAULTS = {
    "agent-kill": Fault("agent: kill -9", lambda line: line.agent.send(signal.SIGKILL)),
    "agent-stop": Fault("agent: SIGSTOP", lambda line: line.agent.send(signal.SIGSTOP)),
    "agent-cut": Fault(
        "network cut at the agent", lambda line: line.agents_network.lose("up", "down"), agent_notices=True
    ),
    "arm-cut": Fault("network cut at the arm", lambda line: line.arms_network.lose("up", "down")),
    "broker-kill": Fault("broker: kill -9", lambda line: line.broker.kill(), agent_notices=True),
    "broker-stop": Fault("broker: SIGSTOP", lambda line: line.broker.freeze(), agent_notices=True),
}


@dataclass(frozen=True, slots=True)
class Noticed:
    """Seconds from the fault; None: not within the time given."""

    belt: str
    fault: str
    arm_s: float | None
    arm_says: str | None
    agent_s: dict[str, float | None]


# ---- one measurement


def measure(belt: str, name: str, folder: Path, wish: argparse.Namespace) -> Noticed:
    """A line that is well, a fault, and who says what when."""
    fault = FAULTS[name]
    folder.mkdir()
    with running_line(folder, wish, parts=BELTS[belt]) as line:
        time.sleep(SETTLE_S + random.uniform(0, MOMENT_S))  # noqa: S311 - no secret
        line.arm.read()
        if any(it.get("code") == "agent_lost" and it["why"] != "start" for it in line.arm.said):
            raise rig.BenchmarkError("the arm lost the agent before anything was done to it: the machine is too busy")
        at_ms, at_s = time.monotonic_ns() / 1e6, time.time()
        fault.strike(line)
        awaited = LINKS if fault.agent_notices else ()

        def is_noticed() -> bool:
            return lost(line.arm, at_ms)[0] is not None and all(down(line.agent, link, at_s) for link in awaited)

        rig.wait_until(is_noticed, PATIENCE_S)
        arm_s, says = lost(line.arm, at_ms)
        return Noticed(belt, name, arm_s, says, {link: down(line.agent, link, at_s) for link in awaited})


@contextmanager
def running_line(folder: Path, wish: argparse.Namespace, *, parts: bool) -> Iterator[Line]:
    """A line whose arm has heard the agent; gone afterwards, whatever happened to it."""
    with ExitStack() as ends:
        broker = ends.enter_context(running_broker(folder, rig.BROKER))
        agents_network, arms_network = (ends.enter_context(running_proxy(broker.port)) for _ in range(2))
        config = rig.agent_config(agents_network.port, wish.model, folder, fps=wish.fps, parts=parts)
        agent = rig.Process("agent", config, folder, "run")
        ends.callback(agent.stop, 0)
        mqtt = {"host": HOST, "port": arms_network.port}
        arm = rig.Process("arm", {"device": rig.DEVICE, "mqtt": mqtt}, folder, "reject-arm", "--json")
        ends.callback(arm.stop, 0)
        arm.wait_for_log("arm_agent_back")
        for link in LINKS:
            agent.wait_for_log("link_up", link=link)
        yield Line(broker, agents_network, arms_network, agent, arm)


def lost(arm: rig.Process, since_ms: float) -> tuple[float | None, str | None]:
    """Seconds until the arm took the agent for lost, and why it did."""
    arm.read()
    for it in arm.said:
        if it.get("code") == "agent_lost" and it["at_mono_ms"] >= since_ms:
            return (it["at_mono_ms"] - since_ms) / 1e3, it["why"]
    return None, None


def down(agent: rig.Process, link: str, since_s: float) -> float | None:
    """Seconds until the agent took a connection for broken. Its log counts whole milliseconds."""
    agent.read()
    for it in agent.logged:
        at_s = datetime.fromisoformat(it["timestamp"].replace("Z", "+00:00")).timestamp()  # Python 3.10 knows no Z
        if it["event"] == "link_down" and it["link"] == link and at_s >= since_s - 0.001:
            return max(0.0, at_s - since_s)
    return None


# ---- all of them


def measure_all(wish: argparse.Namespace, folder: Path) -> list[Noticed]:
    """Round by round, so that a machine that slows down favours no fault."""
    asked = [(belt, fault) for _ in range(wish.repeat) for belt in wish.belt or BELTS for fault in wish.fault or FAULTS]
    noticed = []
    with rig.steps(len(asked)) as begin:
        for number, (belt, fault) in enumerate(asked):
            begin(f"{FAULTS[fault].words}, belt: {belt}")
            own = folder / str(number)
            noticed.append(measure(belt, fault, own, wish))
            shutil.rmtree(own)
    return noticed


def times(values_s: Sequence[float | None]) -> dict[str, Any]:
    """Median and worst of them; null where a time is unknown, which is worse than any other."""
    in_order = sorted(values_s, key=lambda value_s: (value_s is None, value_s or 0.0))
    if not in_order:
        return {}
    known = [value_s for value_s in in_order if value_s is not None]
    median_s = statistics.median(known) if len(known) == len(in_order) else in_order[len(in_order) // 2]
    return {
        "median_s": _rounded(median_s),
        "worst_s": _rounded(in_order[-1]),
        "all_s": [_rounded(it) for it in values_s],
    }


def _rounded(value_s: float | None) -> float | None:
    return None if value_s is None else round(value_s, 3)


def summary(noticed: Sequence[Noticed]) -> list[dict[str, Any]]:
    """By belt and fault."""
    said = []
    for belt, fault in dict.fromkeys((it.belt, it.fault) for it in noticed):
        of = [it for it in noticed if (it.belt, it.fault) == (belt, fault)]
        agent = {link: times([it.agent_s[link] for it in of]) for link in LINKS if FAULTS[fault].agent_notices}
        says = sorted({it.arm_says for it in of if it.arm_says})
        said.append(
            {"belt": belt, "fault": fault, "arm": times([it.arm_s for it in of]), "arm_says": says, "agent": agent}
        )
    return said


def table(said: Sequence[dict[str, Any]], repeat: int) -> Table:
    """For people."""
    shown = Table(title=f"seconds until silence is noticed: median / worst of {repeat}", title_justify="left")
    for heading in ("belt", "fault", "the arm says"):
        shown.add_column(heading)
    for heading in ("arm", "agent, line", "agent, records"):
        shown.add_column(heading, justify="right")
    for it in said:
        agent = [_cell(it["agent"].get(link, {})) for link in LINKS]
        shown.add_row(it["belt"], FAULTS[it["fault"]].words, ", ".join(it["arm_says"]), _cell(it["arm"]), *agent)
    return shown


def _cell(found: dict[str, Any]) -> str:
    if not found:
        return "-"
    return " / ".join("never" if (it := found[key]) is None else f"{it:.2f}" for key in ("median_s", "worst_s"))


def verdict(said: Sequence[dict[str, Any]]) -> str:
    """Whether the promise was kept."""
    late = [
        f"{FAULTS[it['fault']].words}, belt: {it['belt']}" for it in said if (it["arm"]["worst_s"] or 1e9) > PROMISED_S
    ]
    if late:
        return f"The arm did not notice within {PROMISED_S:g} s: {'; '.join(late)}."
    return f"The arm noticed everything within {PROMISED_S:g} s."


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=at_least(1), default=5, help="times each (default: 5)")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="only this one; may be given again")
    parser.add_argument("--belt", choices=BELTS, action="append", help="only this one: with parts, or idle")
    parser.add_argument("--fps", type=positive, default=20, help="parts a second on a belt with parts (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    wish = parser.parse_args()
    rig.require_mosquitto()
    asked, found = dict(vars(wish)), rig.machine()
    with tempfile.TemporaryDirectory() as name:
        wish.model = rig.recording(Path(name) / "one.npz")
        said = summary(measure_all(wish, Path(name)))
    found |= rig.load("after")
    if wish.json:
        print(rig.as_json("silence", asked, {"machine": found, "faults": said}))
    else:
        rig.show(table(said, wish.repeat), verdict(said), rig.words(found))


if __name__ == "__main__":
    rig.run(main)
