import os
import re
import stat
from pathlib import Path

import pytest

from edge_agent.config import ConfigProblemsError, load
from edge_agent.config.load import MAX_BYTES
from edge_agent.errors import EX_CONFIG, ConfigError
from edge_agent.publishers import mqtt
from tests.config.documents import GOOD, changed, line_of, load_text, problem_of, problems_of

# ---- what is right


def test_a_good_file_loads(tmp_path):
    config = load_text(tmp_path, GOOD).config
    assert [camera.id for camera in config.cameras] == ["top", "side"]
    assert config.verdict.deadline_ms == 150
    assert config.publisher[0] == "mqtt"


def test_kinds_bring_their_own_keys(tmp_path):
    top, side = load_text(tmp_path, GOOD).config.cameras
    assert (top.kind, top.fps, [rule.kind for rule in top.rules]) == ("replay", 0.0, ["defect", "count"])
    assert (side.kind, side.source, side.trigger.direction) == ("opencv", 0, "right")


def test_a_configuration_cannot_be_changed(tmp_path):
    config = load_text(tmp_path, GOOD).config
    with pytest.raises(ValueError, match="frozen"):
        config.model.conf = 0.5


def test_windows_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path):
    windows = b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()
    assert load_text(tmp_path, windows).sha256 == load_text(tmp_path, GOOD).sha256


def test_lines_are_right_in_a_file_with_windows_line_ends(tmp_path):
    text = changed(('kind = "frame"', 'kind = "fram"'))
    line, key, _ = problem_of(tmp_path, text.replace("\n", "\r\n"))
    assert (line, key) == (line_of(text, '"fram"'), "cameras[0].trigger.kind")


def test_inline_tables_will_do(tmp_path):
    text = changed(('  [cameras.trigger]\n  kind = "frame"\n', 'trigger = {kind = "frame"}\n'))
    assert load_text(tmp_path, text).sha256 == load_text(tmp_path, GOOD).sha256


def test_dotted_keys_will_do(tmp_path):
    text = changed(('  [cameras.trigger]\n  kind = "frame"\n', 'trigger.kind = "frame"\n'))
    assert load_text(tmp_path, text).sha256 == load_text(tmp_path, GOOD).sha256


# ---- unknown keys, at every depth


