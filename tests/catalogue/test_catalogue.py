import re

import pytest

from edge_agent.catalogue import entries, lookup, message_ids
from edge_agent.errors import EX_USAGE, UsageError
from tests.fixtures import REPO

RECORDED = REPO / "tests" / "data" / "message_ids.txt"


@pytest.mark.parametrize(
    "word",
    [
        "camera_lost",
        "camera_lost:top",
        "camera_lost:a.b",
        " Camera-Lost ",
        "camera lost",
        message_ids()["camera_lost"],
        message_ids()["camera_lost"].upper(),
        f"{message_ids()['camera_lost'][:8]}-{message_ids()['camera_lost'][8:]}",
    ],
)
def test_a_word_is_found_as_it_was_read_somewhere(word):
    assert lookup(word).name == "camera_lost"


@pytest.mark.parametrize("word", ["unknown(no_frame)", "unknown.no_frame", "no_frame"])
def test_a_code_of_unknown_is_found_as_documents_and_health_write_it(word):
    assert lookup(word).name == "no_frame"


def test_a_word_that_is_mistyped_names_the_nearest():
    with pytest.raises(UsageError, match=r"'camra_lost' is not known here; did you mean camera_lost") as refused:
        lookup("camra_lost")
    assert refused.value.exit_code == EX_USAGE


@pytest.mark.parametrize("word", ["", "qqqqqqqq", "0" * 32, "()", ":", "…"])
def test_a_word_like_no_other_is_refused_in_one_sentence(word):
    with pytest.raises(UsageError, match="`edge-agent explain` lists all that is") as refused:
        lookup(word)
    assert "did you mean" not in str(refused.value)


def test_a_word_stands_in_one_file_only():
    folder = REPO / "edge_agent" / "catalogue"
    files = [path for path in folder.glob("*.toml") if path.name != "message_ids.toml"]
    names = [name for file in files for name in re.findall(r"(?m)^\[(\w+)\]", file.read_text())]
    assert sorted(names) == sorted(entries())


def test_everything_that_is_logged_has_a_message_id_and_nothing_else():
    logged = {entry.name for entry in entries().values() if {"event", "log"} & {*entry.kinds}}
    assert logged - message_ids().keys() == set(), (
        "for each: a line in edge_agent/catalogue/message_ids.toml with what `journalctl --new-id128` says, and in "
        f"{RECORDED.relative_to(REPO)}; then `edge-agent explain --catalog > systemd/edge-agent.catalog`"
    )
    assert message_ids().keys() - logged == set(), "an id is kept as long as its event"


def test_message_ids_are_unique_and_128_bits():
    ids = list(message_ids().values())
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{32}", message_id) for message_id in ids)


def test_no_message_id_has_changed():
    recorded = dict(line.split() for line in RECORDED.read_text().splitlines())
    assert message_ids() == recorded, f"new ones go into {RECORDED.relative_to(REPO)}; old ones stay as they are"
