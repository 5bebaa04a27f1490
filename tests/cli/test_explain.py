import json

import pytest
import typer
from typer.testing import CliRunner

from edge_agent.app.doctor import CHECKS
from edge_agent.catalogue import KINDS, entries, message_ids
from edge_agent.catalogue.text import journal_catalogue
from edge_agent.cli.explain import EPILOG, explain
from edge_agent.errors import UsageError

APP = typer.Typer()
APP.command(epilog=EPILOG)(explain)


def run(*words):
    return CliRunner().invoke(APP, words)


def test_an_event_is_explained_with_what_to_do():
    said = run("camera_lost").stdout
    assert said.startswith("camera_lost: A camera gives no pictures any more")
    assert "event (alarm), reason of a state" in said
    assert "\n- Look at the camera's cable" in said
    assert f"journalctl MESSAGE_ID={message_ids()['camera_lost']}" in said


def test_a_reason_is_explained_with_the_camera_that_it_names():
    assert run("camera_lost:top").stdout.startswith("camera_lost:top: A camera")


def test_a_message_id_of_the_journal_is_explained():
    assert run(message_ids()["ready"]).stdout.startswith("ready: ")


def test_an_exit_code_is_explained_and_has_no_message_id():
    said = run("78").stdout
    assert "edge-agent check --config" in said
    assert "MESSAGE_ID" not in said


def test_an_unknown_word_is_a_usage_error_with_the_nearest():
    error = run("camera_lots").exception
    assert isinstance(error, UsageError)
    assert "did you mean camera_lost" in str(error)


def test_without_a_word_all_are_listed_by_what_they_are():
    said = run().stdout
    assert [line.strip() for line in said.splitlines() if line.strip() in KINDS.values()] == list(KINDS.values())
    assert all(entry.name in said for entry in entries().values())


def test_json_is_one_document():
    found = json.loads(run("camera_lost:top", "--json").stdout)
    assert (found["name"], found["kinds"], found["severity"]) == ("camera_lost", ["event", "reason"], "alarm")
    assert found["message_id"] == message_ids()["camera_lost"]
    assert found["do"]


def test_json_without_a_word_has_all():
    names = [entry["name"] for entry in json.loads(run("--json").stdout)]
    assert names == [*entries(), *(check.name for check in CHECKS)]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_check_of_doctor_is_explained(check):
    said = " ".join(run(check.name).stdout.split())
    assert said.startswith(f"{check.name}: Finds {check.tells}")
    assert f"It looks at the {check.group}" in said
    assert "edge-agent doctor --all" in said


def test_catalog_prints_the_file_for_the_journal():
    assert run("--catalog").stdout == journal_catalogue()


@pytest.mark.parametrize("words", [("--catalog", "ready"), ("--catalog", "--json")])
def test_catalog_stands_alone(words):
    assert isinstance(run(*words).exception, UsageError)
