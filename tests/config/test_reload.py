import pytest

from edge_agent.config import live_changes
from tests.config.documents import GOOD, changed, load_text

WITH_LOGIN = changed(
    ('host = "localhost"', 'host = "h"\nusername = "u"\npassword_file = "p"'),
    ('ca = "ca.pem"', 'ca = "ca.pem"\n  cert = "c.pem"\n  key = "k.pem"'),
)


def _changes(folder, old, new):
    return live_changes(load_text(folder, old).config, load_text(folder, new).config)


LIVE = {
    "log level": ("[mqtt]", "[log]\nlevel = 'debug'\n[mqtt]"),
    "confidence": ('path = "models/caps.tflite"', 'path = "models/caps.tflite"\nconf = 0.3'),
    "overlap": ('path = "models/caps.tflite"', 'path = "models/caps.tflite"\niou = 0.4'),
    "rows kept": ("[mqtt]", "[records]\nmax_rows = 500\n[mqtt]"),
    "memory for records": ("[mqtt]", "[records]\nmax_mb = 1\n[mqtt]"),
    "drain rate": ("[mqtt]", "[records]\ndrain_per_s = 5\n[mqtt]"),
    "results kept": ("[mqtt]", "[records]\nresults = 0.5\n[mqtt]"),
    "deadline": ("[mqtt]", "[verdict]\ndeadline_ms = 100\n[mqtt]"),
    "validity": ("[mqtt]", "[verdict]\nvalid_ms = 700\n[mqtt]"),
    "a rule's threshold": ('reject = ["crack"]', 'reject = ["crack"]\n  min_score = 0.9'),
    "a rule's labels": ('reject = ["crack"]', 'reject = ["crack", "dent"]'),
    "camera health": ("  [[cameras.rules]]", "  [cameras.health]\n  dark_below = 5\n  [[cameras.rules]]"),
    "a rule more": (
        "  [[cameras.rules]]",
        '  [[cameras.rules]]\n  kind = "presence"\n  require = ["cap"]\n  [[cameras.rules]]',
    ),
    "a rule of another kind": ('kind = "defect"\n  reject', 'kind = "presence"\n  require'),
    "user name": ('username = "u"', 'username = "v"'),
    "password file": ('password_file = "p"', 'password_file = "q"'),
    "certificate of the broker": ('ca = "ca.pem"', 'ca = "ca2.pem"'),
    "own certificate": ('cert = "c.pem"', 'cert = "c2.pem"'),
    "own key": ('key = "k.pem"', 'key = "k2.pem"'),
}

RESTART = {
    "device": ('cell = "capper"', 'cell = "filler"', "device.cell"),
    "profile": ("[mqtt]", "[hardware]\nprofile = 'raspberry-pi-5'\n[mqtt]", "hardware.profile"),
    "threads": ("[mqtt]", "[hardware]\nthreads = 2\n[mqtt]", "hardware.threads"),
    "model file": ("models/caps.tflite", "models/caps2.tflite", "model.path"),
    "labels file": ('path = "models/caps.tflite"', 'path = "models/caps.tflite"\nlabels = "l"', "model.labels"),
    "decoder": ('path = "models/caps.tflite"', 'path = "models/caps.tflite"\ndecoder.kind = "yolo"', "model.decoder"),
    "camera source": ("source = 0", "source = 1", "cameras.1.source"),
    "camera id": ('id = "side"', 'id = "left"', "cameras.1.id"),
    "trigger": ("[0.6, 0.0]", "[0.5, 0.0]", "cameras.1.trigger.line.0.0"),
    "a camera more": (
        "[mqtt]",
        '[[cameras]]\nid = "c"\nkind = "replay"\nsource = "x"\ntrigger.kind = "frame"\n[mqtt]',
        "cameras",
    ),
    "what to do on unknown": ("[mqtt]", "[verdict]\non_unknown = 'stop'\n[mqtt]", "verdict.on_unknown"),
    "what to do on loss": ("[mqtt]", "[verdict]\non_agent_loss = 'pass'\n[mqtt]", "verdict.on_agent_loss"),
    "log format": ("[mqtt]", "[log]\nformat = 'json'\n[mqtt]", "log.format"),
    "broker": ('host = "h"', 'host = "other"', "mqtt.host"),
    "prefix": ('host = "h"', 'host = "h"\nprefix = "acme"', "mqtt.prefix"),
    "keepalive": ('host = "h"', 'host = "h"\nkeepalive_s = 9', "mqtt.keepalive_s"),
}


@pytest.mark.parametrize("change", LIVE.values(), ids=LIVE)
def test_what_may_change_while_running(tmp_path, change):
    old, new = change
    assert WITH_LOGIN.count(old) >= 1
    live, restart = _changes(tmp_path, WITH_LOGIN, WITH_LOGIN.replace(old, new, 1))
    assert live
    assert restart == []


@pytest.mark.parametrize("change", RESTART.values(), ids=RESTART)
def test_what_needs_a_restart(tmp_path, change):
    old, new, key = change
    assert WITH_LOGIN.count(old) >= 1
    live, restart = _changes(tmp_path, WITH_LOGIN, WITH_LOGIN.replace(old, new, 1))
    assert live == []
    assert [".".join(map(str, path)) for path in restart] == [key]


def test_turning_tls_on_or_off_needs_a_restart(tmp_path):
    without = changed(
        ('\n  [mqtt.tls]\n  ca = "ca.pem"\n', ""), ('host = "localhost"', 'host = "localhost"\nport = 8883')
    )
    assert _changes(tmp_path, without, GOOD) == ([], [("mqtt", "tls")])
    assert _changes(tmp_path, GOOD, without) == ([], [("mqtt", "tls")])


def test_going_from_the_broker_to_standard_output_needs_a_restart(tmp_path):
    _, restart = _changes(tmp_path, GOOD, GOOD[: GOOD.index("[mqtt]")] + "[stdout]\n")
    assert set(restart) == {("mqtt",), ("stdout",)}


def test_a_camera_of_another_kind_needs_a_restart(tmp_path):
    replayed = changed(('kind = "opencv"\nsource = 0', 'kind = "replay"\nsource = "photos"'))
    live, restart = _changes(tmp_path, GOOD, replayed)
    assert live == []
    assert ("cameras", 1, "kind") in restart


def test_live_and_other_changes_are_told_apart_in_one_file(tmp_path):
    both = changed(('reject = ["crack"]', 'reject = ["dent"]'), ("source = 0", "source = 1"))
    live, restart = _changes(tmp_path, GOOD, both)
    assert live == [("cameras", 0, "rules", 0, "reject", 0)]
    assert restart == [("cameras", 1, "source")]


def test_a_file_that_says_the_same_otherwise_changes_nothing(tmp_path):
    same = "# a comment\n" + changed(('id = "cap-01"\nsite = "leon"', 'site = "leon"\nid = "cap-01"'))
    assert _changes(tmp_path, GOOD, same) == ([], [])
