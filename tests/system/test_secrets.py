"""Passwords and keys stay where they are: in no log, no message, no output and no file that agent or arm write."""

import base64
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.brokers import HOST, Listener, free_port, needs, running_broker
from tests.certificates import CLIENT, Authority
from tests.fixtures import REPO
from tests.system.agents import config_text, replay, running_agent
from tests.system.arms import Arm, config
from tests.system.test_hang import PHOTOS, recording
from tests.system.test_run import RELAXED, is_verdict, wait_for_log

pytestmark = pytest.mark.system
FIRST, SECOND, THIRD = "Gr8-w0mbat&first", "Gr8-w0mbat=second", "Gr8-w0mbat third"
OF_CAMERA = "Gr8-w0mbat@/camera"
PIECE = 16
"""Characters of a key's base64: so many of it in a row are no accident."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


class Guarded:
    """A broker that wants a certificate, a name and a password, with the files of one client, which are replaced at will.

    `ear` is the port of its listener without TLS. All secrets that there ever were are kept in `secrets`.
    """

    def __init__(self, folder, authority):
        self.folder, self.authority, self.port = folder, authority, free_port()
        self.secrets = {FIRST, SECOND, THIRD, OF_CAMERA, quote(OF_CAMERA, safe="")}
        self.key, self.cert, self.password = folder / "own.key", folder / "own.pem", folder / "password"
        self._passwords = folder / "passwords"
        self._passwords.touch()
        self.demand("office", "office")
        cert, key = authority.certify("server", f"subjectAltName=IP:{HOST}")
        tls = f"certfile {cert}\nkeyfile {key}\ncafile {authority.ca}\nrequire_certificate true"
        self.config = f"password_file {self._passwords}\nlistener {self.port} {HOST}\n{tls}\n"

    def demand(self, user, password):
        """What the broker wants from now on, once it has read it."""
        program = needs("mosquitto_passwd", "mosquitto")
        subprocess.run([program, "-b", self._passwords, user, password], check=True, capture_output=True)

    def own(self, password):
        """The client's files from now on: this password, and a new certificate and key."""
        cert, key = self.authority.certify("client", CLIENT)
        shutil.copy(cert, self.cert)
        for file, text in ((self.key, key.read_text()), (self.password, password)):
            file.touch(0o600)
            file.chmod(0o600)
            file.write_text(text)
        self.secrets |= pieces_of(key.read_text())

    def mqtt(self):
        """The lines of [mqtt]."""
        files = f'ca = "{self.authority.ca}"\ncert = "{self.cert}"\nkey = "{self.key}"'
        return f'username = "client"\npassword_file = "{self.password}"\n[mqtt.tls]\n{files}\n'


