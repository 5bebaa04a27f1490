"""Configurations that are wrong or not taken over, and secrets that are open."""

import pytest

from edge_agent.app.doctor import look_around
from edge_agent.app.status import Report
from tests.app.doctor.patients import NOBODY, as_root, finding, findings, installation, simple


def test_a_right_configuration_passes(tmp_path):
    assert finding(installation(tmp_path, simple(tmp_path)), "configuration").level == "ok"


def test_everything_that_is_wrong_is_told_with_its_line(tmp_path):
    text = simple(tmp_path).replace('kind = "frame"', 'kind = "frme"').replace("fps = 5", "fsp = 5")
    found = findings(installation(tmp_path, text, is_right=False), "configuration")
    assert [one.level for one in found] == ["fail", "fail"]
    assert "did you mean 'fps'?" in found[0].evidence
    line = next(number for number, words in enumerate(text.splitlines(), 1) if "fsp" in words)
    assert found[0].fix == f"mend it at {tmp_path}/agent.toml:{line}"


def test_checks_that_need_a_configuration_say_so(tmp_path):
    context = installation(tmp_path, "[device]\n", is_right=False)
    assert finding(context, "broker-name").evidence == "see configuration"


def test_without_any_configuration_it_says_how_to_name_one():
    found = finding(look_around(None), "configuration")
    assert (found.level, found.fix) == ("warn", "name one: edge-agent doctor --config FILE")


@as_root
def test_a_configuration_that_the_agent_may_not_read_is_found(tmp_path):
    context = installation(tmp_path, simple(tmp_path))
    context.path.chmod(0o600)
    context.agent = NOBODY
    found = finding(context, "configuration")
    assert (found.level, found.fix) == ("fail", f"sudo chgrp nobody {context.path}")


def running(context, sha256):
    facts = {"age_s": 0.1, "pid": 4711, "config_sha256": sha256, "reasons": []}
    context.status = Report(context.instance, "up", "running", 0, facts=facts)
    return context


def test_a_file_that_was_changed_since_the_agent_read_it_is_found(tmp_path):
    found = finding(running(installation(tmp_path, simple(tmp_path)), "0" * 64), "applied")
    assert (found.level, found.fix) == ("warn", "kill -HUP 4711")


def test_a_file_that_the_agent_has_read_passes(tmp_path):
    context = installation(tmp_path, simple(tmp_path))
    assert finding(running(context, context.loaded.sha256), "applied").level == "ok"


def secret_of(tmp_path):
    path = tmp_path / "cap.password"
    return path, installation(tmp_path, simple(tmp_path, more=f'username = "cap"\npassword_file = "{path}"\n'))


def test_a_secret_of_ones_own_passes(tmp_path):
    path, context = secret_of(tmp_path)
    path.touch(0o600)
    assert finding(context, "secrets").level == "ok"


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_a_secret_that_others_can_read_is_found(tmp_path, mode):
    path, context = secret_of(tmp_path)
    path.touch(0o600)
    path.chmod(mode)
    found = finding(context, "secrets")
    assert (found.level, found.fix, found.about) == ("fail", f"sudo chmod 600 {path}", "mqtt")
    assert f"its mode is {mode:04o}" in found.evidence


def test_a_secret_that_is_not_there_is_found(tmp_path):
    path, context = secret_of(tmp_path)
    found = finding(context, "secrets")
    assert (found.level, f"there is no {path}, which {context.path}:" in found.evidence) == ("fail", True)
    assert found.fix.startswith("sudo install -m 0600 -o ")


@as_root
def test_a_secret_of_another_user_is_found(tmp_path):
    path, context = secret_of(tmp_path)
    path.touch(0o600)
    context.agent = NOBODY
    found = finding(context, "secrets")
    assert (found.level, found.fix) == ("fail", f"sudo chown nobody: {path}")


def test_without_secrets_there_is_nothing_to_look_at(tmp_path):
    assert finding(installation(tmp_path, simple(tmp_path)), "secrets").level == "skip"
