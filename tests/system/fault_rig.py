"""A line whose network may fail: agent and reference arm, each behind a fault proxy, a real broker, and a listener.

with running_rig(tmp_path) as rig:
    rig.start()                  # arm and agent; returns once parts are judged, acted on and recorded
    rig.proxy.lose("up")
    ...
    rig.recovered()              # the same agent, and everything flows again
    account = rig.settled()      # stops the agent, and checks what must hold after every fault
"""

import contextlib
import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent.backends import recorded
from edge_agent.core.datatypes import TensorSpec
from tests.brokers import Broker, Listener, running_broker
from tests.proxies import Proxy, running_proxy
from tests.system import arms
from tests.system.agents import ROOT, AgentProcess, config_text, replay, running_agent
from tests.system.fault_account import Account, Evidence, check_promises, utc_s

PARTS_PER_S = 20
VALID_MS = 600
LOSS_S = 2.0  # what is promised; what the arm may be late on a machine that is busy:
MARGIN_S = 1.0
KEEPALIVE_S = 2
KEPT_ROWS = 30
AT_START = 20  # verdicts that may find no connection yet: a second
JUDGES = ("running", "degraded")
METADATA = {"task": "detect", "stride": 32, "names": {"0": "part"}, "end2end": True}
RULE = '  [[cameras.rules]]\n  kind = "defect"\n  reject = ["part"]\n  min_score = 0.5\n  unsure_score = 0.3\n'


def line(folder: Path, port: int, *, records: str = "") -> str:
    """A line whose engine rejects every other frame; small frames, so that it costs next to nothing."""
    found = np.zeros((1, 300, 6), np.float32)
    found[0, 0] = (0.4, 0.4, 0.6, 0.6, 0.9, 0)
    image = TensorSpec("images", (1, 64, 64, 3), np.dtype(np.float32))
    recorded.save(folder / "line.npz", [image], [[found], [np.zeros_like(found)]], METADATA)
    cv2.imwrite(str(folder / "part.png"), np.full((64, 64, 3), 114, np.uint8))
    cameras = replay(folder / "part.png", fps=PARTS_PER_S) + RULE
    verdict = f"deadline_ms = 300\nvalid_ms = {VALID_MS}"
    text = config_text(model=folder / "line.npz", cameras=cameras, port=port, verdict=verdict)
    return f"{text}\nkeepalive_s = {KEEPALIVE_S}\n[records]\n{records}\n"


