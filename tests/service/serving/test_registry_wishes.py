"""Loading and unloading at somebody's word: `Registry.load`, `Registry.unload`, `Registry.index`."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.errors import BundleRefused, ModelNotFound
from service.serving.registry import Registry
from tests.service.serving.test_registry import Loader, load, registry_of, repository, served, spoil, write

__all__ = ["load", "repository"]  # fixtures


@pytest.fixture
def registry(repository: Path, load: Loader) -> Registry:
    """Two names of two versions each, the higher ones served."""
    for name in ("one", "two"):
        write(repository, name)
        write(repository, name, content="second")
    made = registry_of(repository, load)
    made.refresh()
    load.loaded.clear()
    return made


def test_load_takes_the_highest_version_of_that_name_alone(registry: Registry, repository: Path, load: Loader) -> None:
    for name in ("one", "two", "three"):
        write(repository, name, content="third")
    model = registry.load("one")
    assert model is registry.get("one", None)
    assert load.loaded == ["one/3"]
    assert served(registry) == {"one": "3", "two": "2"}
    registry.load("three")
    assert list(registry.models) == ["one", "three", "two"]


def test_a_model_that_has_not_changed_is_left_alone(registry: Registry, load: Loader) -> None:
    before = registry.get("one", None)
    assert registry.load("one") is before
    assert registry.load("one", 2) is before
    assert load.loaded == []


def test_a_version_loaded_by_number_stays_chosen_without_its_folder(registry: Registry, repository: Path) -> None:
    registry.load("one", 1)
    shutil.rmtree(repository / "one" / "1")
    write(repository, "one", content="third")
    registry.refresh()
    assert served(registry)["one"] == "1", "as docs/operations.md says"
    before = registry.get("one", None)
    shutil.copytree(repository / "one" / "3", repository / "one" / "1")
    registry.refresh()
    assert (served(registry)["one"], registry.get("one", None) is before) == ("1", False)
    registry.load("one")
    assert served(registry)["one"] == "3"


def test_a_version_that_was_asked_for_is_kept_to(registry: Registry, repository: Path) -> None:
    registry.load("one", 1)
    write(repository, "one", content="third")
    registry.refresh()
    assert served(registry) == {"one": "1", "two": "2"}
    assert registry.load("one").version == "3"
    write(repository, "one", content="fourth")
    registry.refresh()
    assert served(registry)["one"] == "4", "without a version, the highest is served again"


def test_a_version_that_was_asked_for_and_has_gone_is_served_on(registry: Registry, repository: Path) -> None:
    registry.load("one", 1)
    shutil.rmtree(repository / "one" / "1")
    registry.refresh()
    assert served(registry)["one"] == "1"


@pytest.mark.parametrize("version", [None, 3])
def test_a_version_that_cannot_be_served_changes_nothing(
    registry: Registry, repository: Path, version: int | None
) -> None:
    write(repository, "one")
    spoil(repository, "one", 3)
    before = registry.models
    with pytest.raises(BundleRefused, match=r"^one 3 cannot be served: model.onnx does not match the manifest"):
        registry.load("one", version)
    assert registry.models == before
    assert [(each.name, each.version) for each in registry.refused] == [("one", 3)]
    registry.load("two")
    assert len(registry.refused) == 1, "what is said of other names stays"


def test_a_name_that_is_not_served_and_broken_stays_out(registry: Registry, repository: Path) -> None:
    write(repository, "three")
    write(repository, "three")
    spoil(repository, "three", 2)
    with pytest.raises(BundleRefused):
        registry.load("three")
    assert "three" not in registry.models
    assert registry.load("three", 1).version == "1"


def test_a_refused_bundle_is_tried_again_at_each_word(registry: Registry, repository: Path, load: Loader) -> None:
    write(repository, "one")
    load.troubles["one"] = MemoryError()
    for _ in range(2):
        with pytest.raises(BundleRefused, match=r"it cannot be loaded \(MemoryError\)\.$"):
            registry.load("one")
    load.troubles.clear()
    assert registry.load("one").version == "3"
    assert registry.refused == ()


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [("none", None, "no bundle of 'none'"), ("one", 9, "no version 9 of 'one'; it has 1, 2")],
)
def test_what_is_not_there(registry: Registry, name: str, version: int | None, words: str) -> None:
    with pytest.raises(ModelNotFound, match=words):
        registry.load(name, version)


@pytest.mark.parametrize("name", ["..", "../models", "one/2", "/", "", "\0", "a" * 5000])
def test_a_name_is_no_path(registry: Registry, name: str) -> None:
    with pytest.raises(ModelNotFound):
        registry.load(name)


def test_an_unloaded_model_stays_out_until_it_is_loaded(registry: Registry, repository: Path) -> None:
    with capture_logs() as logs:
        registry.unload("one")
    assert [log["event"] for log in logs] == ["model retired"]
    write(repository, "one", content="third")
    registry.refresh()
    assert served(registry) == {"two": "2"}
    assert registry.snapshot.defaults == {"sentiment": "two"}
    with pytest.raises(ModelNotFound, match="Loaded: two"):
        registry.unload("one")
    assert registry.load("one").version == "3"
    registry.refresh()
    assert served(registry) == {"one": "3", "two": "2"}


def test_a_word_outlasts_looks_that_do_not_find_the_name(registry: Registry, repository: Path) -> None:
    registry.unload("one")
    (repository / "one").rename(repository / ".one")
    for _ in range(3):
        registry.refresh()
    (repository / ".one").rename(repository / "one")
    for _ in range(2):
        registry.refresh()
        assert served(registry) == {"two": "2"}
    assert registry.load("one").version == "2"


def test_an_unloaded_model_lives_as_long_as_a_request_holds_it(registry: Registry) -> None:
    held = registry.get("one", None)
    gone = weakref.ref(held)
    registry.unload("one")
    assert held.version == "2"
    del held
    gc.collect()
    assert gone() is None


def test_the_index_says_why_a_version_is_not_served(registry: Registry, repository: Path) -> None:
    write(repository, "three")
    write(repository, "one")
    spoil(repository, "one", 3)
    registry.refresh()
    registry.unload("two")
    write(repository, "one", content="fourth")
    write(repository, "four")
    found = [(each.name, each.version, each.ready, each.reason.partition(":")[0]) for each in registry.index()]
    assert found == [
        ("four", 1, False, "not loaded"),
        ("one", 1, False, "version 2 is served"),
        ("one", 2, True, ""),
        ("one", 3, False, "model.onnx does not match the manifest"),
        ("one", 4, False, "not loaded yet"),
        ("three", 1, True, ""),
        ("two", 1, False, "unloaded"),
        ("two", 2, False, "unloaded"),
    ]
    registry.load("three", 1)
    write(repository, "three")
    assert [each.reason for each in registry.index() if each.name == "three"] == ["", "version 1 is served"]
    shutil.rmtree(repository)
    assert [(each.name, each.version, each.ready) for each in registry.index()] == [
        ("one", 2, True),
        ("three", 1, True),
    ]