@pytest.mark.parametrize(
    ("after", "written", "key", "hint"),
    [
        ("[device]", "sitee = 1", "device.sitee", "did you mean 'site'?"),
        ('path = "models/caps.tflite"', 'labls = "x"', "model.labls", "did you mean 'labels'?"),
        ("source = 0", "hight = 720", "cameras[1].hight", "did you mean 'height'?"),
        ('  kind = "line"', "  derection = 1", "cameras[1].trigger.derection", "did you mean 'direction'?"),
        ('  label = "cap"', "  mni = 1", "cameras[0].rules[1].mni", "did you mean 'min'?"),
        ('host = "localhost"', "prot = 1", "mqtt.prot", "did you mean 'port'?"),
        ('  ca = "ca.pem"', "  crt = 1", "mqtt.tls.crt", "did you mean 'cert'?"),
        (
            'path = "models/caps.tflite"',
            'decoder = {kind = "yolo", bxes = 1}',
            "model.decoder.bxes",
            "did you mean 'boxes'?",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_line_and_the_key_that_was_meant(tmp_path, after, written, key, hint):
    text = changed((after, f"{after}\n{written}"))
    assert problem_of(tmp_path, text) == (line_of(text, written), key, f"is not a key of this table; {hint}")


def test_an_unknown_table_is_named_with_the_one_that_was_meant(tmp_path):
    text = GOOD + "[verdit]\ndeadline_ms = 1\n"
    assert problem_of(tmp_path, text) == (
        line_of(text, "verdit"),
        "verdit",
        "is not a key of this table; did you mean 'verdict'?",
    )


def test_a_key_like_no_other_gets_all_that_there_are(tmp_path):
    _, key, message = problem_of(tmp_path, changed(("[device]", "[device]\nqqq = 1")))
    assert key == "device.qqq"
    assert message == "is not a key of this table; it may have area, cell, id, line, site"


def test_a_key_of_another_kind_of_camera_is_unknown(tmp_path):
    _, key, message = problem_of(tmp_path, changed(("source = 0", "source = 0\nloop = true")))
    assert key == "cameras[1].loop"
    assert "roi, rotation, rules, source, timeout_s, trigger, " in message


def test_an_unknown_key_is_shown_as_toml_would_quote_it(tmp_path):
    _, key, _ = problem_of(tmp_path, GOOD + '"a.b\\n" = 1\n')
    assert key == 'mqtt.tls."a.b\\n"'


# ---- kinds


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        (
            'kind = "replay"',
            'kind = "reply"',
            "cameras[0].kind",
            "there is no kind 'reply'; there are opencv, picamera2, replay, simulator; did you mean 'replay'?",
        ),
        (
            'kind = "frame"',
            'kind = "clockwork"',
            "cameras[0].trigger.kind",
            "there is no kind 'clockwork'; there are frame, line, mqtt, gpio",
        ),
        (
            'kind = "count"',
            'kind = "counts"',
            "cameras[0].rules[1].kind",
            "there is no kind 'counts'; there are count, defect, presence; did you mean 'count'?",
        ),
    ],
)
def test_an_unknown_kind_gets_the_list_of_those_there_are(tmp_path, old, new, key, message):
    text = changed((old, new))
    assert problem_of(tmp_path, text) == (line_of(text, new), key, message)


@pytest.mark.parametrize(
    ("header", "kind", "key", "message"),
    [
        (
            "[[cameras]]",
            'kind = "replay"',
            "cameras[0].kind",
            "is missing; there are opencv, picamera2, replay, simulator",
        ),
        (
            "[cameras.trigger]",
            '  kind = "frame"',
            "cameras[0].trigger.kind",
            "is missing; there are frame, line, mqtt, gpio",
        ),
        (
            "[[cameras.rules]]",
            '  kind = "defect"',
            "cameras[0].rules[0].kind",
            "is missing; there are count, defect, presence",
        ),
    ],
)
def test_a_missing_kind_is_told_at_the_line_of_its_table(tmp_path, header, kind, key, message):
    text = changed((f"{kind}\n", ""))
    assert problem_of(tmp_path, text) == (line_of(text, header), key, message)


# ---- missing keys


@pytest.mark.parametrize(
    ("gone", "header", "key"),
    [
        ('cell = "capper"\n', "[device]", "device.cell"),
        ('path = "models/caps.tflite"\n', "[model]", "model.path"),
        ('id = "top"\n', "[[cameras]]", "cameras[0].id"),
        ('  parts = ["bottle"]\n', '  [cameras.trigger]\n  kind = "line"', "cameras[1].trigger.parts"),
        ('  reject = ["crack"]\n', "[[cameras.rules]]", "cameras[0].rules[0].reject"),
        ('host = "localhost"\n', "[mqtt]", "mqtt.host"),
    ],
)
def test_a_missing_key_is_told_at_the_line_of_its_table(tmp_path, gone, header, key):
    text = changed((gone, ""))
    line = text[: text.index(header)].count("\n") + 1
    assert problem_of(tmp_path, text) == (line, key, "is missing")


def test_a_missing_key_of_a_table_that_is_only_implied_is_told_where_it_is_implied(tmp_path):
    text = changed(('[mqtt]\nhost = "localhost"\n\n', ""))
    assert problem_of(tmp_path, text) == (line_of(text, "[mqtt.tls]"), "mqtt.host", "is missing")


def test_an_empty_file_lacks_what_every_file_must_have(tmp_path):
    told = problems_of(tmp_path, "")
    assert [(key, message) for _, key, message in told[:3]] == [
        ("device", "is missing"),
        ("model", "is missing"),
        ("cameras", "is missing"),
    ]
    assert told[3][2] == "write either an [mqtt] or a [stdout] table: it says where verdicts go"


# ---- wrong values


@pytest.mark.parametrize(
    ("where", "written", "message"),
    [
        ("[verdict]", "deadline_ms = 'soon'", "must be a number, not 'soon'"),
        ("[verdict]", "deadline_ms = true", "must be a number, not true"),
        ("[verdict]", "deadline_ms = '150'", "must be a number, not '150'"),
        ("[verdict]", "deadline_ms = [1]", "must be a number, not a list"),
        ("[verdict]", "deadline_ms = {a = 1}", "must be a number, not a table"),
        ("[verdict]", "deadline_ms = 0", "must be above 0, not 0"),
        ("[verdict]", "deadline_ms = nan", "must be at most 60000, not nan"),
        ("[verdict]", "deadline_ms = inf", "must be at most 60000, not inf"),
        (
            "[verdict]",
            "on_unknown = 'rejct'",
            "must be 'reject', 'pass' or 'stop', not 'rejct'; did you mean 'reject'?",
        ),
        ("[records]", "max_rows = 1.5", "must be a whole number, not 1.5"),
        ("[records]", "max_rows = 3", "must be at least 100, not 3"),
        ("[records]", "max_rows = 99999999999999999999999", "must be at most 1000000, not 99999999999999999999999"),
        ("[records]", "results = 'some'", "must be 'all' or 'non_pass', or a number, not 'some'"),
        ("[records]", "results = 1.5", "must be 'all' or 'non_pass', or at most 1, not 1.5"),
        ("[log]", "level = 3", "must be 'debug', 'info', 'warning' or 'error', not 3"),
        ("[hardware]", "threads = true", "must be a whole number, not true"),
        ("[model]", "path = 3", "must be text in quotes, not 3"),
        ("[device]", "id = 'a/b'", "must be 1 to 32 letters (a to z), digits and signs of _ . : -, not 'a/b'"),
        ("[device]", "id = ''", "must be 1 to 32 letters (a to z), digits and signs of _ . : -, not ''"),
    ],
)
def test_a_wrong_value_says_what_must_stand_there_and_what_does(tmp_path, where, written, message):
    key = written.partition(" ")[0]
    known = re.sub(rf"(?m)^{key} = .*\n", "", GOOD, count=1) if where in GOOD else f"{GOOD}{where}\n"
    text = known.replace(where, f"{where}\n{written}", 1)
    assert problem_of(tmp_path, text) == (line_of(text, written), f"{where[1:-1]}.{key}", message)


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("source = 0", "source = -1", "cameras[1].source", "must be at least 0, or text in quotes, not -1"),
        ("source = 0", "source = []", "cameras[1].source", "must be a whole number, or text in quotes, not a list"),
        ('source = "photos"', "source = 1", "cameras[0].source", "must be text in quotes, not 1"),
        ("source = 0", "source = 0\nwidth = 1280", "cameras[1]", "width and height go together: set both, or neither"),
        ('parts = ["bottle"]', "parts = []", "cameras[1].trigger.parts", "must not be empty"),
        ('parts = ["bottle"]', "parts = [1]", "cameras[1].trigger.parts[0]", "must be text in quotes, not 1"),
        ('parts = ["bottle"]', "parts = ['']", "cameras[1].trigger.parts[0]", "must not be empty"),
        ('parts = ["bottle"]', 'parts = "bottle"', "cameras[1].trigger.parts", "must be a list in square brackets"),
        ("[0.6, 1.0]]", "[0.6, 1.5]]", "cameras[1].trigger.line[1][1]", "must be at most 1, not 1.5"),
        ("[0.6, 1.0]]", "[0.6]]", "cameras[1].trigger.line[1][1]", "is missing"),
        ("[0.6, 1.0]]", "[1, 1], [1, 0]]", "cameras[1].trigger.line", "must have at most 2 items, not 3"),
        ("[0.6, 1.0]]", "[0.6, 0.0]]", "cameras[1].trigger.line", "both points are the same"),
        (
            "[[0.6, 0.0], [0.6, 1.0]]",
            "[[0.0, 0.6], [1.0, 0.6]]",
            "cameras[1].trigger.direction",
            "this line runs right, so nothing can cross it that way",
        ),
        (
            'reject = ["crack"]',
            'reject = ["crack"]\n  unsure_score = 0.9',
            "cameras[0].rules[0].unsure_score",
            "must not be above min_score: 0.9 is more than 0.5",
        ),
        ('label = "cap"', 'label = "cap"\n  min = 3\n  max = 2', "cameras[0].rules[1].max", "must not be below min"),
        ('ca = "ca.pem"', 'key = "k"', "mqtt.tls.key", "is set without cert: name the certificate"),
        ('host = "localhost"', 'host = "a b"', "mqtt.host", "must be a name or an address, without scheme"),
        ('host = "localhost"', 'host = "h"\nprefix = "a/+"', "mqtt.prefix", "must be topic levels such as factory"),
        ('host = "localhost"', 'host = "h"\npassword_file = "p"', "mqtt.password_file", "is set without username"),
    ],
)
def test_wrong_values_inside_cameras_and_mqtt_are_told_at_their_key(tmp_path, old, new, key, message):
    line, found_key, found = problem_of(tmp_path, changed((old, new)))
    assert found_key == key
    assert found.startswith(message)
    assert line is not None


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("model = 'caps'\n" + changed(("[model]\npath = ", "[hardware]\nprofile = ")), "model", "'caps'"),
        (changed(("[model]", "[[model]]")), "model", "a list"),
        (changed(("[mqtt]\nhost", "[[mqtt]]\nhost"), ('  [mqtt.tls]\n  ca = "ca.pem"\n', "")), "mqtt", "a list"),
    ],
)
def test_something_that_is_no_table_is_told_how_to_write_one(tmp_path, text, key, message):
    assert problem_of(tmp_path, text)[1:] == (key, f"must be a table: write [{key}], not {message}")


