"""What a source is by its form, how it may be named aloud, and where its name and password go."""

import re
from typing import Literal
from urllib.parse import quote

Medium = Literal["device", "stream", "pipeline", "file"]

_SECRET = re.compile(r"(?i)(?<![a-z])(?:pass(?:word|wd|phrase)?|pwd|pw|secret|token)=(?!\"?\{password\})")
_PLACE = re.compile(r"\{username\}|\{password\}")
_WHERE_ELSE = 'write username = "..." and password_file = "...", a file of mode 0600'
_LONGEST_CREDENTIALS = 127
"""FFmpeg keeps name, colon and password of an RTSP address in so many characters (libavformat/rtsp.c: `auth[128]`)."""


def medium_of(source: str) -> Medium:
    """What the source is, by its form alone."""
    if re.search(r"\s!\s", source):
        return "pipeline"
    if "://" in source:
        return "stream"
    return "device" if source.startswith("/dev/") else "file"


def label_of(source: str) -> str:
    """The source in words that may be shown: what may hold secrets is left out.

    Of an address it is scheme, host and port; of a pipeline, the names of its elements.
    """
    medium = medium_of(source)
    if medium == "stream":
        scheme, _, rest = source.partition("://")
        return f"{scheme}://{_authority(rest)}"
    if medium == "pipeline":
        words = [part.split()[0] for part in source.split("!") if part.strip()]
        return "the pipeline " + " ! ".join(word for word in words if re.fullmatch(r"[a-z]\w*", word))
    return source


def objection(source: str, *, has_password: bool) -> str | None:
    """Why the source may not be written so, or None: a secret does not stand in the configuration."""
    medium = medium_of(source)
    if medium not in ("stream", "pipeline"):
        return "username and password_file are for streams and pipelines" if has_password else None
    if medium == "stream" and "@" in source:
        return f"must not hold a name or a password: {_WHERE_ELSE} (an @ of the path itself is written %40)"
    if _SECRET.search(source):
        return f"must not hold a password: {_WHERE_ELSE}, and {{password}} in its place in the source"
    if medium == "pipeline" and has_password and "{password}" not in source:
        return "has no place for the password: write {password} where the pipeline takes it, and {username} likewise"
    return None


def with_credentials(source: str, username: str | None, password: str | None) -> str:
    """The source as OpenCV takes it, with name and password in their places.

    That is where `{username}` and `{password}` stand; else, in an address, before the host.

    Raises:
        ValueError: they are too long, or of a kind that cannot be said; without a word of them.
    """
    is_pipeline = medium_of(source) == "pipeline"
    escaped = [_quoted(word) if is_pipeline else quote(word, safe="") for word in (username or "", password or "")]
    if _PLACE.search(source):
        return _PLACE.sub(lambda place: escaped[0 if place[0] == "{username}" else 1], source)
    if is_pipeline or username is None:
        return source
    if ":" in username:
        raise ValueError("username must not hold a colon: no server could tell where it ends")
    credentials = escaped[0] if password is None else ":".join(escaped)
    if len(credentials) > _LONGEST_CREDENTIALS:
        raise ValueError("username and password are too long for OpenCV: 126 signs, of which odd ones count threefold")
    scheme, _, rest = source.partition("://")
    return f"{scheme}://{credentials}@{rest}"


def _authority(rest: str) -> str:
    return re.split("[/?#]", rest)[0]


def _quoted(word: str) -> str:
    """As `gst-launch-1.0` takes a text with odd signs."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
