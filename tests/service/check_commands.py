"""What technicians ask: as a member of the group, and as somebody who is not."""

import json

from tests.service.bench import LINE, TECHNICIAN, Bench
from tests.service.container import wait_until
from tests.service.lines import READY_MOST_S

NOBODY = "nobody"


def check_commands(bench: Bench) -> None:
    """With the service up, then down."""
    bench.report.section("A technician's questions")
    container, line = bench.container, bench.line
    with bench.report.check("edge-agent status, as a member of the group"):
        shown = bench.agent("status", "--config", LINE, user=TECHNICIAN)
        assert shown.returncode == 0, f"{shown.returncode}: {shown.stdout}{shown.stderr}"
        facts = json.loads(bench.agent("status", "--config", LINE, "--json", user=TECHNICIAN).stdout)
        assert facts["state"] == "running", str(facts)[:300]
        assert facts["status"]["pid"] == line.pid(), str(facts)[:300]
    with bench.report.check("edge-agent status, as somebody else: says what to do, without a traceback"):
        refused = bench.agent("status", "--config", LINE, user=NOBODY)
        assert refused.returncode not in {0, 1}, f"{refused.returncode}: {refused.stdout}"
        _assert_told_of_group(refused.stdout + refused.stderr)
    with bench.report.check("edge-agent doctor, as somebody else: says what to do, without a traceback"):
        refused = bench.agent("doctor", "--config", LINE, user=NOBODY)
        assert refused.returncode, f"{refused.stdout[:300]}"
        _assert_told_of_group(refused.stdout + refused.stderr)
    for who in (TECHNICIAN, None):
        with bench.report.check(f"edge-agent doctor, as {who or 'root'}") as notes:
            done = bench.agent("doctor", "--config", LINE, "--json", user=who)
            assert "Traceback" not in done.stderr, done.stderr[-800:]
            findings = json.loads(done.stdout)
            checks = findings["checks"] if isinstance(findings, dict) else findings
            failed = [check["name"] for check in checks if check["level"] == "fail"]
            notes.append(f"{len(checks)} checks, failed: {', '.join(failed) or 'none'}")
            assert len(checks) >= 15, "too few checks"
    with bench.report.check("edge-agent logs and why, as a member of the group") as notes:
        logs = bench.agent("logs", "--config", LINE, "-n", "20", user=TECHNICIAN)
        assert logs.returncode == 0, logs.stdout + logs.stderr
        assert logs.stdout.strip(), "no entries"
        why = bench.agent("why", "last", "--config", LINE, user=TECHNICIAN)
        assert why.returncode == 0, why.stdout + why.stderr
        notes.append(why.stdout.strip().splitlines()[0])
    with bench.report.check("edge-agent logs and why, as somebody else: say what to do, without a traceback"):
        for command in (("logs",), ("why", "last")):
            refused = bench.agent(*command, "--config", LINE, user=NOBODY)
            assert refused.returncode, f"{command}: {refused.stdout[:300]}"
            _assert_told_of_group(refused.stdout + refused.stderr)
    with bench.report.check("pictures of rejected parts are kept, for the group alone"):
        script = f"find /var/lib/edge-agent/{LINE}/evidence -name '*.jpg' -printf '%m %g %p\\n'"
        listed = wait_until(lambda: container.run("sh", "-c", script, check=False).stdout, 15, "there is a picture")
        rows = listed.splitlines()
        assert all(row.startswith("640 edge-agent ") for row in rows), str(rows[:3])
        picture = rows[-1].split(maxsplit=2)[2]
        assert container.run("cat", picture, user=TECHNICIAN, check=False).returncode == 0, (
            "the technician cannot read it"
        )
        assert container.run("cat", picture, user=NOBODY, check=False).returncode, "anybody can read it"
    with bench.report.check("metrics for Prometheus are there, for a collector to read"):
        path = f"/run/edge-agent/{LINE}/metrics.prom"
        text = wait_until(lambda: container.run("cat", path, check=False).stdout, 20, f"{path} is there")
        assert "edge_agent_" in text, text[:300]
    with bench.report.check("edge-agent bundle packs logs and status, without pictures"):
        packed = bench.agent("bundle", "--config", LINE, "-o", "/tmp/bundle.tar.gz", timeout_s=60)
        assert packed.returncode == 0, packed.stdout + packed.stderr
        names = container.run("tar", "-tzf", "/tmp/bundle.tar.gz").stdout.splitlines()
        assert len(names) >= 5, str(names)
        assert not [name for name in names if name.endswith((".jpg", ".png"))], str(names)
    _check_down(bench)


def _check_down(bench: Bench) -> None:
    line = bench.line
    with bench.report.check("edge-agent status with the service stopped: exit 2, and what it did last"):
        line.systemctl("stop")
        shown = bench.agent("status", "--config", LINE, user=TECHNICIAN)
        assert shown.returncode == 2, f"{shown.returncode}: {shown.stdout}{shown.stderr}"
        facts = json.loads(bench.agent("status", "--config", LINE, "--json", user=TECHNICIAN).stdout)
        assert facts["status"]["ended"], str(facts)[:300]
    with bench.report.check("edge-agent why and logs with the service stopped"):
        for command in (("logs", "-n", "5"), ("why", "last")):
            asked = bench.agent(*command, "--config", LINE, user=TECHNICIAN)
            assert asked.returncode == 0, asked.stdout + asked.stderr
    line.systemctl("start", timeout_s=READY_MOST_S)


def _assert_told_of_group(text: str) -> None:
    assert "Traceback" not in text, text[-800:]
    assert "group" in text, f"no word of the group: {text}"
