"""How an agent of this device is: asked over its socket, and after its end pieced together from what it left."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from edge_agent.app.instances import JOIN, Instance
from edge_agent.app.service import Service, show
from edge_agent.catalogue import lookup
from edge_agent.errors import FatalError, UsageError
from edge_agent.runtime.status_socket import ask
from edge_agent.runtime.status_words import BOOT_ID, FILE, STUCK_S, stuck_threads

HUNG_S = 5.0  # the main thread looks once a second; a reload or a slow disk may hold it up for a moment
Condition = Literal["up", "hangs", "starting", "down", "untold"]
WELL, DOUBTFUL, BAD, UNTOLD = 0, 1, 2, 3
"""Exit codes: it judges; it judges but something is wrong, or it is starting; it does not judge; who knows."""
_WORDS = {"at", "state", "reasons", "ended", "engine", "model", "workshop", "recent"}
_NUMBERS = {"pid", "deadline_ms", "health", "links", "parts", "threads", "watchdog"}
_BY_STATE = {"ready": WELL, "running": WELL, "degraded": DOUBTFUL, "starting": DOUBTFUL}


@dataclass(frozen=True, slots=True)
class Report:
    """What can be told of one agent.

    Args:
        instance: which.
        condition: whether it answers; untold: one may not look, or the configuration does not say where to.
        state: as published on `state`; `unknown` where it cannot be told.
        exit_code: of the command.
        told: sentences, the most important first; empty where all is well.
        advice: what to do, most likely first; commands in backquotes.
        facts: what the agent says of itself, or said last; None where there is nothing.
        service: what systemd says of it; None where it is no service.
    """

    instance: Instance
    condition: Condition
    state: str
    exit_code: int
    told: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    facts: Mapping[str, Any] | None = None
    service: Service | None = None

    def as_json(self) -> dict[str, Any]:
        """The document of `--json`."""
        service = self.service
        return {
            "name": self.instance.name,
            "config": self.instance.config and str(self.instance.config.absolute()),
            "condition": self.condition,
            "state": self.state,
            "exit_code": self.exit_code,
            "told": list(self.told),
            "advice": list(self.advice),
            "service": service and service.as_json(),
            "status": self.facts,
        }


def look(instance: Instance) -> Report:
    """Asks it, and where nobody answers looks at what it left. Never raises for what is wrong with the agent."""
    if instance.runtime is None:
        return _without_a_folder(instance)
    try:
        facts = _complete(json.loads(ask(instance.runtime)))
    except PermissionError:
        told = f"you may not look: {instance.runtime} is for its group"
        return Report(instance, "untold", "unknown", UNTOLD, (told,), (JOIN,), service=_service(instance))
    except TimeoutError:
        return _silent(instance, last_facts(instance))
    except OSError:
        return _without_an_answer(instance)
    except ValueError:
        told = "what it answers cannot be read: is it of another version than this command?"
        return Report(instance, "untold", "unknown", UNTOLD, (told,), ("`sudo systemctl restart` it",))
    return _alive(instance, facts)


def last_facts(instance: Instance) -> dict[str, Any] | None:
    """What it said last, before it ended; None where there is nothing that can be read.

    Raises:
        PermissionError: one may not look.
    """
    if instance.own_folder is None:
        return None
    try:
        return _complete(json.loads((instance.own_folder / FILE).read_bytes()))
    except PermissionError:
        raise
    except (OSError, ValueError):
        return None


def _complete(facts: Any) -> dict[str, Any]:
    """What an agent says of itself. Raises `ValueError` where it is of a version that says something else."""
    if not isinstance(facts, dict) or not facts.keys() >= _WORDS | _NUMBERS:
        raise ValueError("this is no status, or one of another version")
    return facts


def age_s(facts: Mapping[str, Any]) -> float:
    """Seconds since the agent's last sign of life, by the wall clock; never negative."""
    seen = datetime.fromisoformat(facts["at"].replace("Z", "+00:00"))
    return max(0.0, (datetime.now(timezone.utc) - seen).total_seconds())