def test_one_table_of_cameras_in_place_of_a_list_is_told_how_to_write_it(tmp_path):
    start, rest = GOOD.split("[[cameras]]", 1)
    text = start + '[cameras]\nid = "x"\n' + rest[rest.index("[mqtt]") :]
    told = problem_of(tmp_path, text)
    assert told == (line_of(text, "[cameras]"), "cameras", "must be a list of tables: write [[cameras]], not a table")


def test_no_cameras_is_one_problem(tmp_path):
    start, rest = GOOD.split("[[cameras]]", 1)
    text = "cameras = []\n" + start + rest[rest.index("[mqtt]") :]
    assert problem_of(tmp_path, text) == (1, "cameras", "must not be empty")


def test_more_cameras_than_a_birth_can_name_are_refused(tmp_path):
    one = '[[cameras]]\nid = "c{}"\nkind = "replay"\nsource = "x"\ntrigger.kind = "frame"\n'
    text = GOOD + "".join(one.format(number) for number in range(99))
    assert problem_of(tmp_path, text) == (11, "cameras", "must have at most 100 items, not 101")


def test_a_camera_that_is_wrong_is_not_called_missing_too(tmp_path):
    start, rest = GOOD.split("[[cameras]]", 1)
    text = "cameras = ['top']\n" + start + rest[rest.index("[mqtt]") :]
    assert problem_of(tmp_path, text) == (1, "cameras[0]", "must be a table, not 'top'")


