"""From ready over reload and crashes to a configuration that is refused."""

import re
import time

from tests.service.bench import TECHNICIAN, Bench
from tests.service.container import wait_until
from tests.service.lines import Instance, configuration

CRASHES = 5
MESSAGE_ID = re.compile(r"[0-9a-f]{32}")


def check_life(bench: Bench) -> None:
    """Everything but what takes long."""
    bench.report.section("Ready, journal, reload")
    _check_ready(bench)
    _check_journal(bench)
    _check_reload(bench)
    bench.report.section("Refused configurations and crashes")
    _check_refused(bench)
    _check_crashes(bench)


def _check_ready(bench: Bench) -> None:
    line = bench.line
    with bench.report.check("the service becomes ready and judges parts") as notes:
        begun_s = time.monotonic()
        line.configure(configuration(line.name))
        line.systemctl("restart")
        notes.append(f"active after {time.monotonic() - begun_s:.1f} s")
        verdict = line.message("verdict/top")
        assert verdict["verdict"] in {"pass", "reject"}, f"verdict: {verdict}"
        wait_until(lambda: line.message("state")["state"] == "running", 10, "the state is running")
    with bench.report.check("systemctl status has a line for people") as notes:
        text = wait_until(lambda: line.facts()["StatusText"], 10, "there is a STATUS= line")
        assert re.match(r"(ready|running)\b.*\d+ parts", text), f"STATUS={text}"
        notes.append(text)
    with bench.report.check("the service starts with the system") as notes:
        enabled = bench.container.run("systemctl", "is-enabled", line.unit, check=False).stdout.strip()
        assert enabled == "enabled", f"systemctl is-enabled says {enabled}"


def _check_journal(bench: Bench) -> None:
    line = bench.line
    with bench.report.check("journal entries have the agent's fields and fixed message ids") as notes:
        entries = [entry for entry in bench.container.journal(line.unit) if "EDGE_AGENT_EVENT" in entry]
        events = {entry["EDGE_AGENT_EVENT"] for entry in entries}
        assert {"starting", "ready"} <= events, f"events in the journal: {sorted(events)}"
        ids = {entry["EDGE_AGENT_EVENT"]: entry.get("MESSAGE_ID", "") for entry in entries}
        with_id = {event: id_ for event, id_ in ids.items() if id_}
        assert with_id, f"no entry has a MESSAGE_ID: {sorted(events)}"
        assert all(MESSAGE_ID.fullmatch(id_) for id_ in with_id.values()), f"message ids: {with_id}"
        notes.append(f"{len(with_id)} of {len(ids)} events have a MESSAGE_ID")
    with bench.report.check("journalctl finds events by MESSAGE_ID, and -x explains them") as notes:
        event, id_ = next(iter(with_id.items()))
        found = bench.container.run("journalctl", "--no-pager", "-x", f"MESSAGE_ID={id_}").stdout
        subject = re.search(r"Subject: (.+)", found)
        assert event in found, f"MESSAGE_ID={id_} does not find {event}"
        assert subject, f"journalctl -x has no explanation of {event} ({id_}):\n{found[-600:]}"
        notes.append(f"{event}: {subject[1]}")
    with bench.report.check("the journal is on disk"):
        persistent = bench.container.run("sh", "-c", "ls -d /var/log/journal/*", check=False).stdout
        assert persistent, "/var/log/journal has no journal"


def _check_reload(bench: Bench) -> None:
    line = bench.line
    text = configuration(line.name)
    pid = line.pid()
    with bench.report.check("systemctl reload takes over a new threshold without a restart"):
        line.configure(text.replace("min_score = 0.5", "min_score = 0.6"))
        _reload(line, "reloaded")
        assert line.pid() == pid, "the process is another one"
        assert line.is_active(), f"after the reload: {line.facts()}"
    with bench.report.check("systemctl reload of a configuration that is wrong changes nothing"):
        line.configure(text.replace("min_score = 0.5", "min_scor = 0.5"))
        _reload(line, "reload_refused")
        assert line.pid() == pid, "the process is another one"
        assert line.is_active(), f"after the reload: {line.facts()}"
        assert line.message("verdict/top")["verdict"] in {"pass", "reject"}
    line.configure(text)
    line.systemctl("reload")


def _reload(line: Instance, event: str) -> None:
    before = line.count(rf"\b{event}\b")
    line.systemctl("reload")
    wait_until(lambda: line.count(rf"\b{event}\b") > before, 10, f"the journal says {event}")


def _check_refused(bench: Bench) -> None:
    wrong = bench.instance("wrong")
    with bench.report.check(
        "a configuration that is wrong ends with 78, is named in the journal, and is not started again"
    ) as notes:
        wrong.configure(configuration(wrong.name) + "\n[verdikt]\ndeadline_ms = 1\n")
        started = bench.container.run("systemctl", "start", wrong.unit, check=False)
        assert started.returncode, "systemctl start says all is well"
        time.sleep(4)  # twice RestartSec
        facts = wrong.facts()
        assert facts["ExecMainStatus"] == "78", f"{facts}\n{wrong.last_words()}"
        assert (facts["ActiveState"], facts["NRestarts"]) == ("failed", "0"), str(facts)
        assert "verdikt" in bench.container.journal_text(wrong.unit), "the journal does not name the key"
        shown = bench.agent("status", "--config", wrong.name, user=TECHNICIAN)
        notes.append(f"edge-agent status ends with {shown.returncode}")
    with bench.report.check("once it is mended, systemctl start is enough"):
        wrong.configure(configuration(wrong.name))
        wrong.systemctl("start")
        wrong.wait_active()
    wrong.forget()


def _check_crashes(bench: Bench) -> None:
    crashing = bench.instance("crashing")
    with bench.report.check(f"{CRASHES} kills in a row, ready or not: it comes back each time") as notes:
        crashing.configure(configuration(crashing.name))
        crashing.systemctl("start")
        for number in range(CRASHES):
            if number % 2 == 0:
                crashing.wait_active()
            pid = wait_until(crashing.pid, 20, "there is a process", every_s=0.05)
            bench.container.run("kill", "-9", str(pid), check=False)
            wait_until(lambda pid=pid: crashing.pid() != pid, 10, "systemd has seen it", every_s=0.05)
        crashing.wait_active()
        facts = crashing.facts()
        assert facts["NRestarts"] == str(CRASHES), str(facts)
        notes.append(f"the last crash was {crashing.count('unclean_end')} times told of as unclean_end")
    with bench.report.check("after a kill the next start says what the last verdict was"):
        assert crashing.count("unclean_end"), f"no unclean_end in the journal:\n{crashing.last_words()}"
    with bench.report.check("a stop takes less than five seconds and leaves the state offline"):
        begun_s = time.monotonic()
        crashing.systemctl("stop")
        took_s = time.monotonic() - begun_s
        assert took_s < 5, f"it took {took_s:.1f} s"
        assert crashing.message("state")["state"] == "offline"
        assert crashing.facts()["Result"] == "success", str(crashing.facts())
    crashing.forget()
