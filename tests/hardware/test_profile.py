import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import EX_CONFIG, ConfigError
from edge_agent.hardware.probe import Board, detect
from edge_agent.hardware.profile import SchedulingTable, choose, load, load_all, shipped_folder
from tests.fixtures import REPO, SHARED, needs_shared
from tests.hardware.trees import ARM32, make_tree, put

SHIPPED = load_all(None)
CONTRACT = {
    "jetson-orin-nano",
    "jetson-orin-nx",
    "jetson-agx-orin",
    "jetson-thor",
    "raspberry-pi-5",
    "raspberry-pi-4",
    "raspberry-pi-3",
    "raspberry-pi-zero-2w",
    "generic-x86_64",
    "generic-arm64",
}
FIXTURES = {
    "jetson-agx-orin-64gb": ("jetson-agx-orin", True, "p3701-0005"),
    "jetson-orin-nano-8gb": ("jetson-orin-nano", True, "p3767-0005"),
    "jetson-orin-nx-16gb": ("jetson-orin-nx", True, "p3767-0000"),
    "jetson-xavier-nx": ("jetson-xavier", False, "Python 3.8"),
    "pc-x86_64": ("generic-x86_64", True, "x86_64"),
    "raspberry-pi-3b-plus": ("raspberry-pi-3", True, "bcm2837"),
    "raspberry-pi-4-4gb": ("raspberry-pi-4", True, "bcm2711"),
    "raspberry-pi-5-8gb": ("raspberry-pi-5", True, "bcm2712"),
}
MATCHES = [
    ("jetson-orin-nano", "nvidia,p3768-0000+p3767-0005-super", "nvidia,tegra234"),
    ("jetson-orin-nx", "nvidia,p3768-0000+p3767-0001-super", "nvidia,tegra234"),
    ("jetson-agx-orin", "nvidia,p3737-0000+p3701-0099", "nvidia,tegra234"),
    ("jetson-orin-nano", "acme,carrier", "nvidia,tegra234"),
    ("jetson-thor", "nvidia,p4071-0000+p3834-0008", "nvidia,tegra264"),
    ("jetson-thor", "nvidia,p3971-0089+p3834-0008", "nvidia,tegra264"),
    ("jetson-nano", "nvidia,p3449-0000-b00+p3448-0000-b00", "nvidia,tegra210"),
    ("jetson-tx2", "nvidia,p2597-0000+p3310-1000", "nvidia,tegra186"),
    ("jetson-xavier", "nvidia,p2972-0000", "nvidia,tegra194"),
    ("raspberry-pi-5", "raspberrypi,500", "brcm,bcm2712"),
    ("raspberry-pi-5", "raspberrypi,5-compute-module", "brcm,bcm2712d0"),
    ("raspberry-pi-4", "raspberrypi,400", "brcm,bcm2711"),
    ("raspberry-pi-4", "raspberrypi,4-compute-module", "brcm,bcm2711"),
    ("raspberry-pi-3", "raspberrypi,3-model-b", "brcm,bcm2837"),
    ("raspberry-pi-zero-2w", "raspberrypi,model-zero-2-w", "brcm,bcm2837"),
    ("generic-arm64", "radxa,rock-5b", "rockchip,rk3588"),
]

HOT = "[thermal]\nthrottle_c = 80\ncritical_c = 85\n"


def write_profile(folder, name, text):
    put(folder, f"{name}.toml", text)
    return folder


def minimal(match="", backends='["tflite"]'):
    return f'description = "ours"\nbackends = {backends}\n[match]\n{match}\n'


def test_the_profiles_of_the_contract_are_shipped():
    assert {name for name, profile in SHIPPED.items() if profile.supported} == CONTRACT


def test_boards_that_cannot_be_served_are_profiles_too():
    assert {name for name, profile in SHIPPED.items() if not profile.supported} == {
        "jetson-xavier",
        "jetson-nano",
        "jetson-tx2",
    }


def test_no_shipped_profile_takes_frames_from_a_line():
    shed = {name: profile.thermal.shed for name, profile in SHIPPED.items() if profile.thermal}
    assert {what for whats in shed.values() for what in whats} == {"evidence", "build"}
    assert all(whats[0] == "evidence" for whats in shed.values())


def test_a_checkout_has_its_profiles_beside_the_package():
    assert shipped_folder() == REPO / "hardware_profiles"


