"""How the board feels: temperature, throttling, memory, disk, clock. A sensor that cannot be read is None, never 0."""

import ctypes
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edge_agent.hardware.probe import LIVE, kilobytes_as_mb, read_text

_HOTTEST_ON_ORIN = "tj-thermal"  # the hottest junction of the chip: what throttling goes by
_MAX_C = 150.0  # no silicon reports more and works

# Bits of the Raspberry Pi firmware's GET_THROTTLED: 0 to 3 now, 16 to 19 the same since boot.
_FIRMWARE_BITS = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
_SINCE_BOOT_SHIFT = 16
_FIRMWARE_PATHS = (
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/platform/*firmware*/get_throttled",
    "sys/devices/platform/*/*firmware*/get_throttled",
)

# A Jetson's `…-throttle-alert` is raised while its zone is throttled. Frequency caps that the kernel sets for heat are
# evidence too, but their absence is none: firmware throttles behind the kernel's back. Fans, and the
# `hot-surface-alert` at 70 °C, which slows nothing, say nothing about throttling.
_ALERT = re.compile(r".+-throttle-alert")
_FREQUENCY_CAP = re.compile(r"(thermal-)?(cpufreq|devfreq)-.+")


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One reading; None is unknown.

    `temperature_c` is what thermal limits go by: the junction temperature where there is one, else the hottest zone.
    `zones` are °C by the zone's name. `throttled` names what holds the board back, now or (`…_since_boot`) earlier:
    empty is "nothing", None is "this board does not tell". MB are 2**20 bytes; `rss_mb` is this process's.
    """

    temperature_c: float | None
    zones: Mapping[str, float | None]
    throttled: tuple[str, ...] | None
    memory_available_mb: int | None
    rss_mb: int | None
    disk_free_mb: int | None
    cpu_mhz: float | None


@dataclass(frozen=True, slots=True)
class Clock:
    """The system clock: whether something keeps it in step, and how far it may be off at most. None is unknown."""

    synced: bool | None
    max_error_ms: float | None


def read(root: Path = LIVE, disk: Path | None = None) -> Telemetry:
    """Reads the sensors below `root`, and the room left on the file system of `disk`. Never raises."""
    root = root.absolute()
    zones = _zones(root)
    return Telemetry(
        temperature_c=_temperature_c(zones),
        zones=zones,
        throttled=_throttled(root),
        memory_available_mb=kilobytes_as_mb(read_text(root, "proc/meminfo") or "", "MemAvailable"),
        rss_mb=kilobytes_as_mb(read_text(root, "proc/self/status") or "", "VmRSS"),
        disk_free_mb=_disk_free_mb(disk) if disk else None,
        cpu_mhz=_cpu_mhz(root),
    )


def _zones(root: Path) -> dict[str, float | None]:
    """Thermal zones by name; of several of a name, the hottest. A PMIC's is a constant, not a measurement."""
    zones: dict[str, float | None] = {}
    for folder in _below(root, "sys/class/thermal/thermal_zone*"):
        name = (read_text(root, folder / "type") or "").strip() or folder.name
        if name.startswith("PMIC"):
            continue
        known = [value for value in (zones.get(name), _celsius(root, folder / "temp")) if value is not None]
        zones[name] = max(known, default=None)
    return zones


def _celsius(root: Path, path: Path) -> float | None:
    """Milli-°C from a sensor. Sensors that are off give an error (EAGAIN), 0 or less (-256000), or nonsense."""
    value = _number(root, path)
    celsius = None if value is None else value / 1000
    return celsius if celsius is not None and 0 < celsius <= _MAX_C else None


def _temperature_c(zones: Mapping[str, float | None]) -> float | None:
    junction = zones.get(_HOTTEST_ON_ORIN)
    if junction is not None:
        return junction
    return max((value for value in zones.values() if value is not None), default=None)


def _throttled(root: Path) -> tuple[str, ...] | None:
    firmware = _firmware_says(root)
    cooling = _cooling_says(root)
    found = [*(firmware or ()), *(cooling or ()), *_alarm_says(root)]
    if not found and firmware is None and cooling is None:
        return None
    return tuple(dict.fromkeys(found))


def _firmware_says(root: Path) -> tuple[str, ...] | None:
    """`50005`, hexadecimal with or without `0x`, from the Raspberry Pi's firmware."""
    for pattern in _FIRMWARE_PATHS:
        for path in _below(root, pattern):
            found = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{1,8})", (read_text(root, path) or "").strip())
            if found:
                bits = int(found[1], 16)
                now = [name for bit, name in enumerate(_FIRMWARE_BITS) if bits >> bit & 1]
                earlier = bits >> _SINCE_BOOT_SHIFT
                return (*now, *(f"{name}_since_boot" for bit, name in enumerate(_FIRMWARE_BITS) if earlier >> bit & 1))
    return None


def _cooling_says(root: Path) -> tuple[str, ...] | None:
    """`throttled` where the kernel holds a clock down for heat; empty where a Jetson's alerts are all quiet."""
    alerts, caps = [], []
    for folder in _below(root, "sys/class/thermal/cooling_device*"):
        kind, state = (read_text(root, folder / "type") or "").strip(), _number(root, folder / "cur_state")
        if state is not None and _ALERT.fullmatch(kind):
            alerts.append(state)
        elif state is not None and _FREQUENCY_CAP.fullmatch(kind):
            caps.append(state)
    if any(state > 0 for state in (*alerts, *caps)):
        return ("throttled",)
    return () if alerts else None


def _alarm_says(root: Path) -> tuple[str, ...]:
    """The kernel's rpi_volt driver polls every 2 s whether the voltage was low since the last poll.

    A quiet alarm tells nothing about temperature, so it never makes "nothing" of "unknown".
    """
    for folder in _below(root, "sys/class/hwmon/hwmon*"):
        is_volt = (read_text(root, folder / "name") or "").strip() == "rpi_volt"
        if is_volt and _number(root, folder / "in0_lcrit_alarm") == 1:
            return ("under_voltage",)
    return ()


def _cpu_mhz(root: Path) -> float | None:
    """The clock of the fastest cluster now, as the kernel asked for it."""
    paths = _below(root, "sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq")
    return max((khz / 1000 for path in paths if (khz := _number(root, path))), default=None)


def _number(root: Path, path: Path) -> int | None:
    text = (read_text(root, path) or "").strip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,12}", text) else None


def _below(root: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from sorted(root.glob(pattern))
    except (OSError, ValueError, RuntimeError):
        return


def _disk_free_mb(path: Path) -> int | None:
    """The room that an ordinary user may fill."""
    try:
        return shutil.disk_usage(path).free // 2**20
    except (OSError, ValueError):
        return None


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2) up to `status`, and room for the rest, which the kernel fills in."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


_STA_UNSYNC = 0x0040


def clock() -> Clock:
    """What the kernel knows about its clock: adjtimex(2) with `modes` 0, which changes nothing. Never raises."""
    timex = _Timex()
    try:
        state = _libc().adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return Clock(None, None)
    return _judge(state, timex.status, timex.maxerror)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _judge(state: int, status: int, maxerror_us: int) -> Clock:
    """`state` is -1 where the call was refused, as in a sandbox. Without a source of time the error has no bound."""
    if state < 0:
        return Clock(None, None)
    if status & _STA_UNSYNC:
        return Clock(synced=False, max_error_ms=None)
    return Clock(synced=True, max_error_ms=maxerror_us / 1000)
