"""Which power mode a Jetson runs in. `nvpmodel` keeps it in two files; asking the program itself would need a process.

`/var/lib/nvpmodel/status` says `pmode:0002 fmode:…`, `/etc/nvpmodel.conf` what mode 2 is called. Numbers mean another
mode on each module, so modes are known by their names.
"""

import re
from pathlib import Path

from edge_agent.hardware.probe import LIVE, read_text
from edge_agent.hardware.profile import Profile


def power_mode(root: Path = LIVE) -> str | None:
    """The mode that is set, by name; None where it cannot be read, as on any board without `nvpmodel`."""
    status = re.search(r"\bpmode:\s*([0-9]{1,4})\b", read_text(root.absolute(), "var/lib/nvpmodel/status") or "")
    return _modes(root).get(int(status[1])) if status else None


def unlike(profile: Profile, root: Path = LIVE) -> str | None:
    """What is wrong with the mode that is set, and what to do; None where nothing is, or where it is not known.

    A profile's `MAXN` stands for `MAXN_SUPER` too, as its `p3701` stands for all `p3701-…`.
    """
    mode = power_mode(root)
    if mode is None or profile.power is None or f"{mode}_".startswith(f"{profile.power.mode}_"):
        return None
    expected, modes = profile.power.mode, _modes(root)
    number = next((number for number, name in modes.items() if f"{name}_".startswith(f"{expected}_")), None)
    fix = f"sudo nvpmodel -m {number}" if number is not None else f"this board only has {', '.join(modes.values())}"
    return f"the power mode is {mode}, and the profile {profile.name} counts on {expected}: {fix}"


def _modes(root: Path) -> dict[int, str]:
    """The names by their numbers: `< POWER_MODEL ID=2 NAME=MAXN_SUPER >`."""
    config = read_text(root.absolute(), "etc/nvpmodel.conf") or ""
    named = re.findall(r"^<\s*POWER_MODEL\s+ID=([0-9]{1,4})\s+NAME=(\S+)\s*>", config, re.MULTILINE)
    return {int(number): name for number, name in named}
