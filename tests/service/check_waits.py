"""What takes long is waited for together: threads that hang, and lines where nothing happens."""

import json
import re
import time
from dataclasses import dataclass, field
from subprocess import Popen

from tests.service.bench import Bench
from tests.service.container import wait_until
from tests.service.lines import BY_INPUT_LINE, BY_MESSAGE, NO_CAMERA, SELDOM, Instance, configuration

HANGS = {
    "MainThread": ("hang-main", "edge_agent.runtime.agent"),
    "capture-top": ("hang-capture", "edge_agent.cameras"),
    "pipeline": ("hang-pipeline", "edge_agent.backends"),
    "timer": ("hang-timer", "edge_agent.runtime.timer"),
    "outbox": ("hang-outbox", "edge_agent.runtime.outbox"),
    "link-line": ("hang-link-line", "edge_agent.publishers"),
    "link-records": ("hang-link-records", "edge_agent.publishers"),
    "sensing-top": ("hang-sensing", "edge_agent.runtime.sensing"),
}
"""Of each thread the instance in which it hangs, and the module: where it may wait for a driver or a connection."""

BESIDE_THE_LINE = ("recorder", "recorder-sync", "evidence", "status-socket", "status-file", "metrics-file", "audit")
"""Threads that the line does not depend on."""

QUIET = {
    "idle": ("no part comes", {"trigger": BY_MESSAGE}),
    "no-camera": ("there is no camera", {"camera": NO_CAMERA}),
    "no-broker": ("nothing listens where the broker should be", {"broker": 'host = "localhost"\nport = 18830'}),
    "no-name": ("the broker's name is not known", {"broker": 'host = "broker.invalid"'}),
    "hang-beside": (f"these hang: {', '.join(BESIDE_THE_LINE)}", {}),
}
"""Instances that must not be restarted, with why they might be."""

RESTART_MOST_S = 60.0  # a thread may stand still for 20 s, then the watchdog waits for 10
QUIET_AT_LEAST_S = 45.0
JOURNAL_S = 15.0  # what a process said last may come after the news of its end


