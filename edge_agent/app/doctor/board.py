"""The board: can it be served, and is it well?"""

from collections.abc import Iterator
from pathlib import Path

from edge_agent.app.doctor.context import Context
from edge_agent.app.doctor.findings import Check, Finding, fail, ok, skip, warn
from edge_agent.errors import ConfigError
from edge_agent.hardware import power
from edge_agent.hardware.probe import read_text
from edge_agent.hardware.profile import WORD_BITS, Profile

NEAR_C = 5.0
AGENT_MB, SPARE_MB = 180.0, 100
"""What an agent with a nano model takes where the profile has no budget; what should be free beside a running one."""

SUPPLY = "use the board's own power supply (5 V 5 A for a Raspberry Pi 5, 5 V 3 A for a 4) with its own short cable"
COOLING = "cool the board: heat sink, fan, and air around it"
_NOT_64_BIT = (
    "install a 64-bit system: Raspberry Pi OS (64-bit) runs on a Zero 2 W, 3, 4, 5 and their Compute Modules; older models "
    "cannot run one"
)


def _profile(context: Context) -> Profile | None:
    return None if isinstance(context.choice, ConfigError) else context.choice.profile


def look_at_board(context: Context) -> Iterator[Finding]:
    """Whether there is a profile, and it can be served."""
    choice, board = context.choice, context.board
    if isinstance(choice, ConfigError):
        yield fail(
            f"{board.board}: {choice}", "set `profile` in [hardware] to a name that `edge-agent profile list` shows"
        )
        return
    profile = choice.profile
    if profile and not profile.supported:
        yield fail(f"{board.board}: {profile.reason}", str(profile.advice))
    elif profile is None:
        yield fail(choice.reason, "set `profile` in [hardware] to a name that `edge-agent profile list` shows")
    elif not choice.supported and board.bits == WORD_BITS:
        yield fail(choice.reason, f"flash JetPack {profile.min_jetpack} or later")
    else:
        yield ok(f"{board.board}, profile {profile.name}")


def look_at_userland(context: Context) -> Iterator[Finding]:
    """The engines come for 64-bit systems only."""
    bits = context.board.bits
    yield ok(f"the system is {bits}-bit") if bits == WORD_BITS else fail(f"the system is {bits}-bit", _NOT_64_BIT)


def look_at_supply(context: Context) -> Iterator[Finding]:
    """What the firmware says of the voltage."""
    throttled = context.telemetry.throttled
    if throttled is None:
        yield skip("this board does not tell")
    elif "under_voltage" in throttled:
        yield fail("the supply voltage is too low now", SUPPLY)
    elif "under_voltage_since_boot" in throttled:
        yield warn("the supply voltage was too low since the last start", SUPPLY)
    else:
        yield ok("no under-voltage since the last start")


def look_at_throttling(context: Context) -> Iterator[Finding]:
    """What holds the clocks down, now or since the last start."""
    flags = context.telemetry.throttled
    if flags is None:
        yield skip("this board does not tell")
        return
    others = [flag for flag in flags if not flag.startswith("under_voltage")]
    now = [flag for flag in others if not flag.endswith("_since_boot")]
    fix = SUPPLY if any(flag.startswith("under_voltage") for flag in flags) else COOLING
    if now:
        yield fail(f"the board slows itself down now: {', '.join(now)}", fix)
    elif others:
        yield warn(f"the board slowed itself down since the last start: {', '.join(others)}", fix)
    else:
        yield ok("nothing holds the board back")


def look_at_temperature(context: Context) -> Iterator[Finding]:
    """The hottest sensor that counts against the profile's limits."""
    celsius, profile = context.telemetry.temperature_c, _profile(context)
    limits = profile.thermal if profile else None
    if celsius is None:
        yield skip("no sensor of this board can be read")
    elif limits is None:
        yield ok(f"{celsius:.0f} °C; the profile has no limit")
    elif celsius >= limits.throttle_c:
        yield fail(f"{celsius:.0f} °C: from {limits.throttle_c:g} °C on the board slows itself down", COOLING)
    elif celsius >= limits.throttle_c - NEAR_C:
        yield warn(f"{celsius:.0f} °C: at {limits.throttle_c:g} °C the board slows itself down", COOLING)
    else:
        yield ok(f"{celsius:.0f} °C, below {limits.throttle_c:g} °C")


def look_at_power_mode(context: Context) -> Iterator[Finding]:
    """The power mode of a Jetson against the profile's."""
    mode, profile = power.power_mode(context.root), _profile(context)
    if mode is None or profile is None:
        yield skip("this board has no power modes, or does not tell")
    elif unlike := power.unlike(profile, context.root):
        evidence, _, fix = unlike.rpartition(": ")
        yield warn(evidence, fix if fix.startswith("sudo") else f"set [power] mode in a site profile: {fix}")
    else:
        yield ok(f"the power mode is {mode}")


def look_at_memory(context: Context) -> Iterator[Finding]:
    """What is free, and whether the kernel had to end programs."""
    free_mb, profile = context.telemetry.memory_available_mb, _profile(context)
    if free_mb is None:
        yield skip("this system does not tell what is free")
        return
    budget_mb = profile.budget.rss_mb if profile and profile.budget else AGENT_MB
    needed_mb = SPARE_MB if context.is_up else budget_mb + SPARE_MB
    killed = _killed(context.root)
    who = "ps -eo rss,args --sort=-rss | head"
    if free_mb < needed_mb:
        yield fail(f"{free_mb} MB are free, and {needed_mb:.0f} should be", f"end what takes it; `{who}` shows it")
    elif killed:
        yield warn(
            f"the kernel ended {killed} programs for lack of memory since the last start",
            "see which with `journalctl -k -b -g 'Out of memory'`, and give the device less to do",
        )
    else:
        yield ok(f"{free_mb} MB are free")


def _killed(root: Path) -> int:
    lines = (read_text(root.absolute(), "proc/vmstat") or "").splitlines()
    counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
    return int(counts[0]) if counts and counts[0].isdecimal() else 0


CHECKS = (
    Check("board", "board", "whether this board can be served, and by which profile", look_at_board, "copy"),
    Check("userland", "board", "a 32-bit system, for which there are no engines", look_at_userland, "copy"),
    Check("power-supply", "board", "under-voltage, now and since the last start", look_at_supply, "copy"),
    Check("throttling", "board", "clocks held down for heat or power, now and since", look_at_throttling, "copy"),
    Check("temperature", "board", "the hottest sensor against the profile's limits", look_at_temperature, "copy"),
    Check("power-mode", "board", "a Jetson in another power mode than its profile's", look_at_power_mode, "copy"),
    Check("memory", "board", "too little free memory; programs ended for lack of it", look_at_memory, "copy"),
)
