"""The installer: on a fresh system without network, again, with a newer version, with one that does not work, and away."""

import time
from pathlib import Path

from tests.service.bench import LINE, TECHNICIAN, Bench
from tests.service.container import wait_until
from tests.service.lines import configuration

FIRST = "line1"  # what the installer calls the first instance, if it is not told
OWN_PLACES = "/etc /opt /usr /var/lib /home /root /srv"
ANY_TRACE = f"find {OWN_PLACES} -xdev -iname '*edge-agent*' -o -xdev -iname '*edge_agent*'"


def check_install(bench: Bench) -> None:
    """From nothing to a service."""
    bench.report.section("Installation, without network")
    container = bench.container
    with bench.report.check("a dry run changes nothing"):
        before = _all_files(bench)
        bench.install("first", "--dry-run")
        assert _all_files(bench) == before, f"changed: {sorted(_all_files(bench) ^ before)[:5]}"
    with bench.report.check("scripts/install on a fresh system ends with a service that is ready") as notes:
        done = bench.install("first")
        notes.append(done.stderr.strip().splitlines()[-1])
        assert bench.instance(FIRST).is_active(), str(bench.instance(FIRST).facts())
    with bench.report.check("the configuration that it wrote for this board passes edge-agent check"):
        checked = bench.agent("check", "--config", f"/etc/edge-agent/{FIRST}.toml")
        assert checked.returncode == 0, checked.stdout + checked.stderr
    with bench.report.check("it runs as its own user, and technicians are in its group"):
        pid = bench.instance(FIRST).pid()
        owner = container.run("ps", "-o", "user:20=,group:20=", "-p", str(pid)).stdout.split()
        assert owner == ["edge-agent", "edge-agent"], f"user and group of the process: {owner}"
        container.run("usermod", "-aG", "edge-agent", TECHNICIAN)
    with bench.report.check("the same command again changes nothing and restarts nothing that works") as notes:
        settings = _settings(bench)
        pid = bench.instance(FIRST).pid()
        bench.install("first")
        assert _settings(bench) == settings, "files of /etc/edge-agent or /etc/systemd have changed"
        if bench.instance(FIRST).pid() != pid:
            notes.append("the service was restarted")
    with bench.report.check("a second instance with a configuration of one's own"):
        container.write(f"/root/{LINE}.toml", configuration(LINE))
        bench.install("first", "--config", f"/root/{LINE}.toml")
        assert bench.line.is_active(), str(bench.line.facts())
        container.run("systemctl", "disable", "--now", bench.instance(FIRST).unit)
        container.run("rm", f"/etc/edge-agent/{FIRST}.toml")


def check_upgrades(bench: Bench) -> None:
    """A newer version that works, and three that do not."""
    bench.report.section("Upgrades, and the way back")
    line = bench.line
    with bench.report.check("a newer version takes over; configuration and data stay") as notes:
        settings, kept = _settings(bench, "/etc/edge-agent"), _data(bench)
        bench.install("newer")
        assert _version(bench) == "0.90.0", f"edge-agent --version: {_version(bench)}"
        assert _settings(bench, "/etc/edge-agent") == settings, "/etc/edge-agent has changed"
        assert kept <= _data(bench), f"gone from the data: {sorted(kept - _data(bench))}"
        assert _running_version(bench) == "0.90.0", "the service runs another version"
        notes.append(f"{len(kept)} files of data kept")
    for release, what in {
        "crashes": "crashes at its start",
        "refuses": "refuses the configuration (78)",
        "hangs": "never gets ready",
    }.items():
        with bench.report.check(f"back by itself from a version that {what}") as notes:
            settings, kept = _settings(bench), _data(bench)
            within = ("--ready-within", "12") if release == "hangs" else ()
            done = bench.install(release, *within, check=False, in_haste=True)
            assert done.returncode, "scripts/install says that all is well"
            wait_until(line.is_active, 20, "the version before serves")
            assert _version(bench) == "0.90.0", f"edge-agent --version: {_version(bench)}"
            assert _running_version(bench) == "0.90.0", "the service runs another version"
            assert _settings(bench) == settings, "files of /etc have changed"
            assert kept <= _data(bench), f"gone from the data: {sorted(kept - _data(bench))}"
            assert line.message("verdict/top")["verdict"] in {"pass", "reject"}
            notes.append(
                next((row for row in done.stderr.splitlines() if "going back" in row), "no word of the way back")
            )
    with bench.report.check("a wheel folder that lacks something changes nothing, and nothing is restarted"):
        pid = line.pid()
        done = bench.install("lacking", check=False, in_haste=True)
        assert done.returncode, "scripts/install says that all is well"
        assert line.pid() == pid, "the service was restarted"
        assert _version(bench) == "0.90.0", f"edge-agent --version: {_version(bench)}"
    with bench.report.check("scripts/install --back brings the version before, when an operator wants it"):
        bench.install("newer", "--back")
        assert _version(bench) != "0.90.0", f"edge-agent --version: {_version(bench)}"
        line.wait_active()


