import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.hardware.power import power_mode, unlike
from edge_agent.hardware.profile import load_all
from tests.fixtures import SHARED, needs_shared
from tests.hardware.trees import ORIN_NANO_MODES, ORIN_NANO_SUPER_MODES, make_power_mode, put

SHIPPED = load_all(None)
NANO, NX = SHIPPED["jetson-orin-nano"], SHIPPED["jetson-orin-nx"]
NX_SUPER_MODES = "< POWER_MODEL ID=0 NAME=MAXN_SUPER >\n< POWER_MODEL ID=3 NAME=25W >\n"


@pytest.mark.parametrize(
    ("status", "mode"),
    [
        ("pmode:0002 fmode:fan_mode_quiet", "MAXN_SUPER"),
        ("pmode:0000\n", "15W"),
        ("fmode:quiet pmode:0001", "25W"),
        ("pmode:0009", None),
        ("", None),
    ],
)
def test_the_mode_that_is_set_is_told_by_its_name(tmp_path, status, mode):
    make_power_mode(tmp_path, status, ORIN_NANO_SUPER_MODES)
    assert power_mode(tmp_path) == mode


def test_a_mode_that_is_only_explained_in_a_comment_is_none(tmp_path):
    make_power_mode(tmp_path, "pmode:0002", "# < POWER_MODEL ID=2 NAME=MAXN >\n< POWER_MODEL ID=0 NAME=15W >\n")
    assert power_mode(tmp_path) is None


def test_a_board_without_nvpmodel_has_no_mode_and_no_complaint(tmp_path):
    assert power_mode(tmp_path) is None
    assert unlike(NANO, tmp_path) is None


def test_a_mode_without_names_is_unknown(tmp_path):
    put(tmp_path, "var/lib/nvpmodel/status", "pmode:0000")
    assert unlike(NANO, tmp_path) is None


@needs_shared
def test_the_copied_trees_tell_no_mode():
    assert {power_mode(tree) for tree in (SHARED / "fixtures/boards").iterdir()} == {None}


def test_another_mode_than_the_profiles_is_told_with_the_command_that_sets_it(tmp_path):
    make_power_mode(tmp_path, "pmode:0000", ORIN_NANO_SUPER_MODES)
    assert unlike(NANO, tmp_path) == (
        "the power mode is 15W, and the profile jetson-orin-nano counts on MAXN_SUPER: sudo nvpmodel -m 2"
    )


def test_a_board_that_does_not_have_the_profiles_mode_is_told_what_it_has(tmp_path):
    make_power_mode(tmp_path, "pmode:0000", ORIN_NANO_MODES)
    assert unlike(NANO, tmp_path).endswith("this board only has 15W, 7W")


def test_the_mode_of_the_profile_is_no_complaint(tmp_path):
    make_power_mode(tmp_path, "pmode:0002", ORIN_NANO_SUPER_MODES)
    assert unlike(NANO, tmp_path) is None


def test_a_profile_for_maxn_is_content_with_maxn_super(tmp_path):
    make_power_mode(tmp_path, "pmode:0000", NX_SUPER_MODES)
    assert unlike(NX, tmp_path) is None
    make_power_mode(tmp_path, "pmode:0003", NX_SUPER_MODES)
    assert unlike(NX, tmp_path).endswith("counts on MAXN: sudo nvpmodel -m 0")


def test_a_profile_without_a_mode_is_content_with_any(tmp_path):
    make_power_mode(tmp_path, "pmode:0000", ORIN_NANO_MODES)
    assert unlike(SHIPPED["raspberry-pi-5"], tmp_path) is None


@given(status=st.binary(max_size=60), modes=st.binary(max_size=120))
def test_no_content_makes_it_fail(tmp_path_factory, status, modes):
    root = tmp_path_factory.mktemp("tree")
    make_power_mode(root, "", "")
    (root / "var/lib/nvpmodel/status").write_bytes(status)
    (root / "etc/nvpmodel.conf").write_bytes(modes)
    power_mode(root)
    unlike(NANO, root)