@dataclass
class Rig:
    """All that runs, or will. `words` run the agent; `records` is more of that table."""

    folder: Path
    broker: Broker
    listener: Listener
    proxy: Proxy  # between agent and broker
    arm_proxy: Proxy
    stack: contextlib.ExitStack
    words: Sequence[str] = ()
    records: str = ""
    arm: arms.Arm = field(init=False)
    agent: AgentProcess = field(init=False)
    is_to_live: bool = field(init=False)  # the agent: it is not to end by itself

    def start(self) -> None:
        """Arm and agent, until both work."""
        self.start_both()
        self.recovered()

    def start_both(self) -> None:
        """Without waiting for anything."""
        text = arms.config(self.arm_proxy, 'on_unknown = "reject"\non_agent_loss = "reject"', device="test-01")
        self.arm = arms.Arm(self.folder, text, "--json")
        self.stack.callback(self.arm.end)
        self.start_agent()

    def start_agent(self) -> None:
        """Also again, after the one before has ended."""
        config = line(self.folder, self.proxy.port, records=self.records)
        self.agent = self.stack.enter_context(running_agent(self.folder, config, self.words))
        self.is_to_live = True

    def killed(self) -> str:
        """Kills the agent; its session."""
        self.is_to_live = False
        self.agent.send(signal.SIGKILL)
        self.agent.ended()
        return str((self.kept() or self.results())[-1]["session"])

    # ---- what is going on

    def acted(self) -> list[dict[str, Any]]:
        """What the arm did about verdicts."""
        return [said for said, _ in self.arm.lines if said["kind"] == "verdict"]

    def results(self) -> list[dict[str, Any]]:
        """Every result that arrived, again where it came twice."""
        return [heard.json for heard in self.listener.on("result/top")]

    def events(self, code: str | None = None) -> list[dict[str, Any]]:
        """Every event of that code that arrived."""
        heard = [heard.json for heard in self.listener.on(f"{ROOT}/event")]
        return [event for event in heard if code in (None, event["code"])]

    def state(self) -> str | None:
        """What the agent said last."""
        states = self.listener.on(f"{ROOT}/state")
        return states[-1].json["state"] if states else None

    def reasons(self) -> list[str]:
        """Why that is so."""
        states = self.listener.on(f"{ROOT}/state")
        return states[-1].json["reasons"] if states else []

    def kept(self, table: str = "result") -> list[dict[str, Any]]:
        """What waits on the agent's disk: `result` or `event`."""
        path = self.folder / "state" / "edge-agent" / "test-01" / "outbox.db"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            try:
                found = database.execute(f"SELECT payload FROM {table} ORDER BY number").fetchall()  # noqa: S608 - a test's word
            except sqlite3.OperationalError:  # it is being made
                return []
        return [json.loads(payload) for (payload,) in found]

    def loss_seen_s(self, since_s: float) -> float:
        """How long after that moment the arm noticed that it has no agent."""
        self.wait(lambda: self._losses(since_s), f"the arm noticed nothing: {self.arm.lines[-5:]}")
        seen_s = self._losses(since_s)[0] - since_s
        print(f"agent loss noticed after {seen_s:.2f} s")  # noqa: T201 - a number for whoever asks with -s
        assert seen_s < LOSS_S + MARGIN_S
        return seen_s

    def _losses(self, since_s: float) -> list[float]:
        alarms = [said for said, _ in self.arm.lines if said.get("code") == "agent_lost" and said["action"] == "reject"]
        return [said["at_mono_ms"] / 1000 for said in alarms if said["at_mono_ms"] / 1000 >= since_s]

    def wait(self, claim: Callable[[], object], otherwise: str, patience_s: float = 30) -> None:
        """Until it is so."""
        until_s = time.monotonic() + patience_s
        while not claim():
            has_ended = self.is_to_live and self.agent.process.poll() is not None
            if has_ended or time.monotonic() > until_s:
                pytest.fail(f"{otherwise} in {patience_s} s\n{self.agent.log()[-4000:]}")
            time.sleep(0.05)

    def keeps_much(self) -> None:
        """Until results wait: more than those that were delivered a moment ago, and are not deleted yet."""
        self.wait(lambda: len(self.kept()) > KEPT_ROWS, "nothing is kept")

    def broker_returns(self) -> None:
        """Starts it again. The agent finds it only once those who listen are back: what they miss cannot be counted."""
        connected = self.arm.log.count("arm_connected")
        self.proxy.refuse()
        self.broker.start()
        self.listener.wait_until_back(20)
        self.wait(lambda: self.arm.log.count("arm_connected") > connected, "the arm does not come back")
        alarms = [said["code"] for said, _ in self.arm.lines if said["kind"] == "alarm"]
        assert alarms[-1] == "agent_lost", "what the broker had kept is no sign of life"
        self.proxy.heal()

    def recovered(self, patience_s: float = 30) -> None:
        """Parts that were captured since now are acted on and recorded, and the agent says that it judges."""
        now_s = time.monotonic()
        self.wait(lambda: self._has_acted_since(now_s), "no verdict is acted on", patience_s)
        self.wait(lambda: self._has_recorded_since(now_s), "no result arrives", patience_s)
        self.wait(lambda: self.state() in JUDGES, "it does not say that it judges", patience_s)

    def _has_acted_since(self, since_s: float) -> bool:
        return any(said["action"] != "none" and said["received_mono_ms"] / 1000 > since_s for said in self.acted())

    def _has_recorded_since(self, since_s: float) -> bool:
        heard, offset_s = self.listener.on("result/top"), time.time() - time.monotonic()
        return bool(heard) and utc_s(heard[-1].json["captured_at"]) - offset_s > since_s

    # ---- the end

    def settled(self, killed: Sequence[str] = ()) -> Account:
        """Stops the agent politely, waits until all of it has arrived, and checks what must hold after every fault."""
        self.agent.send(signal.SIGTERM)
        assert self.agent.ended(20) == 0, self.agent.log()
        words = [json.loads(said) for said in self.agent.log().splitlines() if '"event": "stopped"' in said]
        left, parts = self.kept(), words[-1]["parts"]
        session = str((left or self.results())[-1]["session"])
        self.listener.hear_out(f"{ROOT}/health")  # which every ACL allows
        self.arm.stop()
        evidence = Evidence(
            verdicts=[heard.json for heard in self.listener.on("verdict/top")],
            results=self.results(),
            results_left=left,
            events=self.events(),
            events_left=self.kept("event"),
            said_by_arm=[said for said, _ in self.arm.lines],
            parts={session: parts},
            killed=killed,
        )
        account = check_promises(evidence)
        print(account.in_words())  # noqa: T201 - for whoever asks with -s
        return account


@contextlib.contextmanager
def running_rig(
    folder: Path, broker_config: str = "", *, records: str = "", words: Sequence[str] = ()
) -> Iterator[Rig]:
    """Broker, listener and proxies; `Rig.start` adds arm and agent."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(running_broker(folder, broker_config))
        listener = stack.enter_context(Listener(broker.port, "factory/#"))
        proxies = [stack.enter_context(running_proxy(broker.port)) for _ in range(2)]
        yield Rig(folder, broker, listener, *proxies, stack, words, records)
