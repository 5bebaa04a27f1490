"""Tells what happened to the way in: inputs lost, subscriptions refused, messages refused, connections thrown out."""

import math
from collections.abc import Mapping

from edge_agent.runtime.inbound import Inbound
from edge_agent.runtime.link import Link
from edge_agent.runtime.reporter import Reporter, Severity
from edge_agent.runtime.sensing import Sensing, SensorLost
from edge_agent.runtime.summons import Summons

GATHER_S = 10.0  # after the first, so that a flood is one event


class InputsWatch:
    """`report` belongs to one thread."""

    def __init__(
        self,
        inbound: Inbound,
        sensings: Mapping[str, Sensing],
        summons: Mapping[str, Summons],
        links: Mapping[str, Link],
        reporter: Reporter,
    ) -> None:
        self._inbound, self._sensings, self._summons, self._links = inbound, sensings, summons, links
        self._reporter = reporter
        self._due_s = -math.inf
        self._uncalled = dict.fromkeys(summons, 0)
        self._refused: dict[str, str] = {}
        self._unstable: set[str] = set()
        self._connections: dict[str, int] = dict.fromkeys(links, 0)

    def report(self, now_s: float, *, is_last: bool = False) -> None:
        """An event for everything that is new. `now_s` is monotonic."""
        for sensing in self._sensings.values():
            self._report_sensing(sensing)
        self._report_subscriptions()
        for name, link in self._links.items():
            self._report_lives(name, link)
            self._report_outage(name, link)
        if now_s >= self._due_s or is_last:
            self._report_refusals(now_s)

    def _report_sensing(self, sensing: Sensing) -> None:
        while not sensing.notices.empty():
            notice = sensing.notices.get()
            if isinstance(notice, SensorLost):
                text = f"the trigger of camera {notice.camera} is lost: {notice.reason}"
                data = {"camera": notice.camera, "reason": notice.reason}
                self._reporter.event("trigger_lost", "alarm", text, data)
            else:
                back = {"camera": notice.camera, "outage_s": round(notice.outage_s, 3)}
                self._reporter.event("trigger_back", "info", f"the trigger of camera {notice.camera} is back", back)

    def _report_subscriptions(self) -> None:
        refused = {topic: reason for link in self._links.values() for topic, reason in link.refused.items()}
        for topic, reason in refused.items():
            if topic not in self._refused:
                text = f"the broker does not let the agent subscribe: {reason}"
                self._reporter.event("subscription_refused", "alarm", text, {"topic": topic, "reason": reason})
        for topic in self._refused.keys() - refused.keys():
            text = "the broker lets the agent subscribe again"
            self._reporter.event("subscription_granted", "info", text, {"topic": topic})
        self._refused = refused

    def _report_lives(self, name: str, link: Link) -> None:
        if link.is_unstable and name not in self._unstable:
            self._unstable.add(name)
            times = link.short_lives
            text = (
                f"connection {name} was ended {times} times soon after it stood: does another device use the same id?"
            )
            self._reporter.event("connection_unstable", "alarm", text, {"link": name, "times": times})
        elif link.short_lives == 0 and name in self._unstable:
            self._unstable.remove(name)
            self._reporter.event("connection_stable", "info", f"connection {name} lasts again", {"link": name})

    def _report_outage(self, name: str, link: Link) -> None:
        """An outage costs what others sent meanwhile, and verdicts; the first connection ends none."""
        before, now = self._connections[name], link.connections
        self._connections[name] = now
        if before and now > before:
            data = {"link": name, "outage_s": round(link.outage_s, 3), "reason": link.outage_reason}
            self._reporter.event("connection_back", "info", f"connection {name} is back", data)

    def _report_refusals(self, now_s: float) -> None:
        for refusal in self._inbound.refusals.take():
            self._due_s = now_s + GATHER_S
            text = f"messages that came in were refused: {refusal.count} times {refusal.outcome} {refusal.why}".rstrip()
            severity: Severity = "alarm" if "/trigger/" in refusal.topic else "warning"
            self._reporter.event("inbound_refused", severity, text, refusal.data())
        for camera, summons in self._summons.items():
            count = summons.uncalled - self._uncalled[camera]
            if count:
                self._due_s = now_s + GATHER_S
                self._uncalled[camera] += count
                text = f"{count} edges of the trigger of camera {camera} were lost, and are not even parts"
                self._reporter.event("triggers_lost", "alarm", text, {"camera": camera, "count": count})