def _ask_an_installed_copy(folder, *profile_folders):
    """What a fresh Python says that finds the package in `folder` as a wheel lays it out."""
    for name in ("__init__.py", "errors.py"):
        put(folder / "edge_agent", name, (REPO / "edge_agent" / name).read_text())
    shutil.copytree(REPO / "edge_agent/hardware", folder / "edge_agent/hardware")
    for source in profile_folders:
        shutil.copytree(source, folder / "edge_agent/hardware_profiles")
    code = "from edge_agent.hardware import profile; print(profile.shipped_folder(), len(profile.load_all(None)))"
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_wheel_has_its_profiles_inside_the_package(tmp_path):
    found = _ask_an_installed_copy(tmp_path, REPO / "hardware_profiles")
    assert found.stdout.split() == [str(tmp_path / "edge_agent/hardware_profiles"), str(len(SHIPPED))], found.stderr


def test_an_installation_without_profiles_says_so(tmp_path):
    found = _ask_an_installed_copy(tmp_path)
    assert "the hardware profiles are missing; install edge-agent anew" in found.stderr


@pytest.mark.parametrize("name", sorted(CONTRACT - {"generic-arm64"}))
def test_every_named_board_has_a_budget(name):
    assert SHIPPED[name].budget is not None


def test_every_board_with_tensorrt_says_what_a_build_may_take_and_its_power_mode():
    with_tables = {name for name, profile in SHIPPED.items() if profile.tensorrt and profile.power}
    assert with_tables == {name for name, profile in SHIPPED.items() if "tensorrt" in profile.backends}
    budgets = [profile.tensorrt for profile in SHIPPED.values() if profile.tensorrt]
    assert all(budget.beside_mb > budget.workspace_mb for budget in budgets)


def test_a_jetson_tries_tensorrt_first_and_everything_else_litert():
    first = {name: profile.backends[0] for name, profile in SHIPPED.items() if profile.supported}
    assert {name for name, backend in first.items() if backend == "tensorrt"} == {n for n in CONTRACT if "jetson" in n}
    assert set(first.values()) == {"tensorrt", "tflite"}


@needs_shared
@pytest.mark.parametrize("tree", FIXTURES)
def test_every_copied_tree_gets_its_profile(tree):
    choice = choose(detect(SHARED / "fixtures/boards" / tree), SHIPPED)
    profile, supported, evidence = FIXTURES[tree]
    assert choice.profile is not None
    assert (choice.profile.name, choice.supported) == (profile, supported)
    assert evidence in choice.reason


@pytest.mark.parametrize(("profile", "first", "chip"), MATCHES)
def test_the_board_gets_the_profile_of_its_module_or_chip(tmp_path, profile, first, chip):
    choice = choose(detect(make_tree(tmp_path, first, chip)), SHIPPED)
    assert choice.profile is not None
    assert choice.profile.name == profile
    assert choice.supported == (profile in CONTRACT)


def test_an_orin_nx_is_one_even_where_its_model_text_says_orin_nano(tmp_path):
    tree = make_tree(tmp_path, "nvidia,x+p3767-0000", "nvidia,tegra234", model="NVIDIA Jetson Orin Nano Developer Kit")
    assert choose(detect(tree), SHIPPED).profile == SHIPPED["jetson-orin-nx"]


@pytest.mark.parametrize("name", ["jetson-xavier", "jetson-nano", "jetson-tx2"])
def test_a_board_that_cannot_be_served_says_why_and_what_would_work(name):
    profile = SHIPPED[name]
    assert "edge-agent needs 3.10" in profile.reason
    assert "would work" in profile.advice


def test_an_orin_with_jetpack_5_is_told_to_flash_jetpack_6(tmp_path):
    choice = choose(detect(make_tree(tmp_path, "nvidia,x+p3767-0000", "nvidia,tegra234", l4t="35.4.1")), SHIPPED)
    assert not choice.supported
    assert "JetPack 5 (L4T 35.4.1) ends at Python 3.8" in choice.reason
    assert "flash JetPack 6" in choice.reason


def test_an_orin_whose_release_is_not_known_is_served(tmp_path):
    assert choose(detect(make_tree(tmp_path, "nvidia,x+p3767-0000", "nvidia,tegra234")), SHIPPED).supported