def pieces_of(key):
    """Pieces of a key in PEM, that overlap by half: in base64, and in hex."""
    body = "".join(line for line in key.splitlines() if "-" not in line)
    digits = base64.b64decode(body).hex()
    return {text[at : at + PIECE] for text in (body, digits) for at in range(0, len(text) - PIECE, PIECE // 2)}


def secrets_in(secrets, *places):
    """Which of them stand in texts, bytes, or files."""
    data = b"\n".join(
        place.read_bytes() if isinstance(place, Path) else place if isinstance(place, bytes) else place.encode()
        for place in places
    )
    return {secret for secret in secrets if secret.encode() in data or secret.upper().encode() in data}


@pytest.fixture
def guarded(tmp_path, authority):
    return Guarded(tmp_path, authority)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def agent_config(guarded, more=""):
    camera_password = guarded.folder / "camera-password"
    camera_password.touch(0o600)
    camera_password.write_text(OF_CAMERA)
    network_camera = f"""
    [[cameras]]
    id = "away"
    kind = "opencv"
    source = "rtsp://{HOST}:{free_port()}/stream"
    username = "viewer"
    password_file = "{camera_password}"

      [cameras.trigger]
      kind = "frame"
    """
    model, cameras = recording(guarded.folder / "one.npz"), replay(PHOTOS) + network_camera
    text = config_text(model=model, cameras=cameras, port=guarded.port, verdict=RELAXED)
    return f'{text}\n{more}\n{guarded.mqtt()}\n[log]\nlevel = "debug"\n'


def test_the_agent_keeps_its_secrets_over_start_failures_rotation_and_stop(tmp_path, guarded):
    guarded.own(FIRST)
    guarded.demand("client", FIRST)
    with running_agent(tmp_path, agent_config(guarded)) as agent:
        wait_for_log(agent, "Connection refused")
        wait_for_log(agent, '"camera_lost"')
        with (
            running_broker(tmp_path, guarded.config) as broker,
            Listener(broker.port, username="office", password="office") as listener,  # noqa: S106 - of this broker alone
        ):
            listener.wait_for(is_verdict(), timeout=20)
            guarded.own(SECOND)
            guarded.demand("client", SECOND)
            broker.reload()
            agent.send(signal.SIGHUP)
            wait_for_log(agent, '"reloaded"')
            since = len(listener.on("verdict/top"))
            listener.wait_for_count(is_verdict(), since + 2, timeout=20)
            guarded.demand("client", THIRD)
            broker.reload()
            wait_for_log(agent, "refused the connection")
            guarded.key.chmod(0o644)
            agent.send(signal.SIGHUP)
            wait_for_log(agent, '"reload_refused"')
            agent.send(signal.SIGTERM)
            assert agent.ended() == 0
    said = [heard.topic.encode() + heard.payload for heard in listener.heard]
    assert {"state", "birth", "verdict", "result", "event"} <= {heard.topic.split("/")[7] for heard in listener.heard}
    assert secrets_in(guarded.secrets, agent.log(), *said, *files_in(tmp_path / "state")) == set()


def test_the_arm_keeps_its_secrets_over_start_failures_and_stop(tmp_path, guarded):
    guarded.own(FIRST)
    guarded.demand("client", FIRST)
    arm = Arm(tmp_path, config(guarded, mqtt=guarded.mqtt()), "--json")
    try:
        arm.wait_for_log("Connection refused")
        with running_broker(tmp_path, guarded.config) as broker:
            arm.wait_for_log("arm_connected")
            guarded.own(SECOND)
            guarded.demand("client", THIRD)
            broker.reload()
            arm.wait_for_log("refused the connection")
            guarded.key.chmod(0o644)
            arm.wait_for_log("has mode 0644")
            arm.stop()
    finally:
        arm.end()
    assert secrets_in(guarded.secrets, arm.log, str(arm.lines)) == set()


def open_to_others(guarded):
    guarded.key.chmod(0o640)
    guarded.password.chmod(0o604)


def broken(guarded):
    guarded.key.write_text(guarded.key.read_text().replace("BEGIN", "START"))
    guarded.password.write_bytes(FIRST.encode() + b"\xff")


def swapped(guarded):
    guarded.cert.write_bytes(guarded.key.read_bytes())


@pytest.mark.parametrize(
    ("program", "fault", "words"),
    [
        ("check", open_to_others, ["has mode 0640", "has mode 0604"]),
        ("check", broken, ["mqtt.tls.cert: cannot use", "mqtt.password_file: cannot read"]),
        ("check", swapped, ["mqtt.tls.cert: cannot use"]),
        ("run", broken, ["mqtt.tls.cert: cannot use", "mqtt.password_file: cannot read"]),
        ("reject-arm", broken, ["mqtt.password_file: cannot read"]),
    ],
)
def test_what_is_wrong_with_a_secret_is_said_without_it(tmp_path, guarded, program, fault, words):
    guarded.own(FIRST)
    fault(guarded)
    text = config(guarded, mqtt=guarded.mqtt()) if program == "reject-arm" else agent_config(guarded)
    said = output_of(tmp_path, program, text)
    assert all(word in said for word in words), said
    assert secrets_in(guarded.secrets, said) == set()


@pytest.mark.parametrize("program", ["check", "reject-arm"])
def test_a_password_in_the_configuration_is_refused_and_not_repeated(tmp_path, guarded, program):
    guarded.own(FIRST)
    line = f'password = "{SECOND}"\n'
    text = config(guarded, mqtt=line + guarded.mqtt()) if program == "reject-arm" else agent_config(guarded, line)
    said = output_of(tmp_path, program, text)
    assert "password" in said
    assert secrets_in(guarded.secrets, said) == set()


def output_of(folder, program, text):
    """Everything that a command prints that ends because of its configuration."""
    file = folder / "config.toml"
    file.write_text(text)
    command = [sys.executable, "-m", "edge_agent", program, "--config", file]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=30, check=False)
    assert ended.returncode in {1, 78}
    return ended.stdout + ended.stderr


def test_check_is_silent_about_secrets_that_are_right(tmp_path, guarded):
    guarded.own(FIRST)
    (tmp_path / "config.toml").write_text(agent_config(guarded))
    command = [sys.executable, "-m", "edge_agent", "check", "--config", tmp_path / "config.toml"]
    ended = subprocess.run(command, capture_output=True, cwd=REPO, timeout=30, check=True)
    assert secrets_in(guarded.secrets, ended.stdout, ended.stderr) == set()


def test_a_planted_secret_is_found(tmp_path, guarded):
    guarded.own(FIRST)
    key = guarded.key.read_text()
    for place in (f"password={FIRST}", key, "".join(key.split())[60:100], pieces_of(key).pop().upper()):
        assert secrets_in(guarded.secrets, "a log", place), place
    (tmp_path / "file").write_bytes(b"\0" + SECOND.encode())
    assert secrets_in(guarded.secrets, tmp_path / "file") == {SECOND}
