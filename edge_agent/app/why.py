"""The story of one verdict, from what the flight recorder kept of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

from edge_agent.app.flight import Flight
from edge_agent.app.flight_lines import About
from edge_agent.errors import UsageError
from edge_agent.runtime.flight_records import Record

AROUND_NS = 2_000_000_000
AFTER_NS = 60_000_000_000  # an ack may come so late, or a picture
WORDS = ("pass", "reject", "unknown")
EVIDENCE = "evidence"


@dataclass(frozen=True, slots=True)
class Question:
    """Which part somebody asks about: its id, its verdict's number, its trigger's id, or the last one of some kind."""

    word: str
    camera: str | None = None
    session: str | None = None  # or its first letters

    def names_one(self, result: Mapping[str, Any]) -> bool:
        """Whether no other part of the session can be meant: numbers and triggers' ids may be those of several cameras."""
        return self.word.split()[0] == "last" or self.word == result["part_id"]

    def admits(self, record: Record) -> bool:
        """Whether it may be this one, going by camera and session."""
        is_camera = self.camera in (None, record.body.get("camera"))
        letters = min(len(self.session or ""), len(record.session))
        return is_camera and (self.session is None or record.session[:letters] == self.session[:letters])

    def means(self, result: Mapping[str, Any]) -> bool:
        """Whether it is this one, going by the word."""
        words = self.word.split()
        if words[0] == "last":
            return len(words) == 1 or result["verdict"] == words[1]
        names = [result["part_id"], str(result["verdict_seq"]), result.get("trigger_id")]
        return self.word in names


@dataclass(slots=True)
class Story:
    """All that is known of one verdict.

    Attributes:
        result: the message `result`, as it is or would be published.
        setting: by what it was judged; None where that was not kept.
        fates: what became of it, in order: `receipt`, `unsent`, `ack`, `ack_missing`, `picture`.
        around: entries of the log of two seconds before and after.
        picture: the file, where it is still there.
    """

    record: Record
    setting: dict[str, Any] | None = None
    fates: list[Record] = field(default_factory=list)
    around: list[Record] = field(default_factory=list)
    picture: Path | None = None

    @property
    def result(self) -> dict[str, Any]:
        """The message."""
        return self.record.body

    @property
    def captured_at(self) -> datetime:
        """When its frame was, or without one its trigger."""
        return datetime.fromisoformat(self.result["captured_at"].replace("Z", "+00:00"))

    @property
    def captured_ns(self) -> int:
        """The same on the monotonic clock of its session."""
        return self.record.mono_ns - (self.record.at - self.captured_at) // timedelta(microseconds=1) * 1000

    @property
    def judged_at(self) -> datetime:
        """When its verdict was made; the result may have been written later."""
        return self.captured_at + timedelta(milliseconds=self.result["latency_ms"]["total"])

    @property
    def about(self) -> About:
        """Which part it is."""
        return About.of(self.record)

    @property
    def rules(self) -> list[dict[str, Any]]:
        """Those of its camera; empty where they are not known."""
        return list(self._camera.get("rules", ()))

    @property
    def trigger(self) -> str | None:
        """The kind of its camera's."""
        return self._camera.get("trigger")

    @property
    def _camera(self) -> dict[str, Any]:
        found: dict[str, Any] = (self.setting or {}).get("cameras", {}).get(self.result["camera"], {})
        return found


def check_word(word: str) -> None:
    """Raises `UsageError` where nobody can be meant."""
    words = word.split()
    if not words:
        raise UsageError("name a part: its id (top-1834), its verdict's number (1834), its trigger's id, or last")
    if words[0] == "last" and (len(words) > 2 or (words[1:2] and words[1] not in WORDS)):  # noqa: PLR2004 - two words
        raise UsageError(f"{word!r}: say last, or last with one of {', '.join(WORDS)}")


def find(flight: Flight, question: Question) -> Record:
    """The newest part that is meant.

    Raises:
        UsageError: there is none, or several cameras have one.
    """
    check_word(question.word)
    found: list[Record] = []
    for record in _results(flight.newest_first()):
        if found and record.session != found[0].session:
            break
        if question.admits(record) and question.means(record.body):
            found.append(record)
            if question.names_one(record.body):
                return found[0]
    cameras = list(dict.fromkeys(record.body["camera"] for record in found))
    if len(cameras) > 1:
        raise UsageError(f"{question.word}: cameras {', '.join(cameras)} have it: choose one with --camera")
    if found:
        return found[0]
    raise UsageError(f"{question.word}: no such part was recorded; {_what_there_is(flight)}")


def tell(flight: Flight, record: Record) -> Story:
    """All of it."""
    story = Story(record)
    about, since_ns = story.about, story.captured_ns - AROUND_NS
    near_ns = story.captured_ns + int(story.result["latency_ms"]["total"] * 1e6) + AROUND_NS
    for other in _neighbours(flight, record, since_ns):
        if other.kind == "log" and (other.mono_ns <= near_ns or about.is_in(other)):
            story.around.append(other)
        elif other.kind not in ("log", "result") and about.is_in(other):
            story.fates.append(other)
    for setting in flight.of_kind("setting"):
        if setting.body.get("config_sha256") == story.result["config_sha256"]:
            story.setting = setting.body
    story.picture = _picture(flight, story.fates)
    return story


def _neighbours(flight: Flight, record: Record, since_ns: int) -> list[Record]:
    """Those of the same session from then on, for as long as something may be told of it."""
    before, after = flight.beside(record)
    earlier = list(takewhile(lambda one: one.session == record.session and one.mono_ns >= since_ns, before))
    until_ns = record.mono_ns + AFTER_NS
    later = takewhile(lambda one: one.session == record.session and one.mono_ns <= until_ns, after)
    return [*reversed(earlier), *later]


def _results(records: Iterable[Record]) -> Iterator[Record]:
    return (record for record in records if record.kind == "result")


def _picture(flight: Flight, fates: Iterable[Record]) -> Path | None:
    names = [fate.body.get("file") for fate in fates if fate.kind == "picture"]
    files = [flight.path.parent / EVIDENCE / Path(str(name)).name for name in names]
    return next((file for file in files if file.exists()), None)


def _what_there_is(flight: Flight) -> str:
    """`there are top-12 to top-1834, and earlier sessions`."""
    newest: dict[str, Record] = {}
    oldest: dict[str, Record] = {}
    for record in _results(flight.records()):
        camera = record.body["camera"]
        newest[camera] = record
        if camera not in oldest or oldest[camera].session != record.session:
            oldest[camera] = record
    spans = [f"{oldest[camera].body['part_id']} to {record.body['part_id']}" for camera, record in newest.items()]
    return f"of the last session there are {', '.join(spans)}" if spans else "there are no verdicts in it yet"
