"""Secrets that a configuration names by file: passwords and keys, each in a file that only its owner may read."""

import os
from pathlib import Path

from edge_agent.errors import ConfigError


def find(path: Path, key: str) -> Path:
    """Where the secret lies: a systemd credential of that bare name, or a file that nobody else can read.

    Args:
        path: what the configuration says.
        key: the key that says it, for the message.

    Raises:
        ConfigError: it is not there, or others can read it.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and path.name == str(path) and (credential := Path(credentials, path)).exists():
        return credential
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as err:
        raise ConfigError(f"{key}: cannot read {path}: {err.strerror}; create it with mode 0600") from err
    if mode & 0o077:
        raise ConfigError(f"{key}: {path} has mode {mode:04o}, others can read the secret; run: chmod 600 {path}")
    return path


def read_password(path: Path, key: str) -> str:
    """The password in the file, read anew; a line end behind it does not count.

    Raises:
        ConfigError: as `find`, and where it cannot be read or is empty.
    """
    path = find(path, key)
    try:
        password = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeError) as err:
        raise ConfigError(f"{key}: cannot read {path}: {getattr(err, 'strerror', None) or err}") from err
    if not password:
        raise ConfigError(f"{key}: {path} is empty; write the password into it")
    return password