def ago(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h 12 min`, `4 d 3 h`."""
    whole = int(seconds)
    if whole < 100:  # noqa: PLR2004 - up to here seconds say more
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if minutes < 100:  # noqa: PLR2004 - likewise
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if not days else f"{days} d {hours % 24} h"


def _alive(instance: Instance, facts: dict[str, Any]) -> Report:
    """It answers; but its main thread may not have looked for a while."""
    if facts["age_s"] > HUNG_S:
        return _silent(instance, facts)
    if stuck := stuck_threads(facts):
        hang = f"{', '.join(stuck)}: no sign of life for more than {STUCK_S:.0f} s"
        return Report(instance, "hangs", facts["state"], BAD, (hang,), _after_a_hang(instance, facts), facts)
    return _by_state(instance, facts)


def _by_state(instance: Instance, facts: dict[str, Any]) -> Report:
    state, reasons = facts["state"], _reasons_now(facts)
    told = ["it is being stopped"] if facts["ended"] else []
    advice: dict[str, None] = {}  # each once
    code = _BY_STATE.get(state, BAD)
    if not facts["links"].get("line", True) and not facts["ended"]:  # `state` does not say it: nobody would hear it
        told.append("the broker is not connected: no verdict goes out")
        advice["`edge-agent doctor` says why, or `edge-agent explain link_retry`"] = None
        code = max(code, DOUBTFUL)
    for reason in reasons:
        title, do = _explained(reason)
        told.append(f"{reason}: {title}" if title else reason)
        advice |= dict.fromkeys(do[:1])
    advice |= dict.fromkeys(f"`edge-agent explain {reason.partition(':')[0]}`" for reason in reasons[:1])
    return Report(instance, "up", state, code, tuple(told), tuple(advice), facts)


def unheard(facts: Mapping[str, Any]) -> str:
    """Why no verdict gets as far as to those who subscribe; empty where it does."""
    if not facts.get("links", {}).get("line", True):
        return "the broker is not connected"
    return "the broker does not take verdicts" if "verdicts_refused" in facts["reasons"] else ""


def _reasons_now(facts: Mapping[str, Any]) -> list[str]:
    """Without `no_arm` where no verdict gets through: then it is of the last that did, and the next may find somebody."""
    return [reason for reason in facts["reasons"] if reason != "no_arm" or not unheard(facts)]


def _silent(instance: Instance, facts: dict[str, Any] | None) -> Report:
    """The process is there, but its main thread does not move."""
    since = f" for {ago(facts.get('age_s') or age_s(facts))}" if facts else ""
    told = f"it hangs: the process is there, but has not moved{since}"
    advice = _after_a_hang(instance, facts)
    return Report(instance, "hangs", "error", BAD, (told,), advice, facts, _service(instance))


def _after_a_hang(instance: Instance, facts: Mapping[str, Any] | None) -> tuple[str, ...]:
    watched = f"the watchdog restarts it within {facts['watchdog']:.0f} s" if facts and facts["watchdog"] else ""
    by_hand = f"`kill -9 {facts['pid']}`, and start it again" if facts else "end the process, and start it again"
    restart = f"`sudo systemctl restart edge-agent@{instance.name}`" if instance.is_service else by_hand
    return tuple(filter(None, (watched, restart, "`journalctl -k -e` says whether a driver failed")))


def _without_a_folder(instance: Instance) -> Report:
    told = f"{instance.config} does not say which device it is: [device] id cannot be read"
    advice = (f"`edge-agent check --config {instance.config}`",)
    if instance.config and not os.access(instance.config, os.R_OK):
        told, advice = f"you may not read {instance.config}", (JOIN,)
    return Report(instance, "untold", "unknown", UNTOLD, (told,), advice, service=_service(instance))


def _without_an_answer(instance: Instance) -> Report:
    """Nobody listens: it is down, or so young that it does not yet, or its socket was deleted."""
    service = _service(instance)
    if service and service.is_starting:
        return Report(instance, "starting", "starting", DOUBTFUL, ("systemd is starting it",), (), None, service)
    try:
        facts = last_facts(instance)
    except PermissionError:
        words = f"it does not answer, and you may not look into {instance.own_folder}"
        return Report(instance, "untold", "unknown", UNTOLD, (words,), (JOIN,), service=service)
    if facts and not facts["ended"] and _lives(facts):
        words = f"process {facts['pid']} is there, but its socket is not: it is ending, or the file was deleted"
        return Report(instance, "untold", "unknown", UNTOLD, (words,), ("ask again in 5 s",), facts, service)
    told, advice = _post_mortem(instance, facts, service)
    if problem := _wrong_configuration(instance):
        told += (problem,)
        advice = (f"`edge-agent check --config {instance.config}`", *advice)
    return Report(instance, "down", "offline", BAD, told, tuple(dict.fromkeys(advice)), facts, service)


def _post_mortem(
    instance: Instance, facts: Mapping[str, Any] | None, service: Service | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Why it is down, and what to do."""
    config, name = instance.config, instance.name
    start = f"`sudo systemctl start edge-agent@{name}`" if instance.is_service else f"`edge-agent run -c {config}`"
    log = f"`journalctl -u edge-agent@{name} -e`" if instance.is_service else f"`edge-agent logs -c {config} -n 20`"
    if facts is None:
        return ("it has not run yet, as far as can be told", *_systemds(service)), (start,)
    since, ended = ago(age_s(facts)), facts["ended"]
    if service and service.failed_after(age_s(facts)):
        return (*_systemds(service), f"before that it ran until {since} ago"), (log, start)
    if ended and ended["why"] == "failed":
        code = str(ended["exit_code"])
        told = f"it failed {since} ago with exit code {code}: {ended['reason']}"
        return (told, *_systemds(service)), (*_explained(code)[1][:1], start, f"`edge-agent explain {code}`")
    if ended:
        why = (
            "it was stopped"
            if ended["why"] == "stopped"
            else "it ended by itself, for its cameras had no more to show,"
        )
        return (f"{why} {since} ago",), (start,)
    if facts.get("boot_id") != _boot_id():
        told = f"the device lost its power or was restarted while it ran; its last sign of life is {since} old"
        return (told,), (start, "the power supply; `journalctl -b -1 -e`")
    told = f"it was killed, or crashed; its last sign of life is {since} old"
    return (told, *_systemds(service)), (log, "`journalctl -k -e`: out of memory?", start)


def _systemds(service: Service | None) -> tuple[str, ...]:
    return (f"systemd: {service.words}",) if service and not service.is_well else ()


def _service(instance: Instance) -> Service | None:
    return show(f"edge-agent@{instance.name}") if instance.is_service else None


def _wrong_configuration(instance: Instance) -> str:
    """The first thing that is wrong with its file; empty where nothing is, or one may not read it."""
    if instance.config is None or not os.access(instance.config, os.R_OK):
        return ""
    from edge_agent.config import ConfigProblemsError, load

    try:
        load(instance.config)
    except ConfigProblemsError as error:
        first, *others = error.problems
        return f"its configuration is wrong: {first}" + (f" (and {len(others)} more)" if others else "")
    except FatalError as error:
        return f"its configuration is wrong: {error}"
    return ""


def _explained(word: str) -> tuple[str, tuple[str, ...]]:
    """Title, and what to do; empty where the catalogue does not know it."""
    with suppress(UsageError):
        entry = lookup(word)
        return entry.title, entry.do
    return "", ()


def _lives(facts: Mapping[str, Any]) -> bool:
    """Whether that process is still the agent: after a while its number is another's."""
    if facts.get("boot_id") != _boot_id():
        return False
    with suppress(OSError):
        command = Path(f"/proc/{facts['pid']}/cmdline").read_bytes()
        return b"edge-agent" in command or b"edge_agent" in command
    return False


def _boot_id() -> str | None:
    with suppress(OSError):
        return BOOT_ID.read_text().strip()
    return None
