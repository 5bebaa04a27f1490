import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_agent.core import plan_header
from edge_agent.errors import ConfigError
from edge_agent.models import sealed
from edge_agent.models.engine_cache import KEPT, KEPT_BAD, KEPT_OF_A_MODEL, KEPT_TIMINGS, EngineCache, Recipe

PLAN = b"ftrt plan" * 1000
RECIPE = Recipe("ab" * 32, "10.3.0", "Orin", "8.7", 12060, "fp16", (("images", (1, 3, 640, 640)),), 512)
OTHERS = {
    "model_sha256": "cd" * 32,
    "tensorrt": "10.7.0",
    "gpu": "Thor",
    "compute": "11.0",
    "driver": 13000,
    "precision": "fp32",
    "shapes": (("images", (1, 3, 320, 320)),),
    "workspace_mb": 1024,
    "flags": ("version_compatible",),
}
OPTIONS = ("precision", "shapes", "workspace_mb", "flags")


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def names(cache, pattern="*.engine"):
    return {path.name for path in cache.folder.glob(pattern)}


def add(cache, recipe, age_s=0):
    path = cache.add(recipe, {}, PLAN)
    when = path.stat().st_mtime - age_s
    os.utime(path, (when, when))
    return path


def test_the_fingerprint_is_the_same_for_the_same_recipe():
    assert RECIPE.fingerprint == replace(RECIPE).fingerprint
    assert len(RECIPE.fingerprint) == 64


def test_other_values_are_known_for_every_field_of_a_recipe():
    assert set(OTHERS) == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize(("key", "value"), OTHERS.items())
def test_any_other_value_gives_another_fingerprint_and_is_not_found(cache, key, value):
    other = replace(RECIPE, **{key: value})
    assert other.fingerprint != RECIPE.fingerprint
    cache.add(RECIPE, {}, PLAN)
    assert cache.find(other) is None


def test_what_was_added_is_found_with_the_metadata_of_the_model(cache):
    path = cache.add(RECIPE, {"names": "{0: 'cap'}", "edge_agent": {"built_as": "fp16"}}, PLAN)
    assert EngineCache(cache.folder).find(RECIPE) == path
    metadata, start = plan_header.split(path.read_bytes())
    assert metadata["names"] == "{0: 'cap'}"
    own = metadata["edge_agent"]
    assert (own["built_as"], own["tensorrt"], own["compute"]) == ("fp16", "10.3.0", "8.7")
    assert path.read_bytes()[start:] == PLAN


def test_looking_makes_nothing(cache):
    assert cache.find(RECIPE) is None
    assert cache.find_similar(RECIPE) is None
    assert cache.timing_cache(RECIPE) == b""
    cache.sweep()
    assert not cache.folder.exists()


@pytest.mark.parametrize("key", OPTIONS)
def test_similar_is_the_same_model_for_the_same_machine_with_other_options(cache, key):
    path = cache.add(replace(RECIPE, **{key: OTHERS[key]}), {}, PLAN)
    assert cache.find_similar(RECIPE) == path


@pytest.mark.parametrize("key", sorted(set(OTHERS) - set(OPTIONS)))
def test_another_model_or_machine_is_not_similar(cache, key):
    cache.add(replace(RECIPE, **{key: OTHERS[key]}), {}, PLAN)
    assert cache.find_similar(RECIPE) is None


def test_the_same_engine_is_not_similar(cache):
    cache.add(RECIPE, {}, PLAN)
    assert cache.find_similar(RECIPE) is None


def test_of_several_similar_ones_the_newest_genuine_one_is_taken(cache):
    add(cache, replace(RECIPE, workspace_mb=256), age_s=20)
    middle = add(cache, replace(RECIPE, workspace_mb=1024), age_s=10)
    newest = add(cache, replace(RECIPE, workspace_mb=2048))
    newest.write_bytes(newest.read_bytes()[:-1])
    os.utime(newest)
    assert cache.find_similar(RECIPE) == middle
    assert not newest.exists()


def test_a_damaged_engine_is_set_aside_and_logged(cache):
    path = cache.add(RECIPE, {}, PLAN)
    path.write_bytes(path.read_bytes()[:-1])
    with capture_logs() as logs:
        assert cache.find(RECIPE) is None
    assert logs == [
        {
            "event": "engine_set_aside",
            "log_level": "warning",
            "path": str(path),
            "why": "it is damaged, or was not built here: its signature does not fit",
        }
    ]
    assert names(cache, "*.bad") == {path.name + ".bad"}
    assert cache.add(RECIPE, {}, PLAN) == cache.find(RECIPE)


