"""Services that are missing, failed or not watched, clocks and journals: systemd as its own programs would tell."""

import os
import socket
from contextlib import closing
from dataclasses import replace

import pytest

import edge_agent
from edge_agent.app.doctor.service import of_clock
from edge_agent.app.status import Report
from edge_agent.hardware.telemetry import Clock
from tests.app.doctor.patients import board, finding, installation, simple
from tests.hardware.trees import make_tree, put

WELL = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "ExecMainStatus": "0",
    "NRestarts": "0",
    "WatchdogUSec": "10s",
    "User": "edge-agent",
}
NAME = "edge-agent@agent"


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A service of which systemctl says this, besides that it is well."""

    def make(port=1, more="", **told):
        program = tmp_path / "bin" / "systemctl"
        program.parent.mkdir(exist_ok=True)
        lines = "\n".join(f"{key}={value}" for key, value in {**WELL, **told}.items())
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        context = installation(tmp_path, simple(tmp_path, port=port, more=more))
        context.instance = replace(context.instance, is_service=True)
        return context

    return make


def test_a_service_that_is_well_passes(service):
    context = service()
    assert [finding(context, name).level for name in ("service", "watchdog")] == ["ok", "ok"]


FAULTS = {
    "missing": (
        {"LoadState": "not-found"},
        "fail",
        "systemd knows no",
        "sudo scripts/install, in the release's folder",
    ),
    "stopped": ({"ActiveState": "inactive"}, "fail", "it is stopped", f"sudo systemctl enable --now {NAME}"),
    "wrong configuration": (
        {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "78"},
        "fail",
        "it ended with 78",
        "edge-agent check --config ",
    ),
    "killed by the watchdog": (
        {"ActiveState": "failed", "Result": "watchdog"},
        "fail",
        "the watchdog ended it",
        f"sudo journalctl -u {NAME} -b -p warning -n 50",
    ),
    "a crash loop": (
        {"NRestarts": "17", "Result": "exit-code", "ExecMainStatus": "1"},
        "warn",
        "started again 17 times",
        f"sudo journalctl -u {NAME} -b -p warning -n 50",
    ),
    "not at the start": ({"UnitFileState": "disabled"}, "warn", "does not start with", f"sudo systemctl enable {NAME}"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_service_is_told(service, fault):
    told, level, evidence, fix = FAULTS[fault]
    found = finding(service(**told), "service")
    assert (found.level, evidence in found.evidence, found.fix.startswith(fix)) == (level, True, True), found


@pytest.mark.parametrize("usec", ["0", "infinity"])
def test_a_service_without_a_watchdog_is_found(service, usec):
    found = finding(service(WatchdogUSec=usec), "watchdog")
    assert (found.level, found.fix.startswith(f"sudo systemctl edit {NAME}")) == ("warn", True)


def test_an_agent_that_was_started_without_the_watchdog_is_found(service):
    context = service()
    context.status = Report(context.instance, "up", "running", 0, facts={"age_s": 0.1, "watchdog": None})
    found = finding(context, "watchdog")
    assert (found.level, found.fix) == ("warn", f"sudo systemctl restart {NAME}")


def test_a_sandbox_that_does_not_let_the_service_write_is_found(service):
    context = service(ProtectSystem="strict", ReadWritePaths="/srv")
    found = finding(context, "state-folder")
    own = context.instance.own_folder
    assert (found.level, found.fix) == (
        "fail",
        f"sudo systemctl edit {NAME}, and write: [Service] ReadWritePaths={own}",
    )
    assert finding(service(ProtectSystem="strict", ReadWritePaths=str(own.parent)), "state-folder").level != "fail"


def test_a_sandbox_without_the_brokers_address_is_found(service):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        told = {"IPAddressDeny": "0.0.0.0/0 ::/0", "IPAddressAllow": "192.0.2.10/32"}
        found = finding(service(server.getsockname()[1], **told), "broker-link")
        told["IPAddressAllow"] += " 127.0.0.0/8"
        assert finding(service(server.getsockname()[1], **told), "broker-link").level == "skip"
    fix = f"sudo systemctl edit {NAME}, and write: [Service] IPAddressAllow=127.0.0.1"
    assert (found.level, found.fix) == ("fail", fix)


def test_a_secret_that_systemd_keeps_is_not_missed_while_the_service_is_stopped(service, tmp_path):
    context = service(more='username = "cap"\npassword_file = "mqtt"\n', LoadCredential="mqtt:/etc/creds/mqtt")
    assert finding(context, "secrets").level == "skip"


def test_what_is_no_service_is_left_out(tmp_path):
    context = installation(tmp_path, simple(tmp_path))
    assert [finding(context, name).level for name in ("service", "watchdog")] == ["skip", "skip"]


def reported(tmp_path, condition, state, exit_code, told=(), advice=(), **facts):
    context = installation(tmp_path, simple(tmp_path))
    facts = {"age_s": 0.1, "reasons": [], "ended": None, **facts}
    context.status = Report(context.instance, condition, state, exit_code, told, advice, facts)
    return context


def test_an_agent_that_runs_passes(tmp_path):
    assert finding(reported(tmp_path, "up", "running", 0), "agent").level == "ok"


def test_an_agent_that_hangs_is_found(tmp_path):
    context = reported(tmp_path, "hangs", "error", 2, ("it hangs",), ("`kill -9 4711`, and start it again",))
    found = finding(context, "agent")
    assert (found.level, found.evidence, found.fix) == ("fail", "it hangs", "`kill -9 4711`, and start it again")


def test_an_agent_that_never_ran_is_to_be_started(tmp_path):
    found = finding(installation(tmp_path, simple(tmp_path)), "agent")
    assert (found.level, found.fix) == ("warn", f"edge-agent run -c {tmp_path}/agent.toml")


def test_how_an_agent_ended_is_told_although_its_configuration_is_wrong(tmp_path):
    context = installation(tmp_path, simple(tmp_path) + "\n[nonsense]\n", is_right=False)
    found = finding(context, "agent")
    assert (found.level, "it has not run yet" in found.evidence) == ("warn", True)


def test_an_agent_that_was_stopped_is_to_be_started(tmp_path):
    ended = {"why": "stopped", "reason": None, "exit_code": 0}
    context = reported(tmp_path, "down", "offline", 2, ("it was stopped 5 min ago",), ("`start it`",), ended=ended)
    found = finding(context, "agent")
    assert (found.level, found.fix) == ("warn", "start it")


def test_an_agent_that_failed_is_found(tmp_path):
    ended = {"why": "failed", "reason": "no", "exit_code": 1}
    context = reported(tmp_path, "down", "offline", 2, ("it failed 5 min ago",), ("`start it`",), ended=ended)
    assert finding(context, "agent").level == "fail"


def test_another_version_that_runs_than_is_installed_is_found(tmp_path):
    found = finding(reported(tmp_path, "up", "running", 0, version="0.0.9"), "version")
    assert (found.level, found.evidence) == ("warn", f"0.0.9 runs, and {edge_agent.__version__} is installed")
    assert found.fix == f"stop the agent (Ctrl-C) and start it again: edge-agent run --config {tmp_path}/agent.toml"


# --- journal and clock ----------------------------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path):
    """A copied system that keeps its journal."""
    root = make_tree(tmp_path / "copy", "raspberrypi,5-model-b", "brcm,bcm2712")
    put(root, "etc/systemd/journald.conf", "[Journal]\n#Storage=auto\n")
    (root / "var/log/journal").mkdir(parents=True)
    return root


def test_a_journal_on_disk_passes(system):
    assert finding(board(system), "journal").level == "ok"


def test_a_journal_that_a_distribution_keeps_in_memory_is_found(system):
    put(system, "usr/lib/systemd/journald.conf.d/40-rpi-volatile-storage.conf", "[Journal]\nStorage=volatile\n")
    found = finding(board(system), "journal")
    assert (found.level, found.evidence.startswith("Storage=volatile")) == ("warn", True)
    assert "| sudo tee /etc/systemd/journald.conf.d/80-edge-agent.conf" in found.fix


def test_the_drop_in_of_the_fix_mends_it(system):
    put(system, "usr/lib/systemd/journald.conf.d/40-rpi-volatile-storage.conf", "[Journal]\nStorage=volatile\n")
    put(system, "etc/systemd/journald.conf.d/80-edge-agent.conf", "[Journal]\nStorage=persistent\n")
    assert finding(board(system), "journal").level == "ok"


def test_a_journal_without_its_folder_is_found(system):
    (system / "var/log/journal").rmdir()
    found = finding(board(system), "journal")
    assert (found.level, "there is no /var/log/journal" in found.evidence) == ("warn", True)


@pytest.mark.parametrize(("synced", "level"), [(True, "ok"), (False, "warn"), (None, "skip")])
def test_a_clock_that_nothing_keeps_in_step_is_to_be_looked_at(synced, level):
    found = of_clock(Clock(synced, 1.5 if synced else None))
    assert (found.level, found.fix) == (level, "sudo timedatectl set-ntp true" if level == "warn" else None)
