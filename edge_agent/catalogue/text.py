"""An entry in lines of text: for a terminal, and for the journal's catalogue (systemd.io/CATALOG)."""

import re
import textwrap

from edge_agent.catalogue import Entry, entries

JOURNAL_WIDTH = 78  # `journalctl -x` does not wrap, and a serial console has 80 columns
NOTHING = "Nothing has to be done."

_HEAD = "# What `journalctl -x` says of edge-agent's events. Made by `edge-agent explain --catalog`; do not edit.\n"
_COMMAND = re.compile(r"`[^`]+`")
_JOINT = "\0"


def body(entry: Entry, width: int) -> str:
    """What it means, and what to do."""
    steps = [wrapped(step, width, "- ") for step in entry.do] or [NOTHING]
    return "\n".join([wrapped(entry.meaning, width), "", *steps])


def wrapped(text: str, width: int, bullet: str = "") -> str:
    """The text in lines of so many columns. Commands stay in one line, however long, so that they can be copied."""
    joined = _COMMAND.sub(lambda command: command[0].replace(" ", _JOINT), text)
    indent = " " * len(bullet)
    lines = textwrap.fill(
        joined, width, initial_indent=bullet, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace(_JOINT, " ")


def journal_catalogue() -> str:
    """The file for the journal, with an entry for everything that has a message id."""
    return _HEAD + "".join(_journal_entry(entry) for entry in entries().values() if entry.message_id)


def _journal_entry(entry: Entry) -> str:
    more = f"The words in it: `edge-agent explain WORD`, as for this one: `edge-agent explain {entry.name}`."
    return (
        f"\n-- {entry.message_id}\nSubject: {entry.title}\nDefined-By: edge-agent\n\n"
        f"{body(entry, JOURNAL_WIDTH)}\n\n{wrapped(more, JOURNAL_WIDTH)}\n"
    )
