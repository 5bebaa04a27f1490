"""What a benchmark says where it is called wrongly: before it begins, and with exit code 2."""

import sys

import pytest

from benchmarks import (
    attendants,
    outbox,
    performance,
    reduced_decoding,
    rig,
    scale,
    silence,
    soak,
    tensorrt,
    verdicts,
)


@pytest.mark.parametrize(
    ("benchmark", "words", "complaint"),
    [
        (scale, ["--repeat", "0"], "--repeat: '0' is no whole number of 1 or more"),
        (scale, ["--seconds", "-1"], "--seconds: '-1' is no number above 0"),
        (scale, ["--seconds", "nan"], "--seconds: 'nan' is no number above 0"),
        (scale, ["--model", "nowhere.tflite"], "--model: there is no file nowhere.tflite"),
        (scale, ["--threads", "many"], "--threads: 'many' is no whole number of 1 or more"),
        (attendants, ["--fps", "0"], "--fps: '0' is no number above 0"),
        (silence, ["--repeat", "-3"], "--repeat: '-3' is no whole number of 1 or more"),
        (verdicts, ["--folder", "nowhere"], "--folder: there is no folder nowhere"),
        (outbox, ["--rows", "5"], "--rows: '5' is no whole number of 100 or more"),
        (outbox, ["--per-s", "fast"], "--per-s: 'fast' is no number above 0"),
        (soak, ["--pictures", "nowhere"], "--pictures: there is no folder nowhere"),
        (soak, ["--out", "nowhere/soak.json"], "--out: nowhere/soak.json cannot be written"),
        (reduced_decoding, ["--rounds", "1"], "--rounds: '1' is no whole number of 2 or more"),
        (tensorrt, ["nowhere.engine"], "engine: there is no file nowhere.engine"),
        (performance, ["--rounds", "0"], "--rounds: '0' is no whole number of 1 or more"),
        (performance, ["--scale", "nowhere.json"], "--scale: nowhere.json cannot be read: No such file"),
        (
            performance,
            ["--from-file", "--file", "nowhere.json"],
            "--from-file: nowhere.json cannot be read: No such file",
        ),
    ],
)
def test_a_wrong_argument_is_told_in_a_sentence(monkeypatch, capsys, benchmark, words, complaint):
    monkeypatch.setattr(sys, "argv", [benchmark.__name__, *words])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(("content", "complaint"), [("{", "is no JSON document"), ("[]", "holds no such figures")])
def test_a_file_that_no_benchmark_wrote_is_told_in_a_sentence(monkeypatch, capsys, tmp_path, content, complaint):
    file = tmp_path / "figures.json"
    file.write_text(content)
    monkeypatch.setattr(sys, "argv", ["performance", "--from-file", "--file", str(file)])
    with pytest.raises(SystemExit) as ended:
        performance.main()
    assert ended.value.code == 2
    assert f"{file} {complaint}" in capsys.readouterr().err


def test_one_figure_has_no_spread():
    with pytest.raises(rig.BenchmarkError, match="let it run for longer"):
        rig.spread([1.0])
