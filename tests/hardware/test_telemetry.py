import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.hardware.telemetry import Clock, _judge, clock, read
from tests.fixtures import SHARED, needs_shared
from tests.hardware.trees import make_cooling, make_zone, put

FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


@needs_shared
@pytest.mark.parametrize(
    ("tree", "temperature_c", "throttled"),
    [
        ("jetson-agx-orin-64gb", 47.9, None),
        ("jetson-orin-nano-8gb", 47.9, None),
        ("jetson-orin-nx-16gb", 47.9, None),
        ("jetson-xavier-nx", 41.0, None),
        ("pc-x86_64", None, None),
        ("raspberry-pi-3b-plus", 60.1, ()),
        (
            "raspberry-pi-4-4gb",
            81.0,
            ("under_voltage", "throttled", "under_voltage_since_boot", "throttled_since_boot"),
        ),
        ("raspberry-pi-5-8gb", 52.3, ()),
    ],
)
def test_every_copied_tree_gives_its_temperature_and_throttling(tree, temperature_c, throttled):
    found = read(SHARED / "fixtures/boards" / tree)
    assert (found.temperature_c, found.throttled) == (temperature_c, throttled)
    assert found.memory_available_mb is not None


@needs_shared
def test_a_zone_that_is_switched_off_is_unknown_and_a_pmic_is_left_out():
    assert read(SHARED / "fixtures/boards/jetson-orin-nano-8gb").zones["cv0-thermal"] is None
    assert read(SHARED / "fixtures/boards/jetson-xavier-nx").zones == {"CPU-therm": 41.0, "GPU-therm": 40.5}


def test_the_junction_temperature_counts_where_there_is_one(tmp_path):
    make_zone(tmp_path, 0, "tj-thermal", "48000\n")
    make_zone(tmp_path, 1, "cpu-thermal", "51000\n")
    assert read(tmp_path).temperature_c == 48.0


def test_the_hottest_zone_counts_where_the_junction_cannot_be_read(tmp_path):
    make_zone(tmp_path, 0, "tj-thermal", None)
    make_zone(tmp_path, 1, "cpu-thermal", "51000\n")
    make_zone(tmp_path, 2, "gpu-thermal", "52500\n")
    assert read(tmp_path).temperature_c == 52.5


@pytest.mark.parametrize("temp", [None, "", "-256000", "-1", "0", "999999", "hot", "4 5", "٤٧٠٠٠", "9" * 400, "12.5"])
def test_a_sensor_that_fails_or_talks_nonsense_is_unknown(tmp_path, temp):
    make_zone(tmp_path, 0, "cpu-thermal", temp)
    found = read(tmp_path)
    assert (found.temperature_c, found.zones) == (None, {"cpu-thermal": None})


def test_a_zone_without_a_name_is_called_as_its_folder(tmp_path):
    put(tmp_path, "sys/class/thermal/thermal_zone7/temp", "40000")
    assert read(tmp_path).zones == {"thermal_zone7": 40.0}


def test_of_zones_of_one_name_the_hottest_is_kept(tmp_path):
    for number, temp in enumerate(("40000", "45000", None)):
        make_zone(tmp_path, number, "acpitz", temp)
    assert read(tmp_path).zones == {"acpitz": 45.0}


