"""The configuration: right, taken over, and its secrets kept."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edge_agent import secret_files
from edge_agent.app.doctor.context import Context
from edge_agent.app.doctor.findings import Check, Finding, fail, ok, skip, warn
from edge_agent.app.doctor.systemd import Unit
from edge_agent.app.doctor.who import READ
from edge_agent.app.instances import JOIN
from edge_agent.errors import ConfigError

SECRETS = ("password_file", "key")
MOST = 5


def look_at_configuration(context: Context) -> Iterator[Finding]:
    """Everything that is wrong with the file."""
    path = context.instance.config if context.instance else None
    if context.is_copy and path is None:
        yield skip("a copied tree was given, and no configuration")
    elif path is None:
        yield warn("/etc/edge-agent has no configuration of an agent", "name one: edge-agent doctor --config FILE")
    elif context.unreadable:
        yield skip(context.unreadable)
    elif context.loaded is None:
        for problem in context.problems[:MOST]:
            place = f"{problem.file}:{problem.line}" if problem.line else problem.file
            what = f"{problem.key}: {problem.message}" if problem.key else problem.message
            yield fail(what, f"mend it at {place}")
    elif not context.is_copy and not context.agent.may(path, READ):
        yield fail(
            f"{context.agent.name}, the agent's user, may not read {path}", f"sudo chgrp {context.agent.name} {path}"
        )
    else:
        yield ok(f"{path}: device {context.config.device.id}")


def look_at_applied(context: Context) -> Iterator[Finding]:
    """Whether the running agent has the file as it is now."""
    running = context.live.get("config_sha256") if context.live else None
    if not isinstance(running, str) or context.loaded is None:
        yield skip("no agent runs that could tell" if not context.is_up else context.silent)
    elif running == context.loaded.sha256:
        yield ok("the agent runs with the file as it is")
    else:
        yield warn("the file was changed since the agent read it", context.reload)


def look_at_secrets(context: Context) -> Iterator[Finding]:
    """Passwords and keys: there, the agent's own, and nobody else's."""
    found = list(_secrets(context.config, context))
    for key, path in found:
        yield _look_at_secret(context, key, path)
    if not found:
        yield skip("the configuration names none")


def _secrets(
    table: Any, context: Context, key: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Path]]:
    """Every file with a secret that the configuration names."""
    if isinstance(table, tuple):
        for index, item in enumerate(table):
            yield from _secrets(item, context, (*key, index))
    elif isinstance(table, BaseModel):
        for name in type(table).model_fields:
            value = getattr(table, name)
            if name in SECRETS and isinstance(value, Path):
                yield (*key, name), value
            else:
                yield from _secrets(value, context, (*key, name))


def _look_at_secret(context: Context, key: tuple[str | int, ...], path: Path) -> Finding:
    user, about = context.agent, str(key[0])
    if not os.access(path.parent, os.X_OK, effective_ids=True):
        return skip(f"you may not look into {path.parent}: {JOIN}", about)
    is_credential = path.name == str(path)
    if not is_credential and isinstance(context.unit, Unit) and context.unit.gives(path.name):
        return skip(f"systemd gives {path.name} to the service; it can be looked at while that runs", about)
    try:
        secret_files.find(path, str(key[-1]))
    except ConfigError:
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        if mode is None:
            install = f"sudo install -m 0600 -o {user.name}"
            by_hand = f"{install} /dev/stdin {path}, and type it, then Ctrl-D"
            fix = f"{install} KEYFILE {path}, from where the key was made" if key[-1] == "key" else by_hand
            return fail(f"there is no {path}, which {context.place(*key)} names", fix, about)
        return fail(f"others can read {path}: its mode is {mode:04o}", f"sudo chmod 600 {path}", about)
    if is_credential or user.may(path, READ):
        return ok(f"{path} is {user.name}'s alone", about)
    return fail(f"{user.name}, the agent's user, may not read {path}", f"sudo chown {user.name}: {path}", about)


CHECKS = (
    Check("configuration", "configuration", "everything that is wrong with the file", look_at_configuration, "copy"),
    Check(
        "applied", "configuration", "a file that was changed since the agent read it", look_at_applied, "configuration"
    ),
    Check(
        "secrets", "configuration", "password and key files that are missing or open", look_at_secrets, "configuration"
    ),
)
