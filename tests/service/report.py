"""A line for each check as it ends: what, how it went, how long it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["ok", "failed", "skipped"]


class CheckSkippedError(Exception):
    """It cannot be tried here; the text says why."""


class OutOfTimeError(BaseException):
    """The time for the whole run is over; no check may catch it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One check that has ended. `note` is why it failed or was skipped, or what was measured."""

    title: str
    outcome: Outcome
    note: str
    seconds: float


@dataclass(slots=True)
class Report:
    """Collects and prints. A check that fails does not keep the next from running."""

    lines: list[Line] = field(default_factory=list)
    started_s: float = field(default_factory=time.monotonic)

    @contextmanager
    def check(self, title: str) -> Iterator[list[str]]:
        """Runs the body as one check. What the body appends to the list is noted beside the outcome."""
        notes: list[str] = []
        begun_s = time.monotonic()
        outcome: Outcome = "ok"
        try:
            yield notes
        except CheckSkippedError as reason:
            outcome = "skipped"
            notes.append(str(reason))
        except OutOfTimeError:
            self._add(Line(title, "failed", "the time for the whole run was over", time.monotonic() - begun_s))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, it is this check's failure
            outcome = "failed"
            notes.append(str(error) or type(error).__name__)
            if not isinstance(error, AssertionError):
                notes[-1] = f"{type(error).__name__}: {notes[-1]}"
        self._add(Line(title, outcome, "; ".join(notes), time.monotonic() - begun_s))

    def skip(self, title: str, reason: str) -> None:
        """A check that was not begun."""
        self._add(Line(title, "skipped", reason, 0.0))

    def section(self, title: str) -> None:
        """A heading between the lines."""
        print(f"\n{title}", flush=True)

    def conclude(self) -> int:
        """Prints the sum, and what failed again. Returns the exit code."""
        counts = {
            outcome: sum(line.outcome == outcome for line in self.lines) for outcome in ("ok", "failed", "skipped")
        }
        words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        print(f"\n{words}; {time.monotonic() - self.started_s:.0f} s")
        for line in self.lines:
            if line.outcome == "failed":
                print(f"FAILED: {line.title}: {line.note}")
        return 1 if counts["failed"] or not counts["ok"] else 0

    def _add(self, line: Line) -> None:
        self.lines.append(line)
        print(f"  {line.outcome:<8}{line.seconds:6.1f} s  {line.title}", flush=True)
        if line.note:
            print("\n".join(" " * 19 + row for row in line.note.splitlines()), flush=True)
