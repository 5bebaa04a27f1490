"""The doctor beside a real agent and a real broker: while it runs, after it was killed, and what support gets to see."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from contextlib import contextmanager

import pytest

from tests.app.doctor.patients import as_root
from tests.brokers import needs, running_broker
from tests.fixtures import REPO
from tests.processes import ended
from tests.system.agents import ROOT, config_text, replay, running_agent
from tests.system.test_hang import PHOTOS, recording
from tests.system.test_run import RELAXED, is_verdict

pytestmark = pytest.mark.system
SECRET = "correct-horse-battery"  # noqa: S105 - planted, to be looked for


def text(tmp_path, port, more=""):
    cameras = replay(PHOTOS, fps=10)
    return config_text(model=recording(tmp_path / "one.npz"), cameras=cameras, port=port, verdict=RELAXED) + more


def doctor(config, *words, command="doctor", **options):
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", command, *map(str, words), "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
        **options,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def checks(config, *words, **options):
    """The first finding of each check."""
    told = json.loads(doctor(config, "--json", *words, **options).stdout)
    return {one["name"]: one for one in reversed(told["checks"])}


@contextmanager
def running(tmp_path, broker, listener, more=""):
    with running_agent(tmp_path, text(tmp_path, broker.port, more)) as agent:
        listener.wait_for(is_verdict(), timeout=30)
        yield agent


def test_an_agent_that_runs_is_asked_and_not_disturbed(tmp_path, broker, listener):
    with running(tmp_path, broker, listener) as agent:
        found = checks(agent.config)
        connections = [line for line in broker.log.splitlines() if "as ea-test-01-line" in line]
    well = (
        "configuration",
        "applied",
        "agent",
        "version",
        "camera-opens",
        "camera-picture",
        "model-opens",
        "broker-acl",
    )
    assert {name: found[name]["level"] for name in (*well, "subscribers", "one-agent")} == dict.fromkeys(
        (*well, "subscribers", "one-agent"), "ok"
    )
    assert len(connections) == 1
    assert len({heard.json["session"] for heard in listener.on("/state")}) == 1


def test_an_agent_that_was_killed_is_found_by_what_it_left(tmp_path, broker, listener):
    with running(tmp_path, broker, listener) as agent:
        state = tmp_path / "state" / "edge-agent" / "test-01"
        assert ended((state / "status.json").exists)
        agent.send(signal.SIGKILL)
        agent.ended()
        assert (state / "status.sock").is_socket()
        found = checks(agent.config)["agent"]
    assert (found["level"], "killed, or crashed" in found["evidence"]) == ("fail", True)
    assert found["fix"]


def test_a_file_that_was_changed_while_the_agent_runs_is_found(tmp_path, broker, listener):
    with running(tmp_path, broker, listener) as agent:
        agent.config.write_text(agent.config.read_text() + "\n[log]\nlevel = 'warning'\n".replace("'", '"'))
        found = checks(agent.config)["applied"]
        assert (found["level"], found["fix"]) == ("warn", f"kill -HUP {agent.process.pid}")
        subprocess.run(found["fix"].split(), check=True)
        assert ended(lambda: checks(agent.config)["applied"]["level"] == "ok")


def test_verdicts_that_the_broker_refuses_are_found_through_the_agent(tmp_path):
    passwords, acl, secret = tmp_path / "passwords", tmp_path / "acl", tmp_path / "secret"
    for path in (passwords, secret):
        path.touch(0o600)
    secret.write_text(SECRET)
    program = needs("mosquitto_passwd", "mosquitto")
    subprocess.run([program, "-b", passwords, "test-01", SECRET], check=True, capture_output=True)
    acl.write_text(f"user test-01\ntopic write {ROOT}/state\n")
    more = f'\nusername = "test-01"\npassword_file = "{secret}"\n'
    guarded = f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}"
    with (
        running_broker(tmp_path, guarded) as broker,
        running_agent(tmp_path, text(tmp_path, broker.port, more)) as agent,
    ):
        assert ended(lambda: checks(agent.config)["broker-acl"]["level"] == "fail", 40)
        found = checks(agent.config)["broker-acl"]
    assert (found["level"], "verdicts_refused" in found["evidence"]) == ("fail", True)
    assert "write below `user test-01` in the broker's ACL" in found["fix"]
    assert f"topic write {ROOT}/verdict/+" in found["fix"]


AS_NOBODY = """
import json, os, sys
from edge_agent.app import instances
from edge_agent.app.doctor import document, examine, look_around
instance = instances.find(sys.argv[1])
examine(look_around(instance))  # so that all modules are loaded: nobody may not read them everywhere
os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(json.dumps(document(examine(look_around(instance))[0], instance)))
"""


@as_root
def test_somebody_who_may_not_look_is_told_so_and_blames_nobody(tmp_path, broker, listener):
    with running(tmp_path, broker, listener) as agent:
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, agent.config], capture_output=True, check=True, cwd=REPO
        )
    found = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
    unknown = ("agent", "applied", "version", "camera-opens", "broker-acl", "subscribers", "one-agent")
    assert {name: found[name]["level"] for name in unknown} == dict.fromkeys(unknown, "skip")
    assert "may not look" in found["agent"]["evidence"]


def test_a_bundle_holds_what_support_needs_and_neither_pictures_nor_secrets(tmp_path, broker, listener):
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text(f"{SECRET}\n")
    more = f'\nusername = "cap"\npassword_file = "{secret}"  # {SECRET}\n'
    with running(tmp_path, broker, listener, more) as agent:
        own = tmp_path / "state" / "edge-agent" / "test-01"
        (own / "evidence").mkdir(exist_ok=True)
        picture = b"\xff\xd8\xff\xe0" + os.urandom(5000)
        (own / "evidence" / "top-1-reject-5f0c0000.jpg").write_bytes(picture)
        assert ended((own / "flight.log").exists)
        done = doctor(agent.config, "-o", tmp_path / "b.tar.gz", command="bundle")
    assert done.returncode == 0, done.stderr
    packed = (tmp_path / "b.tar.gz").stat()
    assert packed.st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "b.tar.gz") as tar:
        files = {member.name.split("/")[1]: tar.extractfile(member).read() for member in tar}
        assert all(re.fullmatch(r"edge-agent-bundle-test-01-\d{8}-\d{6}/[\w.]+", member.name) for member in tar)
    needed = {"doctor.json", "status.json", "recorder.jsonl", "configuration.toml", "versions.json", "profile.json"}
    assert needed <= set(files), done.stdout
    assert all(name in done.stdout for name in files)
    assert json.loads(files["status.json"])["state"] in ("running", "degraded", "ready")
    assert b'"result"' in files["recorder.jsonl"] or b'"verdict"' in files["recorder.jsonl"]
    assert b"top-1-reject-5f0c0000.jpg" in files["folder.txt"]
    everything = b"\n".join(files.values())
    for hidden in (SECRET.encode(), base64.b64encode(SECRET.encode())[:-2], picture[:64], b"\xff\xd8\xff"):
        assert hidden not in everything