@pytest.mark.parametrize("wanted", ["auto", "generic-arm64"])
def test_a_32_bit_userland_cannot_be_served(tmp_path, wanted):
    tree = make_tree(tmp_path, "raspberrypi,4-model-b", "brcm,bcm2711", features=ARM32)
    choice = choose(detect(tree), SHIPPED, wanted)
    assert not choice.supported
    assert "this system is 32-bit" in choice.reason
    assert "Raspberry Pi OS (64-bit)" in choice.reason


def test_a_board_nobody_knows_is_not_served_and_told_what_to_do(tmp_path):
    choice = choose(detect(tmp_path), SHIPPED)
    assert (choice.profile, choice.supported) == (None, False)
    assert "write one in /etc/edge-agent/hardware_profiles" in choice.reason


def test_a_profile_can_be_chosen_by_name(tmp_path):
    choice = choose(detect(make_tree(tmp_path, "raspberrypi,500", "brcm,bcm2712")), SHIPPED, "generic-arm64")
    assert (choice.profile, choice.supported, choice.reason) == (SHIPPED["generic-arm64"], True, "chosen by name")


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(
        ConfigError, match="no hardware profile 'rasberry-pi-5'; did you mean 'raspberry-pi-5'"
    ) as error:
        choose(detect(tmp_path), SHIPPED, "rasberry-pi-5")
    assert error.value.exit_code == EX_CONFIG


def test_a_site_profile_wins_over_the_shipped_one_of_its_name(tmp_path):
    folder = write_profile(tmp_path, "raspberry-pi-5", minimal('socs = ["bcm2712"]') + "[capture]\nfps = 5\n")
    profile = load_all(folder)["raspberry-pi-5"]
    assert (profile.site, profile.capture.fps) == (True, 5)


def test_a_site_profile_wins_over_an_equally_good_shipped_one(tmp_path):
    profiles = load_all(write_profile(tmp_path / "site", "our-line", minimal('socs = ["bcm2712"]')))
    board = detect(make_tree(tmp_path / "tree", "raspberrypi,500", "brcm,bcm2712"))
    assert choose(board, profiles).profile == profiles["our-line"]


def test_a_site_profile_may_ask_for_cpu_features(tmp_path):
    match = 'arch = ["aarch64"]\ncpu_features = ["asimddp"]'
    profiles = load_all(write_profile(tmp_path / "site", "fast-arm64", minimal(match)))
    slow = detect(make_tree(tmp_path / "slow", "acme,board"))
    fast = detect(make_tree(tmp_path / "fast", "acme,board", features="fp asimd asimddp"))
    assert choose(slow, profiles).profile == profiles["generic-arm64"]
    assert choose(fast, profiles).profile == profiles["fast-arm64"]


def test_two_site_profiles_that_match_equally_well_are_an_error_that_names_both(tmp_path):
    for name in ("line-a", "line-b"):
        write_profile(tmp_path / "site", name, minimal('socs = ["bcm2712"]'))
    board = detect(make_tree(tmp_path / "tree", "raspberrypi,500", "brcm,bcm2712"))
    with pytest.raises(ConfigError, match="line-a and line-b match this board equally well"):
        choose(board, load_all(tmp_path / "site"))


def test_a_profile_without_a_match_is_taken_by_name_only(tmp_path):
    profiles = load_all(write_profile(tmp_path / "site", "special", minimal()))
    board = detect(make_tree(tmp_path / "tree", "raspberrypi,500", "brcm,bcm2712"))
    assert choose(board, profiles).profile == profiles["raspberry-pi-5"]
    assert choose(board, profiles, "special").profile == profiles["special"]


def test_a_site_profile_may_say_where_threads_run_and_which_go_first(tmp_path):
    table = "[scheduling]\nengine_cores = [1, 2]\nother_cores = [0]\nrealtime = 10\n"
    put(tmp_path, "line.toml", f'description = "x"\nbackends = ["onnx"]\noverlap = "throughput"\n{table}')
    profile = load(tmp_path / "line.toml")
    wanted = profile.scheduling
    assert profile.overlap == "throughput"
    assert (wanted.engine_cores, wanted.other_cores, wanted.realtime) == ((1, 2), (0,), 10)


def test_no_shipped_profile_asks_for_what_the_kernel_may_refuse():
    assert {profile.scheduling for profile in SHIPPED.values()} == {SchedulingTable()}