@dataclass(slots=True)
class Waits:
    """Begun early, looked at late; in between there is time for other checks."""

    bench: Bench
    hung_s: dict[str, float] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    quiet_since_s: float = 0.0
    heard: "Popen[str] | None" = None

    def begin(self) -> None:
        """Starts all instances, and has the threads hang."""
        self.bench.report.section("Threads that hang, lines where nothing happens (all at once)")
        with self.bench.report.check(f"{len(HANGS) + len(QUIET)} more instances become ready side by side") as notes:
            self._start_all()
            notes.append(self._memory())
        for thread, (name, module) in HANGS.items():
            self.bench.container.write(f"/run/edge-agent/{name}/hang", f"{thread} {module}\n")
            self.hung_s[thread] = time.monotonic()
        lines = "".join(f"{thread} edge_agent\n" for thread in BESIDE_THE_LINE)
        self.bench.container.write("/run/edge-agent/hang-beside/hang", lines)
        self.heard = self.bench.instance(HANGS["pipeline"][0]).listen("verdict/top", int(RESTART_MOST_S))

    def _start_all(self) -> None:
        names = [*(name for name, _ in HANGS.values()), *QUIET]
        for thread, (name, _) in HANGS.items():
            trigger = {"trigger": BY_INPUT_LINE} if thread.startswith("sensing") else {}
            self.bench.instance(name).configure(configuration(name, camera=SELDOM, **trigger))
        for name, (_, options) in QUIET.items():
            self.bench.instance(name).configure(configuration(name, **{"camera": SELDOM, **options}))
        instances = [self.bench.instance(name) for name in names]
        self.bench.container.run("systemctl", "start", *[one.unit for one in instances], timeout_s=120)
        for instance in instances:
            instance.wait_active()
        self.pids = {instance.name: instance.pid() for instance in instances}
        self.quiet_since_s = time.monotonic()

    def _memory(self) -> str:
        """Resident, shared pages counted in proportion."""
        sizes = []
        for pid in self.pids.values():
            text = self.bench.container.run("cat", f"/proc/{pid}/smaps_rollup", check=False).stdout
            sizes += [int(row.split()[1]) / 1024 for row in text.splitlines() if row.startswith("Pss:")]
        return f"{len(sizes)} processes with {sum(sizes) / len(sizes):.0f} MB each" if sizes else "memory not readable"

    def finish(self) -> None:
        """Waits for what is not there yet."""
        self.bench.report.section("Threads that hung, lines where nothing happened")
        for thread, (name, _) in HANGS.items():
            with self.bench.report.check(f"the watchdog restarts it when the thread {thread} hangs") as notes:
                notes.append(self._wait_for_restart(thread, self.bench.instance(name)))
        with self.bench.report.check(
            "while the engine hangs, the part in it gets unknown(deadline_missed) all the same"
        ):
            assert self.heard, "nobody listened"
            verdicts = [json.loads(line) for line in self.heard.communicate(timeout=RESTART_MOST_S)[0].splitlines()]
            reasons = [verdict["reasons"][0] for verdict in verdicts if verdict["verdict"] == "unknown"]
            assert "deadline_missed" in str(reasons), f"{len(verdicts)} verdicts, reasons of unknown: {reasons}"
        time.sleep(max(0.0, self.quiet_since_s + QUIET_AT_LEAST_S - time.monotonic()))
        for name, (why, _) in QUIET.items():
            with self.bench.report.check(f"no restart while {why}") as notes:
                notes.append(self._still_up(self.bench.instance(name)))
        for name in self.pids:
            self.bench.instance(name).forget()

    def _wait_for_restart(self, thread: str, instance: Instance) -> str:
        container = self.bench.container
        left_s = self.hung_s[thread] + RESTART_MOST_S - time.monotonic()
        wait_until(instance.restarts, max(1.0, left_s), f"{instance.unit} is started again: {instance.facts()}")
        instance.wait_active()
        wait_until(
            lambda: "hang_hook.py" in container.journal_text(instance.unit),
            JOURNAL_S,
            "the journal has a stack of the thread that hangs",
        )
        text = container.journal_text(instance.unit)
        hung = re.search(rf"thread {thread} hangs in (\S+), on purpose", text)
        assert hung, "the thread was not made to hang"
        assert "Watchdog timeout" in text, f"it was not the watchdog:\n{instance.last_words()}"
        assert instance.restarts() == 1, f"{instance.restarts()} restarts"
        return f"after {self._seconds(instance):.0f} s in {hung[1]}"

    def _seconds(self, instance: Instance) -> float:
        """From the hang to systemd's word that it has ended it."""
        entries = self.bench.container.journal(instance.unit, "+", f"UNIT={instance.unit}")
        times = [
            int(entry["__REALTIME_TIMESTAMP"]) / 1e6
            for entry in entries
            if "on purpose" in str(entry["MESSAGE"]) or "Watchdog timeout" in str(entry["MESSAGE"])
        ]
        return times[1] - times[0]

    def _still_up(self, instance: Instance) -> str:
        facts = instance.facts()
        assert facts["ActiveState"] == "active", str(facts)
        assert facts["NRestarts"] == "0", f"{facts}\n{instance.last_words()}"
        assert int(facts["MainPID"]) == self.pids[instance.name], "the process is another one"
        if instance.name == "hang-beside":
            hung = set(re.findall(r"thread (\S+) hangs in", self.bench.container.journal_text(instance.unit)))
            assert hung, "no thread was made to hang"
            assert instance.message("verdict/top")["verdict"] in {"pass", "reject"}, "no verdicts any more"
            facts["StatusText"] += f"; hung: {', '.join(sorted(hung))}"
        return f"for {time.monotonic() - self.quiet_since_s:.0f} s: {facts['StatusText']}"