def test_a_verdict_that_ends_before_it_is_due_is_refused(tmp_path):
    text = GOOD + "[verdict]\ndeadline_ms = 700\n"
    assert problem_of(tmp_path, text) == (
        line_of(text, "[verdict]"),
        "verdict.valid_ms",
        "must be at least 50 above deadline_ms: a verdict has to reach the broker",
    )


# ---- across tables


def test_two_cameras_of_one_id_are_told_at_the_second(tmp_path):
    text = changed(('id = "side"', 'id = "top"   # again'))
    assert problem_of(tmp_path, text) == (
        line_of(text, "again"),
        "cameras[1].id",
        "is the id of a camera above; each needs its own",
    )


def test_neither_mqtt_nor_stdout_is_refused(tmp_path):
    _, _, message = problem_of(tmp_path, GOOD[: GOOD.index("[mqtt]")])
    assert message == "write either an [mqtt] or a [stdout] table: it says where verdicts go"


def test_both_mqtt_and_stdout_are_refused(tmp_path):
    _, _, message = problem_of(tmp_path, GOOD + "[stdout]\n")
    assert message == "write either an [mqtt] or a [stdout] table: it says where verdicts go"


def test_every_problem_is_told_at_once_and_in_the_order_of_the_file(tmp_path):
    text = changed(
        ('cell = "capper"\n', ""),
        ('path = "models/caps.tflite"', 'pth = "models/caps.tflite"'),
        ('kind = "frame"', 'kind = "fram"'),
        ('  label = "cap"', '  label = "cap"\n  min = -1'),
        ('id = "side"', 'id = "top"'),
        ("source = 0", "source = 0\nwidth = 'wide'"),
        ("[0.6, 0.0]", "[0.6, 2]"),
        ("[mqtt]\nhost", "[mqqt]\nhost"),
        ("  [mqtt.tls]\n", "  [mqqt.tls]\n"),
    )
    told = problems_of(tmp_path, text)
    assert {key for _, key, _ in told} == {
        "",
        "device.cell",
        "model.path",
        "model.pth",
        "cameras[0].trigger.kind",
        "cameras[0].rules[1].min",
        "cameras[1].id",
        "cameras[1].width",
        "cameras[1].trigger.line[0][1]",
        "mqqt",
    }
    lines = [line or 0 for line, _, _ in told]
    assert lines == sorted(lines)


