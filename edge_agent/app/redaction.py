"""What must not leave the device with a text: passwords and keys, whether they are known or only look like it."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from edge_agent.config.load import MAX_BYTES

HIDDEN = "***"
FEWEST = 4
"""Letters of a secret that is looked for: shorter ones would be found in every other word."""

# Each begins with what is rare: with what may be long, a line without a space would take minutes.
_WORD = r"(?:passw|passphrase|_pass\b|pwd|psk|secret|token|credential|(?:api|access|private)[_-]?key)"
_KEY = rf"{_WORD}[\w.-]{{0,64}}"
_VALUE = r"\"{3}.*?\"{3}|'{3}.*?'{3}|\"(?:[^\"\\\n]|\\.)*\"?|'[^'\n]*'?|\[[^\]]*\]|[^\s,;}\]]+"
_ASSIGNMENT = re.compile(rf"(?is)(?P<key>{_KEY})(?P<middle>[\"']?\s*[=:]\s*)(?P<value>{_VALUE})")
_OF_ADDRESS = re.compile(r"://[^\s\"]{1,256}@")  # to the last @: a password may have one, or a slash
_OF_HEADER = re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{8,}")
_OF_UNIT = re.compile(r"(?m)^([ \t]*(?:Environment|SetCredential)[ \t]*=).*(?:(?<=\\)\n.*)*")
_COMMENT = re.compile(rf"(?im)^([ \t]*|[\w. -]+=[^#\n]*)#.*{_WORD}.*")  # in its own words, as `the old password was x`
_PEM = re.compile(r"(?s)-----BEGIN [^-]*PRIVATE KEY-----.*?(?:-----END [^-]*PRIVATE KEY-----|\Z)")
_FILES = re.compile(r"(?<![\w-])(?:password_file|key)[\"']?\s*=\s*[\"']([^\"'\n]+)[\"']")
_NAMES_A_FILE = ("_file", "_path", "_dir", "_folder")


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the known secrets, private keys, credentials in addresses, and values of keys with such names."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _PEM.sub(HIDDEN, text)
    text = _OF_ADDRESS.sub(f"://{HIDDEN}@", text)
    text = _OF_HEADER.sub(rf"\1 {HIDDEN}", text)
    text = _OF_UNIT.sub(rf"\1{HIDDEN}", text)
    text = _COMMENT.sub(rf"\1# {HIDDEN}", text)
    return _ASSIGNMENT.sub(_hide, text)


def _hide(found: "re.Match[str]") -> str:
    if found["key"].lower().endswith(_NAMES_A_FILE):  # it says where the secret is, and not what
        return found[0]
    quoted = found["value"][:1] if found["value"][:1] in "\"'" else ""
    return f"{found['key']}{found['middle']}{quoted}{HIDDEN}{quoted}"


def known_secrets(config: Path, text: str, folders: Iterable[Path]) -> set[str]:
    """What stands in the files with secrets that a configuration names, right or wrong, as far as it may be read.

    Args:
        config: its file: relative paths are taken from there.
        text: what stands in it.
        folders: where secrets may lie that are named without a folder.
    """
    found: set[str] = set()
    for name in _FILES.findall(text):
        for path in (config.absolute().parent / name, *(folder / name for folder in folders)):
            found |= set(_secrets_in(path))
    return found | {form for secret in found for form in (quote(secret, safe=""), json.dumps(secret)[1:-1])}


def _secrets_in(path: Path) -> Iterable[str]:
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return
    yield from (line.strip() for line in lines if len(line.strip()) >= FEWEST and not line.startswith("-----"))
