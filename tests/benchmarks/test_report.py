"""The tables of docs/performance.md."""

import pytest

from benchmarks.peers import report
from benchmarks.peers.subjects import NAMES
from tests.fixtures import REPO

PER_S = {"edge-agent": (9.9, 9.1), "plain loop": (9.0, 9.0), "ultralytics": (6.6, 5.0)}


def _entry(name, number):
    return {
        "model": "yolov8n_320_int8_nms",
        "size": "1280x720",
        "round": number,
        "name": name,
        "frames": 3,
        "waited": 0,
        "unjudged": 0,
        "infer_ms": [100.0, 100.0, 100.0],
        "added_ms": [1.0, 2.0, 3.0],
        "added_to_subscriber_ms": [2.0, 3.0, 4.0],
        "per_s": PER_S[name][number],
        "bare_per_s": 10.0,
        "engine_share": 0.9,
        "cold_start_s": [1.0, 1.1],
        "rss_mb": [100.0, 101.0],
    }


BENCH = {
    "stages_ms": {name: {"p50": 0.5} for name in report.STAGES},
    "added_ms": {"frame": {"p50": 0.7, "p99": 2.0}, "line": None},
    "throughput": {"share": {"median": 0.95, "low": 0.94, "high": 0.96, "n": 5}},
    "memory_mb": {"rss_mb": 140.0},
    "start_s": {"first_verdict": {"median": 1.1}, "parts": {name: {"median": 0.2} for name in report.STARTS}},
    "allocations": {"frames": 20, "frames_above_64_kib": 0},
}
MEASURED = {
    "machine": {"cores": 2, "processor": "One", "kernel": "6", "python": "3.11", "load_before": 0.1},
    "threads": 1,
    "rounds": 2,
    "seconds": 4.0,
    "ultralytics": {"ultralytics": "8"},
    "left_out": ["yolox_nano_416"],
    "failed": [],
    "entries": [_entry(name, number) for number in (0, 1) for name in reversed(NAMES)],
    "bench": [{"model": "yolov8n_320_int8_nms", "size": "1280x720", "said": BENCH}],
}


def test_throughput_is_compared_with_ultralytics_round_by_round():
    (ratio,) = report.over(MEASURED, "ultralytics", report.share_of_bare).values()
    assert (ratio.low, ratio.high) == pytest.approx((1.5, 1.82))


def test_each_table_has_a_row_for_each_model_and_size():
    grids = report.peer_grids(MEASURED) | report.bench_grids(MEASURED)
    assert {len(grid.rows) for grid in grids.values()} == {1}
    assert all(len(row) == len(grid.headings) for grid in grids.values() for row in grid.rows)


def test_one_who_cannot_run_a_model_has_no_figure():
    without = MEASURED | {"entries": [it for it in MEASURED["entries"] if it["name"] != "ultralytics"]}
    row = report.peer_grids(without)["throughput"].rows[0]
    assert row[2:] == ["0.95 (0.91-0.99)", "0.90", "-", "-", "-", "1.40"]


def test_what_is_missing_is_told():
    assert "left out, for their files are not here: yolox_nano_416" in report.sentence(MEASURED)


def test_the_page_keeps_what_is_outside_of_the_markers():
    page = f"before\n{report.BEGIN.format('added')}\nold\n{report.END.format('added')}\nafter\n"
    filled = report.fill(page, MEASURED, {})
    assert filled.startswith("before\n")
    assert filled.endswith("\nafter\n")
    assert "old" not in filled
    assert "2.00 / 3.00" in filled


def test_what_was_not_measured_stays_as_it_is():
    page = f"{report.BEGIN.format('stages')}\nold\n{report.END.format('stages')}"
    assert report.fill(page, MEASURED | {"bench": []}, {}) == page


def test_a_chart_becomes_a_table_and_a_picture():
    lines = {"all": {"1": 20.0, "8": 19.5}, "theory": {"1": 20.0}}
    chart = {"name": "cameras", "title": "one engine", "x": "cameras", "y": "results per second", "lines": lines}
    page = f"{report.BEGIN.format('scale')}\n{report.END.format('scale')}"
    filled = report.fill(page, MEASURED, {"scale": {"charts": [chart], "sentences": ["All well."]}})
    assert "- All well." in filled
    assert "| 8 | 19.5 | - |" in filled
    assert "(pictures/performance-scale-cameras.svg)" in filled


def test_the_page_has_a_place_for_each_table():
    page = (REPO / "docs" / "performance.md").read_text()
    for name in ("machine", *report.peer_grids(MEASURED), *report.bench_grids(MEASURED)):
        assert report.BEGIN.format(name) in page
        assert report.END.format(name) in page