def test_a_problem_is_printed_as_file_line_key_and_message(tmp_path):
    text = changed(('id = "cap-01"', "id = 1"))
    with pytest.raises(ConfigProblemsError, match=r"agent.toml:2: device.id: must be text in quotes, not 1$") as caught:
        load_text(tmp_path, text)
    assert isinstance(caught.value, ConfigError)
    assert caught.value.exit_code == EX_CONFIG


def test_a_problem_found_later_gets_the_line_of_its_key(tmp_path):
    loaded = load_text(tmp_path, GOOD)
    problem = loaded.problem(("cameras", 1, "trigger", "parts"), "the model has no label 'bottle'")
    assert (problem.line, problem.key) == (line_of(GOOD, "parts ="), "cameras[1].trigger.parts")


def test_a_problem_found_later_at_a_default_gets_the_line_of_its_table(tmp_path):
    loaded = load_text(tmp_path, GOOD)
    assert loaded.problem(("model", "conf"), "x").line == line_of(GOOD, "[model]")
    assert loaded.problem(("hardware", "profile"), "x").line is None


# ---- files that are no TOML


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[device]\nid = leon\n", 2, "there is no value, or none that TOML knows; text needs quotes"),
        ("[device]\nid = \n", 2, "there is no value, or none that TOML knows; text needs quotes"),
        ("[device]\nid = 'a'\nid = 'b'\n", 3, "this key stands there already"),
        ("[device]\n[model]\n[device]\n", 3, "this table stands there already"),
        ("a = {b = 1}\na.c = 1\n", 2, "this table was written further up and cannot be added to"),
        ("[device\n", 1, "Expected ']' at the end of a table declaration"),
        ('a = "x\nb = 1\n', 1, "the text has no closing quote"),
        ("a = [1,\n2", 2, "Unclosed array"),
        ('a = """\nx\n\n', 2, "Unterminated string"),
        ("a b = 1\n", 1, "Expected '=' after a key in a key/value pair"),
        ("a = 1 b = 2\n", 1, "Expected newline or end of document after a statement"),
        ("= 1\n", 1, "this is neither a [table] nor key = value"),
        ("a = " + "[" * 5000, 1, "nested too deeply"),
    ],
)
def test_a_syntax_error_is_told_with_its_line(tmp_path, text, line, message):
    found_line, key, found = problem_of(tmp_path, text)
    assert (found_line, key) == (line, "")
    assert message in found
    assert "(at line" not in found


