"""Runs the real `edge-agent reject-arm`, and plays the agent that it listens to."""

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import pytest

from tests.fixtures import REPO

ROOT = "factory/leon/bottling/3/capper/vision/demo-01"
EXAMPLE = (REPO / "examples" / "reject-arm.toml").read_text()


class Arm:
    """The process; each line it prints is parsed as it comes, with the time of its arrival."""

    def __init__(self, folder, config, *arguments, env=None):
        file = folder / "arm.toml"
        file.write_text(config)
        self._log = folder / "arm.log"
        command = [sys.executable, "-m", "edge_agent", "reject-arm", "--config", str(file), *arguments]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=REPO, env=env)
        self.lines = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def log(self):
        return self._log.read_text()

    def wait_for(self, timeout=20, **wanted):
        """The first line that has these values, and when it came."""

        def fitting():
            return [it for it in self.lines if all(it[0].get(key) == value for key, value in wanted.items())]

        with self._news:
            if not self._news.wait_for(fitting, timeout):
                pytest.fail(f"no line with {wanted} in {timeout} s; there are {self.lines}\n{self.log}")
            return fitting()[0]

    def wait_for_log(self, text, timeout=20):
        until_s = time.monotonic() + timeout
        while text not in self.log:
            if time.monotonic() > until_s:
                pytest.fail(f"{text!r} was not logged:\n{self.log}")
            time.sleep(0.01)

    def stop(self):
        """Ends it politely: its summary."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
        self._reader.join()
        return self.lines[-1][0] if self.lines else None

    def end(self):
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()

    def _read(self):
        for line in self.process.stdout:
            with self._news:
                self.lines.append((json.loads(line), time.monotonic()))
                self._news.notify_all()


def config(broker, arm="", output='kind = "simulated"', mqtt="", device="demo-01"):
    """The example, on this broker, for this device, with other tables for the arm and its output."""
    text = (
        EXAMPLE.partition("[arm]")[0].replace("demo-01", device).replace("port = 1883", f"port = {broker.port}\n{mqtt}")
    )
    return f"{text.replace('localhost', '127.0.0.1')}\n[arm]\n{arm}\n[output]\n{output}\n"


@contextmanager
def running_arm(folder, text, *arguments, env=None):
    arm = Arm(folder, text, *(arguments or ("--json",)), env=env)
    try:
        arm.wait_for_log("arm_connected")
        yield arm
    finally:
        arm.end()


class Agent:
    """Publishes by hand what an agent would, through a listener of the tests."""

    def __init__(self, listener, session="s1"):
        self._listener, self._session, self._seq = listener, session, 0

    def heartbeat(self, **more):
        self._publish("heartbeat", {"state": "running", "last_verdict_seq": {"top": self._seq}, **more}, qos=0)

    def state(self, state, *, retain=True):
        self._publish("state", {"state": state}, retain=retain)

    def birth(self, on_unknown, on_agent_loss):
        self._publish("birth", {"on_unknown": on_unknown, "on_agent_loss": on_agent_loss}, retain=True)

    def verdict(self, word, *, retain=False, valid_ms=5000, **more):
        self._seq += 1
        at = datetime.now(timezone.utc)
        until = at + timedelta(milliseconds=valid_ms)
        fields = {"seq": self._seq, "at": at.isoformat(), "camera": "top", "part_id": f"top-{self._seq}"}
        fields |= {"trigger_id": None, "verdict": word, "valid_until": until.isoformat()}
        self._publish("verdict/top", fields | more, retain=retain)

    def _publish(self, topic, fields, *, qos=1, retain=False):
        schema = f"edge-agent/{topic.split('/')[0]}/1"
        now = {"sent_mono_ms": time.monotonic_ns() / 1e6 + 5e6}
        payload = json.dumps({"schema": schema, "session": self._session, **now, **fields}).encode()
        self._listener.publish(f"{ROOT}/{topic}", payload, qos=qos, retain=retain)


def ready(arm, agent):
    """The arm has heard a heartbeat of the agent."""
    agent.heartbeat()
    arm.wait_for(code="agent_back")
