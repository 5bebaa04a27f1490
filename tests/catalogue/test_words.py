"""Every word that the agent says has an entry, and every entry is of a word that it says."""

import re
from typing import get_args

import pytest
import typer.main

from edge_agent.actuator import judge
from edge_agent.catalogue import KINDS, entries
from edge_agent.cli import app
from edge_agent.core.health_judge import Fault
from edge_agent.runtime.desk import LAPSES
from edge_agent.runtime.inbound import Outcome
from edge_agent.runtime.reporter import Severity
from edge_agent.wire.messages import State, UnknownCode, VerdictWord
from tests.fixtures import REPO

MESSAGES = (REPO / "docs" / "messages.md").read_text()
OPERATIONS = (REPO / "docs" / "operations.md").read_text()
FLIGHT_LINES = (REPO / "edge_agent" / "app" / "flight_lines.py").read_text()
ENTRIES = entries().values()


def of_kind(kind):
    return {entry.name for entry in ENTRIES if kind in entry.kinds}


def first_column(text, after):
    """The words in backticks that begin the rows of the first table after some words."""
    rows = text[text.index(after) :].split("\n\n", 2)[1].split("\n")[2:]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


def published():
    """Each event's code, with its severity."""
    return dict(re.findall(r"(?m)^\| `(\w+)` \| (info|warning|alarm|likewise) \|", MESSAGES))


def logged():
    """What the log alone says. That both tables are complete is shown by the tests of the documents."""
    rows = OPERATIONS[OPERATIONS.index("| event | level |") :].split("\n\n")[0].split("\n")[2:]
    return {event for row in rows for event in re.findall(r"`(\w+)`", row.split("|")[1])} - published().keys()


def reasons():
    """What `health.py` and those it asks may give as a reason of a state."""
    source = (REPO / "edge_agent" / "runtime" / "health.py").read_text()
    words = re.findall(r"reasons\.append\(f?\"(\w+)", source) + re.findall(r"f\"(\w+):\{", source)
    words += re.findall(r"_recent\(\"(\w+)\"", source) + re.findall(r"\(\"(\w+)\",\) if ", source)
    return {*words, *LAPSES}


def test_every_event_that_is_published_has_an_entry():
    assert published().keys() - of_kind("event") == set(), "write it into edge_agent/catalogue/events.toml"
    assert of_kind("event") - published().keys() == set()


def test_an_event_has_the_severity_that_it_is_published_with():
    assert {entry.name: entry.severity for entry in ENTRIES if entry.severity} == published()


def test_every_event_of_the_log_has_an_entry():
    assert logged() - of_kind("log") == set(), "write it into edge_agent/catalogue/log.toml"
    assert of_kind("log") - logged() == set()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("state", get_args(State)),
        ("unknown", get_args(UnknownCode)),
        ("verdict", get_args(VerdictWord)),
        ("fault", get_args(Fault)),
        ("severity", get_args(Severity)),
        ("refused", set(get_args(Outcome)) - {"accepted"}),
        ("unsent", first_column(MESSAGES, "An event gives the range and the\nreason:")),
        ("record", re.findall(r'Line\(\s*"\w+", "(\w+)"', FLIGHT_LINES)),
        ("exit", set(re.findall(r"(?m)^\| (\d+) \|", OPERATIONS))),
    ],
)
def test_every_word_of_a_kind_has_an_entry(kind, words):
    assert of_kind(kind) == set(words)


def test_every_word_of_the_reject_arm_has_an_entry():
    told = first_column(MESSAGES, "A dropped message of another kind has a line of that `kind`. `why`:")
    alarms = set(re.findall(r"`(\w+)`", judge.Alarm.__doc__))
    assert of_kind("arm") == told | alarms | {"not_said"}


def test_every_reason_of_a_state_has_an_entry():
    assert reasons() - of_kind("reason") == set()


def test_every_reason_that_has_an_entry_stands_in_the_table_of_states():
    table = MESSAGES[MESSAGES.index("## `state`") : MESSAGES.index("## `heartbeat`")]
    told = set(re.findall(r"`(\w+)(?::[^`]*)?`", table))
    assert of_kind("reason") - told == set()


def test_every_entry_is_of_a_known_kind():
    assert {kind for entry in ENTRIES for kind in entry.kinds} == set(KINDS) - {"check"}  # doctor has those


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_text_is_short_and_ends_its_sentences(entry):
    assert len(entry.title) <= 90
    assert not entry.title.endswith(".")
    assert 20 < len(entry.meaning) < 600 or entry.meaning in ("All is well.", "It was not taken.", "Nothing is wrong.")
    assert all(text.endswith((".", "?", "`", ")")) for text in (entry.meaning, *entry.do))


def test_an_alarm_says_what_to_do():
    assert [entry.name for entry in ENTRIES if entry.severity == "alarm" and not entry.do] == []


def commands():
    texts = [text for entry in ENTRIES for text in (entry.meaning, *entry.do)]
    return sorted({line for text in texts for line in re.findall(r"`edge-agent ([^`]+)`", text)})


@pytest.mark.parametrize("line", commands())
def test_a_command_that_a_text_names_is_there_with_its_options(line):
    name, *words = line.split()
    command = typer.main.get_command(app).commands[name]
    if hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("-") and word not in options] == []


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if {"reason", "exit"} & {*entry.kinds}], ids=lambda e: e.name
)
def test_what_status_advises_is_a_step_further_than_status(entry):
    assert not any("`edge-agent status`" in step for step in entry.do[:1])


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("explain ")])
def test_a_text_points_only_to_entries_that_are_there(line):
    assert line.split()[1] in entries() or line.split()[1].isupper()


def test_documents_that_a_text_names_are_there():
    texts = [text for entry in ENTRIES for text in (entry.meaning, *entry.do)]
    named = {page for text in texts for page in re.findall(r"docs/[\w.]+?\.md", text)}
    assert named
    assert [page for page in named if not (REPO / page).exists()] == []