def test_text_that_is_not_utf_8_is_told_with_its_line(tmp_path):
    told = problem_of(tmp_path, b"[device]\n# caf\xe9\n")
    assert told == (2, "", "is not UTF-8 text; save it as UTF-8")


def _unreadable(path):
    with pytest.raises(ConfigProblemsError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.key) == (str(path), None, "")
    return problem.message


def test_a_missing_file_is_told(tmp_path):
    assert _unreadable(tmp_path / "agent.toml") == "cannot be read: No such file or directory"


def test_a_folder_is_told(tmp_path):
    assert _unreadable(tmp_path) == "cannot be read: Is a directory"


def test_a_file_that_fails_to_read_is_told():
    assert _unreadable(Path("/proc/self/mem")) == "cannot be read: Input/output error"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path):
    path = tmp_path / "agent.toml"
    path.touch(mode=0)
    assert _unreadable(path) == "cannot be read: Permission denied"


def test_a_huge_file_is_told_without_being_read_to_its_end():
    assert _unreadable(Path("/dev/zero")) == f"is too large for a configuration, which has at most {MAX_BYTES} bytes"


def test_a_large_file_of_nothing_but_mistakes_is_told_in_full(tmp_path):
    text = "".join(f"k{number} = 1\n" for number in range(2000))
    told = problems_of(tmp_path, text)
    assert len(told) == 2004
    assert told[-1][0] == 2000


# ---- paths


def test_relative_paths_are_taken_from_the_folder_of_the_file(tmp_path):
    text = changed(("source = 0", 'source = "clips/belt.mp4"'), ('ca = "ca.pem"', 'ca = "../ca.pem"'))
    config = load_text(tmp_path, text).config
    assert config.model.path == tmp_path / "models/caps.tflite"
    assert config.cameras[0].source == tmp_path / "photos"
    assert config.cameras[1].source == tmp_path / "clips/belt.mp4"
    assert config.mqtt.tls.ca == tmp_path / "../ca.pem"


def test_absolute_paths_devices_and_streams_stay_as_they_are(tmp_path):
    text = changed(('"models/caps.tflite"', '"/srv/caps.tflite"'), ("source = 0", 'source = "rtsp://cam/1"'))
    config = load_text(tmp_path, text).config
    assert config.model.path == Path("/srv/caps.tflite")
    assert config.cameras[1].source == "rtsp://cam/1"


