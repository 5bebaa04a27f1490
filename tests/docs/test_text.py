"""What the documentation names has to be there."""

import re

import pytest

from tests.fixtures import REPO

PAGES = [REPO / "README.md", REPO / "CHANGELOG.md", *sorted((REPO / "docs").glob("*.md"))]
SOURCE = "\n".join(path.read_text() for path in sorted((REPO / "edge_agent").rglob("*.py")))


def _anchors(page):
    """As GitHub makes them of headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_folders_that_are_named_exist(page):
    seams = (
        "app|cli|config|runtime|cameras|sensors|backends|decoders|rules|publishers|actuator|hardware|models|wire|core"
    )
    named = re.findall(rf"`((?:edge_agent/)?(?:{seams})/\w+\.py)`", page.read_text())
    named += re.findall(r"`((?:docs|examples|scripts|tests|hardware_profiles)/[\w/.-]+)`", page.read_text())
    not_there_yet = {"edge_agent/backends/tensorrt.py"}
    for name in set(named) - not_there_yet:
        assert (REPO / name).exists() or (REPO / "edge_agent" / name).exists(), name


def test_functions_of_the_code_overview_exist():
    text = (REPO / "docs" / "code-overview.md").read_text()
    named = re.findall(r"`([A-Z][a-z]\w+)\.(\w+)`", text)
    assert len(named) > 30
    for class_name, member in named:
        body = "".join(re.findall(rf"(?ms)^class {class_name}\b.*?(?=^\S)", SOURCE + "\nend"))
        assert re.search(rf"(?m)(def {member}\b|self\.{member}\b|^    {member}:)", body), f"{class_name}.{member}"


def test_threads_of_the_code_overview_are_those_of_the_code():
    text = (REPO / "docs" / "code-overview.md").read_text()
    table = text[text.index("| thread |") : text.index("The engine and ONNX")]
    named = re.findall(r"Thread\([^)]*name=f?\"([a-z]+)", SOURCE)
    first_column = [row.split("|")[1].split(" one per ")[0] for row in table.split("\n") if row.startswith("|")]
    assert set(named) == {name for cell in first_column for name in re.findall(r"`([a-z]+)[\w-]*`", cell)}


def test_log_events_of_the_operations_page_are_those_of_the_code():
    text = (REPO / "docs" / "operations.md").read_text()
    rows = text[text.index("| event | level |") :].split("\n\n")[0].split("\n")[2:]
    told = {event for row in rows for event in re.findall(r"`(\w+)`", row.split("|")[1])}
    logged = set(re.findall(r"(?:log|get_logger\(\))\.(?:\w+)\(\s*(?:level, )?\"(\w+)\"", SOURCE))
    logged |= set(re.findall(r"\bsay\(\"(\w+)\"", SOURCE)) | set(re.findall(r"\.event\(\s*\"(\w+)\"", SOURCE))
    logged |= set(re.findall(r"level, \"(\w+)\", logger=", SOURCE))
    assert told == logged


def test_exit_codes_of_the_operations_page_are_those_of_the_code():
    text = (REPO / "docs" / "operations.md").read_text()
    told = set(map(int, re.findall(r"(?m)^\| (\d+) \|", text)))
    assert told == {0, 130} | set(map(int, re.findall(r"(?m)^EX_\w+ = (\d+)", SOURCE)))