def test_a_folder_of_site_profiles_need_not_be_there(tmp_path):
    assert load_all(tmp_path / "none") == SHIPPED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (minimal() + "[tensorrt]\nworkspace_gb = 1\n", r"tensorrt\.workspace_gb: .* 'workspace_mb'"),
        (minimal() + "[power]\n", r"power\.mode: is missing"),
        ("description = ours\n", "line.toml: is not valid TOML: .*line 1"),
        (minimal() + "[thermal]\nthrottle_c = 80\ncritcal_c = 85\n", r"thermal\.critcal_c: .* 'critical_c'"),
        (minimal() + "[thermal]\nthrottle_c = 80\ncritical_c = 70\n", "thermal: critical_c must not be below"),
        (minimal() + HOT + 'shed = ["evidence", "evidence"]\n', "thermal: shed names something twice"),
        (minimal() + HOT + 'shed = ["frames"]\n', "thermal: shed_fps and `frames` in shed belong together"),
        (minimal() + HOT + "shed_fps = 10\n", "thermal: shed_fps and `frames` in shed belong together"),
        (minimal() + HOT + 'shed = ["verdicts"]\n', r"thermal\.shed\.0: .*'evidence', 'build' or 'frames'"),
        (minimal(backends='["tensort"]'), r"line\.toml: backends\.0: .*'tensorrt'.*, not 'tensort'"),
        ('bakends = ["tflite"]\n' + minimal(), "line.toml: bakends: .* did you mean 'backends'"),
        ('name = "x"\n' + minimal(), "line.toml: name: is not a key of a profile"),
        ("threads = 0\n" + minimal(), "line.toml: threads: input should be greater .*, not '0'"),
        ('description = "ours"\n', "line.toml: backends: a supported board needs at least one"),
        ('description = "ours"\nsupported = false\n', "line.toml: reason and advice"),
        ('backends = ["tflite"]\n', "line.toml: description: is missing"),
    ],
)
def test_a_broken_site_profile_is_an_error_that_names_file_and_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_all(write_profile(tmp_path, "line", text))


def test_all_broken_profiles_are_named_at_once(tmp_path):
    write_profile(tmp_path, "one", "x = 1\ny = 2\n" + minimal())
    write_profile(tmp_path, "two", "= 1\n")
    with pytest.raises(ConfigError) as error:
        load_all(tmp_path)
    assert all(part in str(error.value) for part in ("one.toml: x:", "one.toml: y:", "two.toml: is not valid TOML"))


def test_a_profile_that_is_not_text_is_an_error(tmp_path):
    (tmp_path / "line.toml").write_bytes(b'description = "\xff"')
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_all(tmp_path)


def test_a_folder_in_the_place_of_a_profile_is_an_error(tmp_path):
    (tmp_path / "line.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_all(tmp_path)


def test_no_profile_may_be_called_auto(tmp_path):
    with pytest.raises(ConfigError, match="give the file another name"):
        load_all(write_profile(tmp_path, "auto", minimal()))


def test_a_shipped_profile_may_be_copied_to_the_site_and_changed(tmp_path):
    shutil.copy(shipped_folder() / "raspberry-pi-5.toml", tmp_path / "our-pi.toml")
    copy = load(tmp_path / "our-pi.toml", site=True)
    assert copy.model_copy(update={"name": "raspberry-pi-5", "site": False}) == SHIPPED["raspberry-pi-5"]


boards = st.builds(
    Board,
    board=st.just("any"),
    model=st.none(),
    compatible=st.lists(st.sampled_from(["raspberrypi,500", "raspberrypi,model-zero-2-w", "acme,x"])).map(tuple),
    module=st.sampled_from([None, "p3767-0005", "p3701-0004", "p3834-0008", "p3668-0000", "p9999-0000"]),
    soc=st.sampled_from([None, "tegra234", "tegra264", "tegra194", "bcm2712", "bcm2837", "rk3588"]),
    arch=st.sampled_from([None, "aarch64", "x86_64", "riscv64"]),
    bits=st.sampled_from([32, 64]),
    cpu_features=st.frozensets(st.sampled_from(["asimd", "asimddp"])),
    cores=st.none(),
    memory_mb=st.none(),
    l4t=st.none(),
    jetpack=st.sampled_from([None, 4, 5, 6, 7]),
)


@given(board=boards)
def test_whatever_the_board_the_shipped_profiles_never_tie_and_a_refusal_has_words(board):
    choice = choose(board, SHIPPED)
    assert choice.reason
    assert not (choice.supported and (choice.profile is None or board.bits != 64))
