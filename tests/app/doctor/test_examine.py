"""All checks together."""

import time

from edge_agent.app.doctor import CHECKS, examine
from edge_agent.app.doctor.findings import Check, ok
from tests.app.doctor.patients import board, installation, simple
from tests.fixtures import REPO
from tests.hardware.trees import make_tree


def test_names_are_kebab_case_and_each_is_there_once():
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and name.replace("-", "").isalnum() for name in names)


def test_every_check_reports_the_worst_first(tmp_path):
    told = []
    reports, all_ended = examine(installation(tmp_path, simple(tmp_path)), told.append)
    assert all_ended
    assert sorted(told) == sorted({report.check.name for report in reports}) == sorted(check.name for check in CHECKS)
    ranks = [("fail", "warn", "skip", "ok").index(report.finding.level) for report in reports]
    assert ranks == sorted(ranks)
    assert {"model-file", "broker-port"} <= {report.check.name for report in reports if report.finding.level == "fail"}


def test_of_a_copied_tree_only_what_it_tells_is_looked_at(tmp_path):
    reports, _ = examine(board(make_tree(tmp_path, "raspberrypi,5-model-b", "brcm,bcm2712")))
    skipped = {report.finding.evidence for report in reports if report.check.need != "copy"}
    assert skipped == {"a copied tree does not tell"}


def test_a_check_that_does_not_come_back_is_left_behind(tmp_path):
    slow = Check("slow", "storage", "", lambda _: time.sleep(3) or [ok("")], "copy")
    broken = Check("broken", "board", "", lambda _: 1 / 0, "copy")
    began_s = time.monotonic()
    reports, all_ended = examine(board(tmp_path), checks=(slow, broken), limit_s=0.3)
    assert (all_ended, time.monotonic() - began_s < 2) == (False, True)
    found = {report.check.name: report.finding for report in reports}
    assert "has not come back for 0.3 s" in found["slow"].evidence
    assert (found["broken"].level, "ZeroDivisionError" in found["broken"].evidence) == ("warn", True)


def test_the_table_of_the_operations_page_is_that_of_the_code():
    text = (REPO / "docs" / "operations.md").read_text()
    rows = text[text.index("| check | finds |") :].split("\n\n")[0].split("\n")[2:]
    told = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]
    assert told == [(f"`{check.name}`", check.tells) for check in CHECKS]
