"""Tells what happened to the records: kept in memory, dropped, refused, unheard, set aside, broken."""

import math

from edge_agent.runtime.outbox import Kind, Outbox
from edge_agent.runtime.reporter import Reporter

LOSSES_S = 60.0  # after the first, they are gathered for so long: in a full outbox each event costs a result
UNHEARD_S = 60.0  # whoever listens comes and goes


class RecordsWatch:
    """`report` belongs to one thread. It compares what the outbox shows with what was told last."""

    def __init__(self, outbox: Outbox, reporter: Reporter) -> None:
        self._outbox, self._reporter = outbox, reporter
        self._in_memory_since_s: float | None = None
        self._refused: dict[Kind, int] = {}
        self._unheard: frozenset[Kind] = frozenset()
        self._losses_due_s = self._unheard_due_s = -math.inf

    def report(self, now_s: float, *, is_last: bool = False) -> None:
        """An event for everything that is new. `now_s` is monotonic."""
        self._report_disk(now_s)
        self._report_refusals()
        if now_s >= self._unheard_due_s:
            self._report_audience(now_s)
        if now_s >= self._losses_due_s or is_last:
            self._report_losses(now_s)

    def _report_disk(self, now_s: float) -> None:
        for broken in self._outbox.quarantined():
            text = f"the file of the records could not be used: {broken.reason}"
            data = {"file": broken.file, "reason": broken.reason, "rows": broken.rows}
            self._reporter.event("records_broken", "alarm", text, data)
        trouble = self._outbox.trouble
        if trouble is not None and self._in_memory_since_s is None:
            self._in_memory_since_s = now_s
            text = f"records are kept in memory only: {trouble}"
            self._reporter.event("records_in_memory", "alarm", text, {"reason": trouble})
        elif trouble is None and self._in_memory_since_s is not None:
            data = {"outage_s": round(now_s - self._in_memory_since_s, 3)}
            self._in_memory_since_s = None
            self._reporter.event("records_on_disk", "info", "records are kept on disk again", data)

    def _report_refusals(self) -> None:
        refused = dict(self._outbox.refused)
        for kind, code in refused.items():
            if kind not in self._refused:
                text = f"the broker refuses the {kind}s (0x{code:02x}); they wait"
                self._reporter.event("records_refused", "alarm", text, {"kind": kind, "code": code})
        for kind in self._refused.keys() - refused.keys():
            self._reporter.event("records_accepted", "info", f"the broker takes the {kind}s again", {"kind": kind})
        self._refused = refused

    def _report_audience(self, now_s: float) -> None:
        unheard = frozenset(self._outbox.unheard)
        if unheard == self._unheard:
            return
        self._unheard_due_s = now_s + UNHEARD_S
        for kind in sorted(unheard - self._unheard):
            text = f"nobody subscribes to the {kind}s; they count as delivered"
            self._reporter.event("records_unheard", "warning", text, {"kind": kind})
        for kind in sorted(self._unheard - unheard):
            self._reporter.event("records_heard", "info", f"somebody subscribes to the {kind}s again", {"kind": kind})
        self._unheard = unheard

    def _report_losses(self, now_s: float) -> None:
        for loss in self._outbox.losses():
            self._losses_due_s = now_s + LOSSES_S
            if loss.reason.startswith("set aside"):
                text = f"{loss.count} records were {loss.reason}"
                self._reporter.event("records_set_aside", "alarm", text, loss.data())
            else:
                text = f"{loss.count} records were dropped to stay within limits ({loss.reason})"
                self._reporter.event("records_dropped", "alarm", text, loss.data())