@pytest.mark.parametrize(
    ("text", "throttled"),
    [
        ("0\n", ()),
        ("0x8\n", ("soft_temperature_limit",)),
        ("2", ("frequency_capped",)),
        ("e0000", ("frequency_capped_since_boot", "throttled_since_boot", "soft_temperature_limit_since_boot")),
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_firmwares_bits_are_named(tmp_path, text, throttled):
    put(tmp_path, FIRMWARE, text)
    assert read(tmp_path).throttled == throttled


def test_the_firmware_is_found_where_newer_kernels_have_it(tmp_path):
    put(tmp_path, "sys/devices/platform/axi/axi:firmware/get_throttled", "1\n")
    assert read(tmp_path).throttled == ("under_voltage",)


def test_the_kernels_under_voltage_alarm_is_heard_without_the_firmware(tmp_path):
    put(tmp_path, "sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    put(tmp_path, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    assert read(tmp_path).throttled == ("under_voltage",)


def test_a_quiet_under_voltage_alarm_does_not_prove_that_nothing_is_throttled(tmp_path):
    put(tmp_path, "sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    put(tmp_path, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n")
    assert read(tmp_path).throttled is None


@pytest.mark.parametrize(
    ("kind", "state", "throttled"),
    [
        ("gpu-throttle-alert", "1", ("throttled",)),
        ("gpu-throttle-alert", "0", ()),
        ("gpu-throttle-alert", "-", None),
        ("cpufreq-cpu0", "3", ("throttled",)),
        ("thermal-cpufreq-0", "3", ("throttled",)),
        ("devfreq-17000000.gpu", "2", ("throttled",)),
        ("cpufreq-cpu0", "0", None),
        ("pwm-fan", "4", None),
        ("hot-surface-alert", "1", None),
        ("Processor", "1", None),
    ],
)
def test_a_cooling_device_counts_only_where_it_is_evidence(tmp_path, kind, state, throttled):
    make_cooling(tmp_path, 0, kind, state)
    assert read(tmp_path).throttled == throttled


def test_what_two_sources_say_is_named_once(tmp_path):
    put(tmp_path, FIRMWARE, "5")
    make_cooling(tmp_path, 0, "cpufreq-cpu0", "1")
    assert read(tmp_path).throttled == ("under_voltage", "throttled")


def test_an_empty_tree_is_all_unknown(tmp_path):
    found = read(tmp_path)
    assert (found.temperature_c, found.throttled, found.memory_available_mb) == (None, None, None)
    assert (found.rss_mb, found.disk_free_mb, found.cpu_mhz, found.zones) == (None, None, None, {})


def test_a_root_that_is_not_there_is_all_unknown(tmp_path):
    assert read(tmp_path / "none", disk=tmp_path / "none") == read(tmp_path)


def test_the_fastest_clusters_clock_is_read(tmp_path):
    for policy, khz in ((0, 600000), (4, 2400000)):
        put(tmp_path, f"sys/devices/system/cpu/cpufreq/policy{policy}/scaling_cur_freq", f"{khz}\n")
    assert read(tmp_path).cpu_mhz == 2400


def test_this_process_has_memory_and_its_disk_has_room(tmp_path):
    found = read(disk=tmp_path)
    assert found.rss_mb is not None
    assert 1 < found.rss_mb < 10_000
    assert found.memory_available_mb
    assert found.disk_free_mb is not None


@given(content=st.binary(max_size=60))
def test_no_content_of_a_sensor_makes_reading_fail_or_gives_an_absurd_value(tmp_path_factory, content):
    root = tmp_path_factory.mktemp("tree")
    names = ("sys/class/thermal/thermal_zone0/type", "sys/class/thermal/thermal_zone0/temp", FIRMWARE)
    for name in (*names, "sys/class/thermal/cooling_device0/cur_state", "proc/meminfo", "proc/self/status"):
        put(root, name, "")
        (root / name).write_bytes(content)
    temperature_c = read(root).temperature_c
    assert temperature_c is None or 0 < temperature_c <= 150


def test_the_clock_of_this_machine_can_be_asked():
    found = clock()
    assert found.synced or found.max_error_ms is None


@pytest.mark.parametrize(
    ("state", "status", "maxerror_us", "expected"),
    [
        (0, 0x2001, 800, Clock(synced=True, max_error_ms=0.8)),
        (5, 0x0040, 16_000_000, Clock(synced=False, max_error_ms=None)),
        (-1, 0, 0, Clock(synced=None, max_error_ms=None)),
    ],
)
def test_a_clock_is_in_step_adrift_or_unknown(state, status, maxerror_us, expected):
    assert _judge(state, status, maxerror_us) == expected