def check_removal(bench: Bench) -> None:
    """Away, back, and away for good."""
    bench.report.section("Removal")
    container = bench.container
    with bench.report.check("--uninstall stops the service and keeps configuration and data"):
        kept = _data(bench)
        bench.install("first", "--uninstall")
        left = container.run(
            "sh", "-c", "ls /etc/systemd/system/edge-agent* /opt/edge-agent /usr/local/bin/edge-agent", check=False
        )
        assert not left.stdout, f"left behind: {left.stdout}"
        assert container.run("pgrep", "-u", "edge-agent", check=False).returncode, "processes of edge-agent still run"
        assert container.path(f"/etc/edge-agent/{LINE}.toml").exists(), "the configuration is gone"
        assert kept <= _data(bench), f"gone from the data: {sorted(kept - _data(bench))}"
    with bench.report.check("installed again, it goes on with the same configuration"):
        bench.install("first", "--name", LINE, in_haste=True)
        assert bench.line.is_active(), str(bench.line.facts())
    with bench.report.check("--uninstall --purge leaves no trace") as notes:
        begun_s = time.monotonic()
        bench.install("first", "--uninstall", "--purge")
        notes.append(f"after {time.monotonic() - begun_s:.1f} s")
        traces = [row for row in container.run("sh", "-c", ANY_TRACE).stdout.splitlines() if "/journal/" not in row]
        assert not traces, f"left behind: {traces}"
        assert container.run("getent", "passwd", "edge-agent", check=False).returncode, "the user is still there"
        assert container.run("getent", "group", "edge-agent", check=False).returncode, "the group is still there"
        failed = container.run("systemctl", "list-units", "--all", "--no-legend", "edge-agent*").stdout
        assert not failed.strip(), f"systemd still knows of {failed}"


def _version(bench: Bench) -> str:
    return bench.agent("--version").stdout.split()[-1]


def _running_version(bench: Bench) -> str:
    return str(bench.line.message("birth")["agent_version"])


def _settings(bench: Bench, where: str = "/etc/edge-agent /etc/systemd/system /etc/sysusers.d /etc/tmpfiles.d") -> str:
    """Names, owners, modes and digests."""
    script = f"find {where} -printf '%p %u %g %m %l\\n' 2>/dev/null | sort; find {where} -type f -exec sha256sum {{}} + | sort"
    return bench.container.run("sh", "-c", script).stdout


def _data(bench: Bench) -> set[str]:
    return set(
        bench.container.run(
            "find",
            f"/var/lib/edge-agent/{LINE}",
            "-type",
            "f",
            "-not",
            "-name",
            "*-wal",
            "-not",
            "-name",
            "*-shm",
            "-not",
            "-path",
            "*/evidence/*",
        ).stdout.split()
    )


def _all_files(bench: Bench) -> set[str]:
    """Every file with its time and size, but for what a running system writes."""
    script = f"find {OWN_PLACES} -xdev -printf '%p %s %T@ %u %m\\n'"
    rows = bench.container.run("sh", "-c", script).stdout.splitlines()
    return {row for row in rows if not row.startswith(("/var/lib/systemd", "/var/lib/mosquitto", "/usr/lib/python3"))}


def break_on_purpose(source: Path, release: str) -> None:
    """Makes a copy of the tree into a release that does not work."""
    lines = {
        "crashes": 'raise RuntimeError("broken on purpose")',
        "refuses": "raise SystemExit(78)",
        "hangs": "__import__('time').sleep(3600)",
    }
    module = source / "edge_agent/app/run.py"
    text = module.read_text(encoding="utf-8")
    head = "    wishes = _listen_to_signals()\n"
    assert text.count(head) == 1, "app/run.py is not as this test expects it"
    module.write_text(text.replace(head, f"    {lines[release]}\n{head}"), encoding="utf-8")