def test_an_engine_under_the_name_of_another_is_not_taken(cache):
    path = cache.add(RECIPE, {}, PLAN)
    wanted = replace(RECIPE, workspace_mb=1024)
    path.rename(cache.folder / f"{wanted.model_sha256[:16]}-{wanted.fingerprint[:16]}.engine")
    assert cache.find(wanted) is None


def test_in_a_folder_that_others_can_write_to_nothing_is_found(cache):
    path = add(cache, RECIPE)
    cache.folder.chmod(0o777)
    with pytest.raises(ConfigError, match="not only its owner can write to it"):
        cache.find(RECIPE)
    assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_of_another_user_is_told(tmp_path, monkeypatch):
    tmp_path.chmod(0o711)
    monkeypatch.chdir(tmp_path)  # the folders above are for root only
    add(EngineCache(Path("engines")), RECIPE)
    os.seteuid(12345)
    try:
        with pytest.raises(ConfigError, match=r"engine: Permission denied; engines cannot be kept there"):
            EngineCache(Path("engines")).find(RECIPE)
    finally:
        os.seteuid(0)


def test_a_discarded_engine_is_not_found_again(cache):
    path = cache.add(RECIPE, {}, PLAN)
    cache.discard(path, "built for another GPU")
    assert cache.find(RECIPE) is None


def test_the_newest_engines_of_a_model_are_kept(cache):
    paths = [add(cache, replace(RECIPE, workspace_mb=100 + n), age_s=100 - n) for n in range(KEPT_OF_A_MODEL + 1)]
    assert names(cache) == {path.name for path in paths[1:]}


def test_an_engine_that_was_just_added_stays_whatever_the_clock_says(cache):
    for number in range(KEPT_OF_A_MODEL):
        add(cache, replace(RECIPE, workspace_mb=100 + number), age_s=-1e6)
    assert cache.find(replace(RECIPE)) is None
    path = cache.add(RECIPE, {}, PLAN)
    assert cache.find(RECIPE) == path
    assert len(names(cache)) == KEPT_OF_A_MODEL


def test_so_many_engines_are_kept_in_all(cache):
    for number in range(KEPT + 3):
        add(cache, replace(RECIPE, model_sha256=f"{number:016x}" * 4), age_s=100 - number)
    kept = {f"{number:016x}" for number in range(3, KEPT + 3)}
    assert {name[:16] for name in names(cache)} == kept


def test_only_the_last_engines_that_were_set_aside_are_kept(cache):
    for number in range(KEPT_BAD + 2):
        cache.discard(add(cache, replace(RECIPE, workspace_mb=100 + number), age_s=100 - number), "unfit")
    cache.add(RECIPE, {}, PLAN)
    assert len(names(cache, "*.bad")) == KEPT_BAD


def test_the_timing_cache_is_for_all_models_of_the_machine(cache):
    cache.keep_timing_cache(RECIPE, b"measured")
    assert cache.timing_cache(replace(RECIPE, model_sha256="cd" * 32, precision="fp32")) == b"measured"
    assert cache.timing_cache(replace(RECIPE, driver=13000)) == b""


def test_a_timing_cache_that_is_not_genuine_is_not_used(cache):
    cache.keep_timing_cache(RECIPE, b"measured")
    (path,) = cache.folder.glob("timing-*.cache")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert cache.timing_cache(RECIPE) == b""
    assert names(cache, "*.bad") == {path.name + ".bad"}


def test_only_the_last_timing_caches_are_kept(cache):
    for number in range(KEPT_TIMINGS + 2):
        cache.keep_timing_cache(replace(RECIPE, driver=13000 + number), b"measured")
    assert len(names(cache, "timing-*.cache")) == KEPT_TIMINGS


def test_an_empty_timing_cache_is_not_kept(cache):
    cache.keep_timing_cache(RECIPE, b"")
    assert not cache.folder.exists()


def test_who_takes_the_lock_removes_what_was_half_written(cache):
    path = cache.add(RECIPE, {}, PLAN)
    sealed.part_of(path).write_bytes(b"half")
    with cache.lock(pytest.fail):
        assert not sealed.part_of(path).exists()
    assert cache.find(RECIPE) == path


def test_nothing_is_swept_while_another_builds(cache, tmp_path):
    own = tmp_path / "own.engine.part"
    with cache.lock(pytest.fail):
        for part in (cache.folder / "x.part", own):
            part.write_bytes(b"half")
        EngineCache(cache.folder).sweep([own])
        assert (cache.folder / "x.part").exists()
        assert own.exists()
    EngineCache(cache.folder).sweep([own])
    assert not (cache.folder / "x.part").exists()
    assert not own.exists()
