"""`doctor` and `bundle` as a person at a shell meets them."""

import json
import tarfile

import pytest

from tests.cli.test_commands import edge_agent
from tests.hardware.trees import make_tree, put


@pytest.fixture
def hot(tmp_path):
    """A copied tree of a Raspberry Pi with a weak supply."""
    root = make_tree(tmp_path / "copy", "raspberrypi,5-model-b", "brcm,bcm2712")
    put(root, "sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n")
    return root


@pytest.mark.parametrize("command", ["doctor", "bundle"])
def test_help_has_an_example(command):
    done = edge_agent(command, "--help")
    assert (done.returncode, f"Example: edge-agent {command}" in " ".join(done.stdout.split())) == (0, True)


def test_what_is_wrong_is_shown_and_what_is_well_is_folded(hot):
    done = edge_agent("doctor", "--root", hot)
    assert done.returncode == 0, done.stderr
    assert "warn power-supply the supply voltage was too low since the last start" in done.stdout
    assert "     → use the board's own power supply" in done.stdout
    assert "skipped (--all shows them)" in done.stdout
    assert "profile raspberry-pi-5" not in done.stdout
    assert "profile raspberry-pi-5" in edge_agent("doctor", "--root", hot, "--all").stdout


def test_no_line_but_what_is_to_be_copied_is_wider_than_80_columns(hot):
    lines = edge_agent("doctor", "--root", hot, "--all").stdout.splitlines()
    assert max(len(line) for line in lines if "→" not in line) <= 80


def test_a_failure_exits_with_1_and_json_is_one_document(tmp_path):
    (tmp_path / "bad.toml").write_text("[device]\n")
    done = edge_agent("doctor", "--json", "--config", tmp_path / "bad.toml")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], told["name"], told["counts"]["fail"] > 0) == (1, False, "bad", True)
    first = told["checks"][0]
    assert (first["name"], first["group"], first["level"]) == ("configuration", "configuration", "fail")
    assert first["fix"].startswith(f"mend it at {tmp_path}/bad.toml")


def test_a_name_that_does_not_exist_is_told():
    done = edge_agent("doctor", "--config", "nowhere")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "there is no such file" in done.stderr


def test_a_new_user_without_any_configuration_learns_how_to_go_on():
    done = edge_agent("doctor")
    assert done.returncode == 0, done.stdout
    assert "name one: edge-agent doctor --config FILE" in done.stdout


def test_a_bundle_of_a_broken_configuration_is_packed_and_never_over_another(tmp_path):
    (tmp_path / "bad.toml").write_text('[device]\nid = "cap-01"\n[mqtt]\npassword = "s3cret!"\n')
    out = tmp_path / "b.tar.gz"
    done = edge_agent("bundle", "--config", tmp_path / "bad.toml", "-o", out)
    assert (done.returncode, out.stat().st_mode & 0o777) == (0, 0o600), done.stderr
    with tarfile.open(out) as packed:
        texts = {member.name.split("/")[1]: packed.extractfile(member).read().decode() for member in packed}
    assert 'password = "***"' in texts["configuration.toml"]
    assert not [name for name, text in texts.items() if "s3cret" in text]
    assert json.loads(texts["doctor.json"])["ok"] is False
    assert "recorder.jsonl" in json.loads(texts["about.json"])["left_out"]
    again = edge_agent("bundle", "--config", tmp_path / "bad.toml", "-o", out)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
