"""What takes long is waited for together: threads that hang, and lines where nothing happens."""

import time
from dataclasses import dataclass, field

from tests.service.bench import Bench
from tests.service.container import wait_until
from tests.service.lines import BY_INPUT_LINE, BY_MESSAGE, NO_CAMERA, Instance, configuration

HANGS = {
    "MainThread": "hang-main",
    "capture-top": "hang-capture",
    "pipeline": "hang-pipeline",
    "timer": "hang-timer",
    "outbox": "hang-outbox",
    "link-line": "hang-link-line",
    "link-records": "hang-link-records",
    "sensing-top": "hang-sensing",
}
"""The instance in which each thread hangs."""

QUIET = {
    "idle": ("no part comes", {"trigger": BY_MESSAGE}),
    "no-camera": ("there is no camera", {"camera": NO_CAMERA}),
    "no-broker": ("nothing listens where the broker should be", {"broker": 'host = "localhost"\nport = 18830'}),
    "no-name": ("the broker's name is not known", {"broker": 'host = "broker.invalid"'}),
}
"""Instances that must not be restarted, with why they might be."""

RESTART_MOST_S = 60.0  # a thread may stand still for 20 s, then the watchdog waits for 10
QUIET_AT_LEAST_S = 45.0


@dataclass(slots=True)
class Waits:
    """Begun early, looked at late; in between there is time for other checks."""

    bench: Bench
    hung_s: dict[str, float] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    quiet_since_s: float = 0.0

    def begin(self) -> None:
        """Starts all instances, and has the threads hang."""
        self.bench.report.section("Threads that hang, lines where nothing happens (all at once)")
        with self.bench.report.check(f"{len(HANGS) + len(QUIET)} more instances become ready side by side") as notes:
            self._start_all()
            notes.append(self._memory())
        for thread, name in HANGS.items():
            self.bench.container.write(f"/run/edge-agent/{name}/hang", thread)
            self.hung_s[thread] = time.monotonic()

    def _start_all(self) -> None:
        names = [*HANGS.values(), *QUIET]
        for thread, name in HANGS.items():
            trigger = {"trigger": BY_INPUT_LINE} if thread.startswith("sensing") else {}
            self.bench.instance(name).configure(configuration(name, **trigger))
        for name, (_, options) in QUIET.items():
            self.bench.instance(name).configure(configuration(name, **options))
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
        for thread, name in HANGS.items():
            with self.bench.report.check(f"the watchdog restarts it when the thread {thread} hangs") as notes:
                notes.append(self._wait_for_restart(thread, self.bench.instance(name)))
        time.sleep(max(0.0, self.quiet_since_s + QUIET_AT_LEAST_S - time.monotonic()))
        for name, (why, _) in QUIET.items():
            with self.bench.report.check(f"no restart while {why}") as notes:
                notes.append(self._still_up(self.bench.instance(name)))
        for name in (*HANGS.values(), *QUIET):
            self.bench.instance(name).forget()

    def _wait_for_restart(self, thread: str, instance: Instance) -> str:
        container = self.bench.container
        left_s = self.hung_s[thread] + RESTART_MOST_S - time.monotonic()
        wait_until(instance.restarts, max(1.0, left_s), f"{instance.unit} is started again: {instance.facts()}")
        instance.wait_active()
        text = container.journal_text(instance.unit)
        assert f"thread {thread} hangs, on purpose" in text, "the thread was not made to hang"
        assert "Watchdog timeout" in text, f"it was not the watchdog:\n{instance.last_words()}"
        assert "hang_hook.py" in text, "the journal has no stack of the thread that hangs"
        assert instance.restarts() == 1, f"{instance.restarts()} restarts"
        return f"after {self._seconds(instance):.0f} s"

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
        return f"for {time.monotonic() - self.quiet_since_s:.0f} s: {facts['StatusText']}"