def test_the_working_folder_does_not_matter(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "agent.toml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    relative = load(Path("agent.toml")).config
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (
        load(Path("../agent.toml")).config.model.path.resolve()
        == relative.model.path
        == tmp_path / "models/caps.tflite"
    )


# ---- digest


def test_the_digest_ignores_comments_blanks_and_the_order_of_keys_and_tables(tmp_path):
    tables = re.split(r"(?m)^(?=\[device\]|\[model\]|\[mqtt\]|\[\[cameras\]\]\nid = .top)", GOOD)
    tables = [table for table in tables if table]
    assert len(tables) == 4
    other = "# a comment\n\n" + "".join(reversed(tables)).replace(
        'id = "top"\nkind = "replay"', 'kind="replay"\nid="top"#'
    )
    assert load_text(tmp_path, other).sha256 == load_text(tmp_path, GOOD).sha256


def test_the_digest_ignores_whether_a_default_is_written_out(tmp_path):
    assert load_text(tmp_path, GOOD + "[log]\nlevel = 'info'\n").sha256 == load_text(tmp_path, GOOD).sha256


def test_the_digest_ignores_where_the_file_lies(tmp_path):
    (tmp_path / "a").mkdir()
    assert load_text(tmp_path / "a", GOOD).sha256 == load_text(tmp_path, GOOD).sha256


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"capper"', '"filler"'),
        ("models/caps.tflite", "models/caps2.tflite"),
        ('["crack"]', '["crack", "dent"]'),
        ("[0.6, 0.0]", "[0.5, 0.0]"),
        ('"localhost"', '"127.0.0.1"'),
    ],
)
def test_the_digest_changes_with_every_value(tmp_path, old, new):
    assert load_text(tmp_path, changed((old, new))).sha256 != load_text(tmp_path, GOOD).sha256


# ---- secrets

SECRET = "hunter2"  # noqa: S105 - it opens nothing


def test_a_password_is_never_part_of_a_configuration(tmp_path):
    (tmp_path / "broker.secret").write_text(SECRET)
    text = changed(('host = "localhost"', 'host = "h"\nusername = "u"\npassword_file = "broker.secret"'))
    config = load_text(tmp_path, text).config
    assert SECRET not in repr(config) + config.model_dump_json()


def test_a_password_written_into_the_file_is_refused_and_not_repeated(tmp_path):
    told = problem_of(tmp_path, changed(('host = "localhost"', f'host = "h"\npassword = "{SECRET}"')))
    assert told[1:] == ("mqtt.password", "is not a key of this table; did you mean 'password_file'?")


def test_a_password_in_a_wrong_value_is_not_repeated(tmp_path):
    _, _, message = problem_of(tmp_path, changed(('"localhost"', f'"mqtt://agent:{SECRET}@broker"')))
    assert SECRET not in message
    assert "mqtt://***@broker" in message


@pytest.mark.parametrize("source", [f"rtsp://u:{SECRET}@cam/1", f"rtsp://cam/1?user=u&password={SECRET}"])
def test_a_password_in_the_source_of_a_stream_is_refused_and_not_shown(tmp_path, source):
    _, key, message = problem_of(tmp_path, changed(("source = 0", f'source = "{source}"')))
    assert key == "cameras[1].source"
    assert "must not hold a" in message
    assert "password_file" in message
    assert SECRET not in message


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    """A folder of systemd credentials, as LoadCredential= makes it."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def _with_password_file(name):
    return changed(
        ('host = "localhost"', f'host = "h"\nusername = "u"\npassword_file = "{name}"'),
        ('\n  [mqtt.tls]\n  ca = "ca.pem"\n', ""),
    )


def test_a_bare_name_is_found_among_the_systemd_credentials(tmp_path, credentials):
    (credentials / "mqtt_password").write_text(SECRET)
    (credentials / "mqtt_password").chmod(0o440)  # systemd lets the service's user in by an ACL, which shows as group
    mqtt.verify(load_text(tmp_path, _with_password_file("mqtt_password")).config.mqtt)


def test_a_credential_wins_over_a_file_of_its_name(tmp_path, credentials):
    (credentials / "mqtt_password").write_text(SECRET)
    (tmp_path / "mqtt_password").touch(mode=0o600)  # empty: would be refused
    mqtt.verify(load_text(tmp_path, _with_password_file("mqtt_password")).config.mqtt)


def test_a_name_that_is_no_credential_is_a_file_beside_the_configuration(tmp_path, credentials):
    path = tmp_path / "broker.secret"
    path.write_text(SECRET)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    mqtt.verify(load_text(tmp_path, _with_password_file("broker.secret")).config.mqtt)
