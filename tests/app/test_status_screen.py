import io
import time

import pytest
from rich.console import Console

from edge_agent.app.instances import Instance
from edge_agent.app.status import Report
from edge_agent.app.status_screen import Ascii, knows_ascii_only, line, screen, table
from tests.app.status_facts import CAMERA, facts_of, verdict

INSTANCE = Instance("line3", None, None, None, is_service=True)
FAULTS = ("camera_lost:top: A camera gives no pictures any more, or could not be opened", "no_arm: Nobody listens")
STEPS = ("Cable, power and `journalctl -k -e`", "`edge-agent explain camera_lost`")


def report(condition="up", state="running", exit_code=0, told=(), advice=(), **facts):
    return Report(INSTANCE, condition, state, exit_code, told, advice, facts_of(state=state, **facts))


def drawn(picture, width=80, **settings):
    console = Console(width=width, file=io.StringIO(), **settings)
    console.print(picture)
    return console.file.getvalue()


@pytest.mark.parametrize("cameras", [1, 4, 30])
@pytest.mark.parametrize("told", [(), FAULTS, FAULTS * 8])
@pytest.mark.parametrize("condition", ["up", "hangs", "down"])
def test_everything_fits_a_screen_of_80_by_24(cameras, told, condition):
    rows = drawn(screen(report(condition, told=told, advice=STEPS * bool(told), cameras=cameras))).splitlines()
    assert len(rows) <= 24
    assert max(map(len, rows)) <= 80


def test_a_running_agent_in_a_glance():
    text = drawn(screen(report()))
    for words in (
        "line3   RUNNING   cap-01 in leon/bottling/3/capper",
        "up 3 d 3 h",
        "caps 1.4.0 by tensorrt",
        "1834, 2.3/s   pass 1790 (97.6%)   reject 40 (2.2%)   unknown 4 (0.2%)",
        "p50 33.9   p99 41.2   worst 88.0 of 150 ms   engine 31.8 ms",
        "mqtt.plant:8883  up   0 waiting, 1840 delivered",
        "61 C   not throttled   clock in step",
        "163 MB used   2.1 GB free   disk 52.7 GB free",
        "3 verdicts (no_connection)",
        "top 1834  reject   33.9 ms  09:14:34  crack 0.93",
    ):
        assert words in text


def test_what_is_wrong_comes_first_with_what_to_do():
    rows = drawn(screen(report(state="error", exit_code=2, told=FAULTS, advice=STEPS))).splitlines()
    assert rows[2].startswith("! camera_lost:top: A camera")
    assert "> Cable, power and journalctl -k -e" in rows


def test_a_slow_line_is_told_in_parts_a_minute():
    assert "1834, 6.0/min" in drawn(screen(report(parts={"opened": 1834, "closed": 1834, "per_s": 0.1})))


def test_nothing_is_said_by_colour_alone(monkeypatch):
    lost = {**CAMERA, "condition": "lost", "losses": 3, "faults": ["blurred"]}
    facts = facts_of()["health"] | {"cameras": {"top": lost}, "throttled": ["under_voltage"], "shedding": ["evidence"]}
    text = drawn(screen(report(health=facts, links={"line": False, "records": True})))
    for words in ("lost", "3x", "blurred", "throttled: under_voltage", "left off: evidence", "line down"):
        assert words in text
    assert "\x1b" not in text
    monkeypatch.setenv("NO_COLOR", "1")
    coloured = drawn(screen(report(health=facts)), force_terminal=True)
    assert not any(f"\x1b[{code}m" in coloured for code in range(30, 48))


def test_a_terminal_that_knows_no_more_than_ascii_gets_that():
    long_name = [verdict(1, "reject", {"rule": "defect", "label": "étiquette de travers " * 5, "score": 0.9})]
    assert drawn(Ascii(screen(report(recent=long_name)))).isascii()


@pytest.mark.parametrize(("terminal", "is_ascii"), [("vt220", True), ("", True), ("xterm-256color", False)])
def test_serial_consoles_are_told_by_their_names(terminal, is_ascii):
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert knows_ascii_only(console, terminal) is is_ascii


def test_an_output_that_is_not_utf_8_gets_ascii():
    assert knows_ascii_only(Console(file=io.TextIOWrapper(io.BytesIO(), encoding="latin-1")), "xterm")


@pytest.mark.parametrize("width", [20, 40, 200])
def test_other_widths_do(width):
    assert "line3" in drawn(screen(report(told=FAULTS)), width)


def test_an_agent_that_is_starting_has_little_to_show():
    health = facts_of()["health"] | {"latency_ms": {}, "verdicts": {}, "temperature_c": None, "throttled": None}
    starting = {"engine": None, "model": None, "workshop": "TensorRT engine: building 12 %", "recent": []}
    parts = {"opened": 0, "closed": 0, "per_s": None}
    text = drawn(screen(report(state="starting", exit_code=1, health=health, parts=parts, **starting)))
    assert "STARTING" in text
    assert "TensorRT engine: building 12 %" in text
    assert "no frame was judged yet" in text


def test_an_agent_that_is_down_shows_when_it_was_last_seen():
    text = drawn(screen(report("down", "offline", 2, ("it was stopped 5 min ago",), STEPS)))
    assert "DOWN" in text
    assert "seen " in text.splitlines()[0]
    assert "When it was last seen:" in text


def test_nothing_is_known_of_an_agent_that_never_ran():
    text = drawn(screen(Report(INSTANCE, "down", "offline", 2, ("it has not run yet",), ())))
    assert "it has not run yet" in text


def test_several_agents_have_a_line_each():
    down = Report(INSTANCE, "down", "offline", 2, ("it was stopped 5 min ago",), ())
    rows = drawn(table([report(), report(cameras=2), down])).splitlines()
    assert len(rows) == 4
    assert "1 of 1" in rows[1]
    assert "2 of 2" in rows[2]
    assert "it was stopped 5 min ago" in rows[3]


def test_times_are_those_of_the_device(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    told = verdict(1) | {"at": "2026-11-21T09:14:03.446Z"}
    try:
        assert "14:44:03" in drawn(screen(report(recent=[told])))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_words_are_shown_as_they_are():
    reason = {"rule": "defect", "label": "[red]:top:[/red]", "score": 0.9}
    assert "[red]:top:[/red] 0.90" in drawn(screen(report(recent=[verdict(1, "reject", reason)])))
    rows = drawn(table([report(state="error", exit_code=2, told=FAULTS)] * 2))
    assert "camera_lost:top: A" in rows


def test_long_words_leave_the_headings_whole():
    rows = drawn(screen(report(board="NVIDIA Jetson AGX Orin Developer Kit " * 3, told=STEPS * 3))).splitlines()
    assert any(row.startswith("board ") and row.rstrip().endswith("…") for row in rows)


def test_a_line_says_the_same_for_a_log():
    assert line(report()) == "line3: running; 1834 parts, 2.3/s; broker up"
    assert line(report("down", "offline", 2, ("it was stopped",))) == "line3: offline; it was stopped"
