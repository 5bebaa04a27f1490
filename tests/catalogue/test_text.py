import re
import shutil
import subprocess

import pytest

from edge_agent.catalogue import entries, lookup, message_ids
from edge_agent.catalogue.text import NOTHING, body, journal_catalogue, wrapped
from tests.fixtures import REPO

INSTALLED = REPO / "systemd" / "edge-agent.catalog"
ENTRIES = entries().values()


@pytest.mark.parametrize("width", [40, 80])
def test_lines_are_no_longer_than_the_screen_but_for_commands(width):
    for entry in ENTRIES:
        long = [line for line in body(entry, width).splitlines() if len(line) > width]
        assert [line for line in long if not re.search(r"^\W*`[^`]+`\W*$|^\W*\S+$", line)] == [], entry.name


def test_a_command_stays_in_one_line_so_that_it_can_be_copied():
    assert wrapped("see `edge-agent logs --event camera_lost` now", 20) == (
        "see\n`edge-agent logs --event camera_lost`\nnow"
    )


def test_a_step_is_indented_below_its_bullet():
    assert wrapped("one two three", 9, "- ") == "- one two\n  three"


def test_where_nothing_has_to_be_done_the_text_says_so():
    assert body(lookup("camera_healthy"), 80).endswith(NOTHING)


def test_the_file_for_the_journal_is_the_one_that_is_installed():
    assert INSTALLED.read_text() == journal_catalogue(), "edge-agent explain --catalog > systemd/edge-agent.catalog"


@pytest.mark.skipif(not shutil.which("journalctl"), reason="journalctl is not installed")
def test_the_journal_finds_each_text_by_its_id(tmp_path):
    root = f"--root={tmp_path}"
    folder = tmp_path / "usr" / "lib" / "systemd" / "catalog"
    folder.mkdir(parents=True)
    (tmp_path / "var" / "lib" / "systemd" / "catalog").mkdir(parents=True)
    (folder / INSTALLED.name).write_text(journal_catalogue())
    subprocess.run(["journalctl", root, "--update-catalog"], check=True, capture_output=True)
    listed = subprocess.run(["journalctl", root, "--list-catalog"], check=True, capture_output=True, text=True).stdout
    titles = dict(re.findall(r"(?m)^(\w{32}) edge-agent: (.+)$", listed))
    assert titles == {message_id: lookup(name).title for name, message_id in message_ids().items()}
