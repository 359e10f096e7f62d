"""Hardware profiles: every card gets one, more memory never gets less, and contradictions are refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.errors import ConfigError

from qied.planning.profiles.hardware_profile import (
    HardwareProfile,
    LoadedProfile,
    all_hardware_profiles,
    fits,
    load_hardware_profile,
    match_profile,
    shipped_hardware_profiles,
)
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import profiles_folder

GIB = 1024**3
SHIPPED = shipped_hardware_profiles()
CARDS = [loaded.profile for loaded in SHIPPED if loaded.profile.match.device == "cuda"]
FOLDER = profiles_folder() / "hardware"
GROWING = ("max_pixels", "max_reference_pixels", "session_limit", "max_tile_px")

capabilities = st.tuples(st.integers(7, 20), st.integers(0, 9)).filter(lambda found: found >= (7, 5))
sizes = st.integers(1 * GIB, 50 * GIB) | st.integers(1 * GIB, 400 * GIB)


def assert_no_less(more: HardwareProfile, less: HardwareProfile) -> None:
    for key in GROWING:
        assert getattr(less.choose, key) <= getattr(more.choose, key), key
    assert less.choose.reserve_bytes >= more.choose.reserve_bytes
    assert less.choose.min_tile_px == more.choose.min_tile_px


def chosen(capability: tuple[int, int] | None, memory: int | None, name: str = "NVIDIA card") -> HardwareProfile:
    found = match_profile(SHIPPED, "cuda", capability, memory, name)
    assert found is not None
    return found.profile


# What ships


def test_every_file_in_the_shipped_folder_is_loaded_and_stands_for_itself():
    assert {loaded.path for loaded in SHIPPED} == set(FOLDER.iterdir())
    assert all(loaded.origin == "shipped" and loaded.path.stem == loaded.profile.name for loaded in SHIPPED)


@given(capabilities, sizes)
def test_every_card_from_turing_on_has_exactly_one_shipped_profile(capability, memory):
    fitting = [each.profile for each in SHIPPED if fits(each.profile.match, "cuda", capability, memory, "any")]
    assert [chosen(capability, memory)] == fitting


@given(capabilities, sizes, sizes)
def test_more_memory_never_gets_smaller_caps_or_a_larger_reserve(capability, one, other):
    assert_no_less(chosen(capability, max(one, other)), chosen(capability, min(one, other)))


@given(st.tuples(st.integers(0, 7), st.integers(0, 9)).filter(lambda found: found < (7, 5)), sizes)
def test_cards_before_turing_have_none(capability, memory):
    assert match_profile(SHIPPED, "cuda", capability, memory, "Tesla V100") is None


def families() -> dict[object, list[HardwareProfile]]:
    found: dict[object, list[HardwareProfile]] = {}
    for profile in sorted(CARDS, key=lambda each: each.match.memory_gib_from or 0):
        found.setdefault((profile.match.capability_from, profile.match.capability_to), []).append(profile)
    return found


def test_families_follow_each_other_without_a_gap_and_the_last_one_is_open():
    spans = sorted(families(), key=lambda span: span[0])
    assert spans[0][0] == (7, 5)
    for (_, end), (start, _) in pairwise(spans):
        following = (end[0], end[1] + 1) if end[1] < 9 else (end[0] + 1, 0)
        assert start == following
    assert spans[-1][1] is None


@pytest.mark.parametrize("family", families().values(), ids=[str(span[0]) for span in families()])
def test_sizes_of_a_family_follow_each_other_from_nothing_to_any_and_never_get_less(family):
    assert family[0].match.memory_gib_from == 0
    for less, more in pairwise(family):
        assert less.match.memory_gib_to == more.match.memory_gib_from
        assert_no_less(more, less)
    assert family[-1].match.memory_gib_to is None


@pytest.mark.parametrize("profile", CARDS, ids=lambda profile: profile.name)
def test_a_range_starts_well_below_the_size_that_it_is_named_for_and_ends_well_above(profile):
    nominal = float(profile.name.rpartition("-")[2].removesuffix("gb"))
    assert (profile.match.memory_gib_from or 0) <= 0.93 * nominal, "ECC and the driver keep up to a sixteenth"
    assert profile.match.memory_gib_to is None or profile.match.memory_gib_to >= 1.05 * nominal


@pytest.mark.parametrize("loaded", SHIPPED, ids=lambda loaded: loaded.profile.name)
def test_shipped_values_keep_to_what_the_planner_and_the_model_need(loaded):
    choose = loaded.profile.choose
    model = shipped_profiles()["qwen-image-edit-2511"].geometry
    assert 8 <= choose.session_limit <= 32
    assert choose.max_reference_pixels == model.vae_pixels
    assert model.vae_pixels <= choose.max_pixels <= model.max_target_pixels
    assert loaded.profile.notes.strip(), "says why"


@pytest.mark.parametrize(
    ("name", "capability", "gib", "profile"),
    [
        ("GeForce GTX 1660", (7, 5), 6.0, "turing-8gb"),
        ("GeForce RTX 2080", (7, 5), 7.78, "turing-8gb"),
        ("GeForce RTX 2080 Ti", (7, 5), 10.75, "turing-11gb"),
        ("Tesla T4", (7, 5), 14.56, "turing-16gb"),
        ("Quadro RTX 6000", (7, 5), 22.5, "turing-24gb"),
        ("Quadro RTX 8000", (7, 5), 44.5, "turing-48gb"),
        ("GeForce RTX 3050 Laptop", (8, 6), 4.0, "ampere-8gb"),
        ("GeForce RTX 3070", (8, 6), 8.0, "ampere-8gb"),
        ("GeForce RTX 3080", (8, 6), 10.0, "ampere-10gb"),
        ("GeForce RTX 3060", (8, 6), 11.6, "ampere-12gb"),
        ("RTX A2000 12GB", (8, 6), 11.24, "ampere-12gb"),
        ("RTX A4500", (8, 6), 19.99, "ampere-16gb"),
        ("GeForce RTX 3090", (8, 6), 23.99, "ampere-24gb"),
        ("NVIDIA A10", (8, 6), 22.06, "ampere-24gb"),
        ("NVIDIA A100-SXM4-40GB", (8, 0), 39.39, "ampere-40gb"),
        ("NVIDIA A40", (8, 6), 44.4, "ampere-48gb"),
        ("NVIDIA A100-SXM4-80GB", (8, 0), 79.14, "ampere-80gb"),
        ("GeForce RTX 4060", (8, 9), 7.99, "ada-8gb"),
        ("GeForce RTX 4070", (8, 9), 11.99, "ada-12gb"),
        ("GeForce RTX 4080", (8, 9), 15.99, "ada-16gb"),
        ("RTX 4000 Ada Generation", (8, 9), 19.2, "ada-16gb"),
        ("NVIDIA L4", (8, 9), 22.03, "ada-24gb"),
        ("GeForce RTX 4090", (8, 9), 23.99, "ada-24gb"),
        ("NVIDIA L40S", (8, 9), 44.4, "ada-48gb"),
        ("H100 80GB HBM3 MIG 1g.10gb", (9, 0), 9.75, "hopper-10gb"),
        ("NVIDIA H100 80GB HBM3", (9, 0), 79.1, "hopper-80gb"),
        ("NVIDIA H100 NVL", (9, 0), 93.6, "hopper-94gb"),
        ("NVIDIA H200", (9, 0), 139.8, "hopper-141gb"),
        ("GeForce RTX 5070", (12, 0), 11.94, "blackwell-12gb"),
        ("GeForce RTX 5080", (12, 0), 15.92, "blackwell-16gb"),
        ("GeForce RTX 5090", (12, 0), 31.36, "blackwell-32gb"),
        ("RTX PRO 5000 Blackwell", (12, 0), 47.8, "blackwell-48gb"),
        ("RTX PRO 6000 Blackwell", (12, 0), 95.6, "blackwell-96gb"),
        ("NVIDIA B200", (10, 0), 178.3, "blackwell-180gb"),
        ("NVIDIA B300", (10, 3), 268.6, "blackwell-180gb"),
        ("a card of the future", (13, 0), 64.0, "blackwell-48gb"),
    ],
)
def test_cards_as_the_driver_reports_them_get_the_profile_of_their_size(name, capability, gib, profile):
    assert chosen(capability, int(gib * GIB), name).name == profile


def test_precisions_are_in_the_order_in_which_the_hardware_is_good_at_them():
    orders = {profile.name: profile.choose.precision for profile in CARDS}
    for name, order in orders.items():
        family, _, size = name.partition("-")
        blocks_fit_in_bf16 = float(size.removesuffix("gb")) >= 40
        storage = ("bf16", "fp8-storage") if blocks_fit_in_bf16 else ("fp8-storage", "bf16")
        older = {"turing": ("int8", "fp8-storage"), "ampere": ("int8", *storage)}
        assert order == older.get(family, ("fp8", "int8", *storage)), name
    assert {profile.choose.compute for profile in CARDS if profile.name.startswith("turing")} == {"fp32"}
    assert {profile.choose.compute for profile in CARDS if not profile.name.startswith("turing")} == {"bf16"}


def test_a_machine_without_a_card_has_the_profile_of_the_processor():
    found = match_profile(SHIPPED, "cpu", None, None, "")
    assert found is not None
    assert (found.profile.name, found.profile.choose.precision) == ("cpu", ("cpu",))


def test_what_the_driver_does_not_tell_meets_no_condition():
    assert match_profile(SHIPPED, "cuda", None, 24 * GIB, "NVIDIA card") is None
    assert match_profile(SHIPPED, "cuda", (8, 9), None, "NVIDIA card") is None


# Matching


def loaded(name: str, origin: str = "shipped", **match: object) -> LoadedProfile:
    choose = {
        "precision": ("bf16",), "reserve_bytes": 0, "max_pixels": 65_536, "max_reference_pixels": 65_536,
        "session_limit": 1,
    }  # fmt: skip
    profile = HardwareProfile.model_validate({"name": name, "title": name, "match": match, "choose": choose})
    return LoadedProfile(profile, "user" if origin == "user" else "shipped", Path(f"{name}.toml"))


ANY = loaded("any")
CAPABILITY = loaded("capability", capability_from=(8, 0))
MEMORY = loaded("memory", memory_gib_from=8)
NARROW = loaded("narrow", memory_gib_from=8, memory_gib_to=16)
NARROW_TOO = loaded("narrow-too", memory_gib_from=10, memory_gib_to=18)
NAMED = loaded("named", names=("absent", r"rtx 40\d0$"))
NAMED_AND_NARROW = loaded("sized-and-named", names=("4070",), memory_gib_to=16)
YOURS = loaded("yours", "user")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (CAPABILITY, ANY),
        (MEMORY, CAPABILITY),
        (NARROW, MEMORY),
        (NARROW, NARROW_TOO),
        (NAMED, NARROW),
        (NAMED_AND_NARROW, NAMED),
        (YOURS, NAMED_AND_NARROW),
    ],
    ids=lambda each: each.profile.name,
)
def test_the_more_specific_profile_is_chosen_in_whatever_order_they_come(better, worse):
    for profiles in ([better, worse], [worse, better]):
        assert match_profile(profiles, "cuda", (8, 9), 12 * GIB, "GeForce RTX 4070") == better


def test_every_condition_of_a_profile_must_hold():
    profile = loaded(
        "all", capability_from=(8, 6), capability_to=(8, 9), memory_gib_from=8, memory_gib_to=16, names=["rtx"]
    )
    good = {"capability": (8, 9), "memory": 8 * GIB, "name": "RTX"}
    for bad in (
        {},
        {"capability": (8, 0)},
        {"capability": (9, 0)},
        {"capability": None},
        {"memory": 8 * GIB - 1},
        {"memory": 16 * GIB},
        {"memory": None},
        {"name": "GTX"},
    ):
        card = good | bad
        found = match_profile([profile], "cuda", card["capability"], card["memory"], card["name"])
        assert (found is None) == bool(bad), bad
    assert match_profile([profile], "cpu", (8, 9), 8 * GIB, "RTX") is None


# The user's own


def own(folder: Path, name: str, *changes: tuple[str, str], source: str = "ampere-12gb") -> Path:
    """Write a profile that is a shipped one under another name, with ``changes``."""
    text = (FOLDER / f"{source}.toml").read_text(encoding="utf-8").replace(f'"{source}"', f'"{name}"', 1)
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_folder_of_their_own_users_have_what_ships(tmp_path):
    assert all_hardware_profiles(None) == SHIPPED
    assert all_hardware_profiles(tmp_path / "absent") == SHIPPED


def test_a_profile_of_the_users_replaces_the_shipped_one_of_the_same_name(tmp_path):
    path = own(tmp_path, "ampere-12gb", ("session_limit = 12", "session_limit = 3"))
    profiles = all_hardware_profiles(tmp_path)
    assert [each.path for each in profiles if each.profile.name == "ampere-12gb"] == [path]
    assert len(profiles) == len(SHIPPED)
    found = match_profile(profiles, "cuda", (8, 6), 12 * GIB, "GeForce RTX 3060")
    assert found is not None
    assert (found.origin, found.path, found.profile.choose.session_limit) == ("user", path, 3)


def test_a_profile_of_the_users_goes_before_more_specific_shipped_ones(tmp_path):
    own(tmp_path, "mine", ("memory_gib_from = 11.1\nmemory_gib_to = 14.4\n", ""))
    profiles = all_hardware_profiles(tmp_path)
    assert len(profiles) == len(SHIPPED) + 1
    found = match_profile(profiles, "cuda", (8, 6), 24 * GIB, "GeForce RTX 3090")
    assert found is not None
    assert found.profile.name == "mine"


def test_only_toml_files_of_the_folder_count(tmp_path):
    for name in ("mine.toml~", ".mine.toml", "notes.txt"):
        (tmp_path / name).write_text("no profile", encoding="utf-8")
    assert all_hardware_profiles(tmp_path) == SHIPPED


def test_two_profiles_of_the_users_cannot_share_a_name(tmp_path):
    own(tmp_path, "mine")
    (tmp_path / "other.toml").write_text((tmp_path / "mine.toml").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"other\.toml:1: name: 'mine' is not the file's name, 'other'\."):
        all_hardware_profiles(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "hardware"
    path.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"hardware: Not a directory"):
        all_hardware_profiles(path)


# What a profile may not say


REFUSED = {
    "tiles": (("min_tile_px = 256", "min_tile_px = 4096"), "choose.min_tile_px: 4096 is larger than max_tile_px 2048."),
    "tile side": (("max_tile_px = 2048", "max_tile_px = 1000"), "choose.max_tile_px: 1000 is not a multiple of 32."),
    "small tile": (("min_tile_px = 256", "min_tile_px = 128"), "choose.min_tile_px: Input should be greater than"),
    "capability": (("_from = [8, 0]", "_from = [8, 9]"), "match.capability_from: 8.9 is later than capability_to 8.8."),
    "minor": (("_from = [8, 0]", "_from = [8, 90]"), "match.capability_from[1]: Input should be less than or equal"),
    "memory": (("_from = 11.1", "_from = 14.4"), "match.memory_gib_from: 14.4 is not below memory_gib_to 14.4."),
    "no number": (("_from = 11.1", "_from = nan"), "match.memory_gib_from: Input should be a finite number"),
    "pattern": (("memory_gib_from", 'names = ["a", "("]\nmemory_gib_from'), "match.names[1]: '(' is not a regular"),
    "fp8": (('["int8",', '["fp8",'), "choose.precision: fp8 needs capability 8.9 or later, and "
            "match.capability_from is 8.0."),
    "bf16": (("_from = [8, 0]", "_from = [7, 5]"), "choose.precision: bf16 needs capability 8.0 or later, and "
             "match.capability_from is 7.5."),
    "open": (("capability_from = [8, 0]\n", ""), "choose.precision: bf16 needs capability 8.0 or later, and "
             "match.capability_from is not given."),
    "twice": (('"bf16"]', '"fp8-storage"]'), "choose.precision: int8, fp8-storage, fp8-storage lists one twice."),
    "cpu on a card": (('"bf16"]', '"cpu"]'), 'choose.precision[2]: cpu is not for device "cuda", which has fp8,'),
    "unknown": (("session_limit", "sessions_limit"), "choose.sessions_limit: unknown key; known are precision,"),
    "name": (('"mine"', '"Mine"'), "name: String should match pattern"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_a_profile_that_cannot_be_meant_so_is_refused_with_file_line_and_key(tmp_path, change, said):
    path = own(tmp_path, "mine", change)
    with pytest.raises(ConfigError) as caught:
        load_hardware_profile(path)
    where, _, rest = caught.value.message.removeprefix(f"{path}:").partition(": ")
    assert rest.startswith(said)
    key = said.partition(":")[0].partition("[")[0].rpartition(".")[2]
    line = path.read_text(encoding="utf-8").splitlines()[int(where) - 1]
    assert line.startswith(f"{key} = ")
    assert caught.value.remedy


def test_bf16_as_the_compute_of_fp8_storage_needs_units_for_it_also_where_it_is_the_default(tmp_path):
    path = own(tmp_path, "mine", ('compute = "fp32"\n', ""), source="turing-8gb")
    line = path.read_text(encoding="utf-8").splitlines().index("[choose]") + 1
    with pytest.raises(ConfigError, match=rf"mine\.toml:{line}: choose\.compute: bf16 needs capability 8\.0 or later"):
        load_hardware_profile(path)


def test_the_processor_has_no_precision_of_cards_and_no_capability(tmp_path):
    path = own(tmp_path, "mine", ('["cpu"]', '["bf16"]'), source="cpu")
    with pytest.raises(ConfigError, match=r'choose\.precision\[0\]: bf16 is not for device "cpu", which has cpu\.'):
        load_hardware_profile(path)
    path = own(tmp_path, "mine", ('device = "cpu"', 'device = "cpu"\ncapability_from = [8, 0]'), source="cpu")
    with pytest.raises(ConfigError, match=r'match\.capability_from: device "cpu" is not a card and has none\.'):
        load_hardware_profile(path)
