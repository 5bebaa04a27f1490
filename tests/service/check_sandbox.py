"""The sandbox, from inside: a program of ours takes the agent's place in its own unit and tries what must not be.

It does so as the service's user, and as root, where only the sandbox is in its way. What a unit without a sandbox may not
do either, because the container as a whole may not, proves nothing and is said.
"""

import json
from pathlib import Path
from typing import Any

from tests.service.bench import Bench
from tests.service.container import ELSEWHERE
from tests.service.report import CheckSkippedError

PROBE = "/usr/local/lib/sandbox-probe.py"
IN_PLACE = f"""[Service]
Type=oneshot
Restart=no
WatchdogSec=0
ExecStart=
ExecStart=/usr/bin/python3 {PROBE} {ELSEWHERE}
StandardOutput=truncate:/run/probe-%i.json
"""
AS_ROOT = "User=root\n"
FREE = f"""[Service]
Type=oneshot
ExecStart=/usr/bin/python3 {PROBE} {ELSEWHERE}
StandardOutput=truncate:/run/probe-free.json
StateDirectory=probe-free
RuntimeDirectory=probe-free
"""
QUESTION = "connect to the address elsewhere"
OFFLINE = "/mnt/first/systemd/edge-agent@.service.d/20-offline.conf"
SCORE_MOST = 2.5


def check_sandbox(bench: Bench) -> None:
    """As it is, and with the drop-in for a line without network but its broker."""
    bench.report.section("Sandbox")
    container = bench.container
    container.write(PROBE, (Path(__file__).parent / "probe.py").read_text(encoding="utf-8"))
    container.write("/tmp/of-others", "seen")
    container.write("/etc/systemd/system/probe-free.service", FREE)
    free = _run_probe(bench, "probe-free.service", "/run/probe-free.json")
    proving = [name for name in free["forbidden"] if free["tried"][name] == "done"]
    tried: dict[str, Any] = {}
    for name, extra, who in (("probe", "", "the service's user"), ("probe-root", AS_ROOT, "root")):
        with bench.report.check(f"as {who}, a forbidden write, connection or call fails inside the unit") as notes:
            tried = _probe(bench, name, extra)
            done = [name for name in tried["forbidden"] if tried["tried"][name] == "done"]
            done = [one for one in done if (who, one) != ("root", "become root")]
            assert not done, f"not forbidden: {', '.join(done)}"
            notes.append(f"{len(proving)} things that a unit without a sandbox may do: {', '.join(proving)}")
            if others := [one for one in tried["forbidden"] if one not in proving]:
                notes.append(f"not provable in a container, for nobody may: {', '.join(others)}")
    with bench.report.check("what the agent needs is allowed") as notes:
        tried = _probe(bench, "probe")
        refused = {name: tried["tried"][name] for name in tried["allowed"] if tried["tried"][name] != "done"}
        assert not refused, f"refused: {refused}"
        notes.append(", ".join(tried["allowed"]))
    with bench.report.check("no capabilities, no new ones, and a filter of system calls; the running agent, too"):
        wanted = {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
        assert tried["marks"] == wanted, str(tried["marks"])
        status = container.run("cat", f"/proc/{bench.line.pid()}/status").stdout
        agents = {row.split(":")[0]: row.split(":")[1].strip() for row in status.splitlines()}
        assert {key: agents[key] for key in wanted} == wanted, str(agents)
    with bench.report.check("with 20-offline.conf only the broker's address can be reached") as notes:
        notes.append(_try_offline(bench, tried))
    with bench.report.check(f"systemd-analyze security scores the installed unit at most {SCORE_MOST}") as notes:
        text = container.run("systemd-analyze", "security", "--no-pager", bench.line.unit).stdout
        score = float(text.rstrip().rpartition(": ")[2].split()[0])
        notes.append(f"{score} on systemd {container.run('systemctl', '--version').stdout.split()[1]}")
        assert score <= SCORE_MOST, f"{score}"


def _try_offline(bench: Bench, without: dict[str, Any]) -> str:
    assert without["tried"][QUESTION] == "done", f"without the drop-in it fails, too: {without['tried'][QUESTION]}"
    bench.container.run("sh", "-c", f"mkdir -p {_drop_ins('probe')} && cp {OFFLINE} {_drop_ins('probe')}/")
    tried = _probe(bench, "probe")["tried"]
    if tried[QUESTION] == "done" and not _can_filter(bench):
        raise CheckSkippedError("this container cannot filter by address: the kernel lets it load no BPF programs")
    assert tried[QUESTION] != "done", "the connection was made"
    to_broker = tried["connect to the broker on this machine"]
    assert to_broker == "done", f"the broker: {to_broker}"
    return f"elsewhere: {tried[QUESTION]}"


def _can_filter(bench: Bench) -> bool:
    """Whether a unit of nobody's with `IPAddressDeny=any` is cut off."""
    connect = f"import socket; socket.create_connection(('{ELSEWHERE}', 1883), timeout=2)"
    command = ["systemd-run", "--quiet", "--wait", "-p", "IPAddressDeny=any", "python3", "-c", connect]
    return bench.container.run(*command, check=False).returncode != 0


def _drop_ins(name: str) -> str:
    return f"/etc/systemd/system/edge-agent@{name}.service.d"


def _probe(bench: Bench, name: str, extra: str = "") -> dict[str, Any]:
    bench.container.write(f"{_drop_ins(name)}/90-probe.conf", IN_PLACE + extra)
    answer = _run_probe(bench, bench.instance(name).unit, f"/run/probe-{name}.json")
    bench.container.run("rm", "-r", _drop_ins(name))
    return answer


def _run_probe(bench: Bench, unit: str, answer: str) -> dict[str, Any]:
    bench.container.run("systemctl", "daemon-reload")
    started = bench.container.run("systemctl", "start", unit, check=False)
    assert started.returncode == 0, bench.container.journal_text(unit)[-1500:]
    said: dict[str, Any] = json.loads(bench.container.run("cat", answer).stdout)
    return said
