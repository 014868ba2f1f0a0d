"""Several versions of a name: which are loaded, which answers, and what changes while the service runs."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service import rollout
from service.errors import BundleRefused, InvalidField, ModelNotFound, StartupError, Unfit, VersionNotFound
from service.model.bundle import Bundle
from service.model.loading import Model
from service.rollout import Plan, Rule
from service.serving.registry import Registry
from tests.service.serving.test_registry import TOKEN_LIMIT, Loader, load, repository, served, spoil, write

__all__ = ["load", "repository"]  # fixtures


def versions_of(registry: Registry, name: str = "one") -> list[int]:
    return list(registry.served[name].versions)


def opened(repository: Path, load: Loader, versions: str = "", canary: str = "", shadow: str = "") -> Registry:
    made = Registry(
        repository,
        provider="auto",
        threads=1,
        token_limit=TOKEN_LIMIT,
        defaults={},
        rollout=rollout.read(versions, canary, shadow),
        load=load,
    )
    made.refresh()
    return made


@pytest.fixture
def five(repository: Path) -> Path:
    """A name of five versions and one of one."""
    for number in range(5):
        write(repository, "one", content=str(number))
    write(repository, "two")
    return repository


@pytest.mark.parametrize(
    ("versions", "canary", "shadow", "loaded", "stable"),
    [
        ("", "", "", [5], "5"),
        ("latest:2", "", "", [4, 5], "5"),
        ("latest:9", "", "", [1, 2, 3, 4, 5], "5"),
        ("all", "", "", [1, 2, 3, 4, 5], "5"),
        ("one=1+3", "", "", [1, 3], "3"),
        ("one=2", "", "", [2], "2"),
        ("all,one=2", "", "", [2], "2"),
        ("two=1", "", "", [5], "5"),
        ("", "one=5:0.1", "", [4, 5], "4"),
        ("", "one=2:0.1", "", [2, 5], "5"),
        ("", "one=4:0.1+5:0.1", "", [3, 4, 5], "3"),
        ("", "", "one=5", [4, 5], "4"),
        ("latest:2", "one=5:0.5", "one=4", [2, 3, 4, 5], "3"),
        ("all", "one=5:0.5", "one=1", [1, 2, 3, 4, 5], "4"),
        ("one=1+5", "one=5:0.5", "", [1, 5], "1"),
    ],
)
def test_which_versions_are_loaded(
    five: Path, load: Loader, versions: str, canary: str, shadow: str, loaded: list[int], stable: str
) -> None:
    registry = opened(five, load, versions, canary, shadow)
    assert (versions_of(registry), served(registry)["one"]) == (loaded, stable)
    assert sorted(load.loaded) == sorted([*(f"one/{each}" for each in loaded), "two/1"])
    assert [each.version for each in registry.every] == [*map(str, loaded), "1"]
    assert {each.version for each in registry.index() if each.name == "one" and each.ready} == set(loaded)


def test_a_broken_version_leaves_its_place_to_the_next(five: Path, load: Loader) -> None:
    spoil(five, "one", 4)
    registry = opened(five, load, "latest:2")
    assert versions_of(registry) == [3, 5]
    assert [(each["version"], each["state"], each["share"]) for each in registry.snapshot.states("one")] == [
        ("3", "ready", 0),
        ("4", "refused", 0),
        ("5", "ready", 1),
    ]


def test_a_version_is_asked_for_by_its_number(five: Path, load: Loader) -> None:
    registry = opened(five, load, "one=1+3", "one=5:1", "one=2")
    for version in ("1", "2", "3", "5"):
        assert registry.get("one", None, version).version == version
    for wrong in ("4", "01", "", "latest", "6", "3 "):
        with pytest.raises(VersionNotFound, match=r"is not loaded; versions 1, 2, 3, 5 are\.$"):
            registry.get("one", None, wrong)
    with pytest.raises(ModelNotFound):
        registry.get("none", None, "1")
    with pytest.raises(InvalidField):
        registry.get("one", "ner", "1")


def test_the_same_key_gets_the_same_version_and_shares_hold(five: Path, load: Loader) -> None:
    registry, other = (opened(five, load, "", "one=4:0.1+5:0.2") for _ in range(2))
    keys = [f"key {number}" for number in range(3000)]
    chosen = [registry.get("one", None, None, key).version for key in keys]
    assert chosen == [other.get("one", None, None, key).version for key in keys]
    counts = Counter(chosen)
    assert 240 < counts["4"] < 360
    assert 520 < counts["5"] < 680
    assert counts["3"] == 3000 - counts["4"] - counts["5"]
    assert registry.get("one", None).version == "3", "without a key, the stable one"
    states = {each["version"]: each for each in registry.snapshot.states("one")}
    assert {version: each["share"] for version, each in states.items()} == {"3": 0.7, "4": 0.1, "5": 0.2}
    grown = opened(five, load, "", "one=4:0.2+5:0.2")
    for key, before in zip(keys, chosen, strict=True):
        if before == "4":
            assert grown.get("one", None, None, key).version == "4", "a share that grows keeps its keys"


def test_the_default_of_a_task_has_canaries_too(five: Path, load: Loader) -> None:
    registry = opened(five, load, "", "one=5:1")
    assert registry.get(None, "sentiment", None, "any").version == "5"
    assert registry.get(None, None, "4").version == "4"


def test_the_shadow_of_a_share_of_what_the_stable_version_answers(five: Path, load: Loader) -> None:
    registry = opened(five, load, "", "one=4:0.5", "one=5:0.25")
    one = registry.served["one"]
    stable, canary, shadow = (one.get(version) for version in ("3", "4", "5"))
    assert {one.shadow_of(each, "key") for each in (canary, shadow)} == {None}
    found = [one.shadow_of(stable, str(number)) for number in range(2000)]
    assert set(found) == {None, shadow}
    assert 400 < found.count(shadow) < 600
    assert [each["version"] for each in registry.snapshot.states("one") if each["shadow"]] == ["5"]
    assert registry.served["two"].shadow_of(registry.served["two"].stable, "key") is None


@pytest.mark.parametrize(
    ("versions", "canary", "shadow", "said"),
    [
        ("one=1+9", "", "", "versions: the models folder has no version 9 of 'one'; it has 1, 2, 3, 4, 5."),
        ("", "one=9:0.1", "", "canary: the models folder has no version 9 of 'one'; it has 1, 2, 3, 4, 5."),
        ("", "", "one=9", "shadow: the models folder has no version 9 of 'one'"),
        ("", "three=1:0.1", "", "the models folder has no bundle of 'three'"),
        ("three=1", "", "", "the models folder has no bundle of 'three'"),
        ("", "two=1:0.5", "", "one served version of 'two' has to be neither, but it has no other"),
    ],
)
def test_a_version_that_is_not_there_stops_the_start(
    five: Path, load: Loader, versions: str, canary: str, shadow: str, said: str
) -> None:
    with pytest.raises(StartupError) as error:
        opened(five, load, versions, canary, shadow)
    assert said in str(error.value)


class Labels(Loader):
    """Gives versions 4 and 5 other labels than their manifests."""

    def __call__(self, bundle: Bundle) -> Model:
        model = super().__call__(bundle)
        labels = {"5": ("bad", "good", "neutral"), "4": ("positive", "negative")}.get(model.version, ())
        manifest = model.bundle.manifest.model_copy(update={"labels": labels} if labels else {})
        return replace(model, bundle=replace(model.bundle, manifest=manifest))


def test_a_shadow_of_other_labels_stops_the_start_and_both_sets_are_named(five: Path) -> None:
    with pytest.raises(StartupError) as error:
        opened(five, Labels(), "one=3", "", "one=5")
    assert "has the labels bad, good, neutral" in str(error.value)
    assert "version 3, which is served, has negative, positive" in str(error.value)
    assert versions_of(opened(five, Labels(), "one=3", "", "one=4")) == [3, 4], "their order is no difference"


@pytest.mark.parametrize("setting", ["canary", "shadow"])
def test_a_canary_or_shadow_of_another_task_stops_the_start(repository: Path, load: Loader, setting: str) -> None:
    write(repository, "one")
    write(repository, "one", "ner")
    entry = "one=2:0.5"
    with pytest.raises(StartupError, match=r"is of the task 'ner', and version 1, which is served, of the task 'sent"):
        opened(repository, load, **{setting: entry})


def test_a_broken_canary_is_refused_and_the_others_are_served(five: Path, load: Loader) -> None:
    spoil(five, "one", 5)
    registry = opened(five, load, "", "one=5:0.5")
    assert versions_of(registry) == [4]
    assert {registry.get("one", None, None, str(key)).version for key in range(50)} == {"4"}
    assert [(each.name, each.version) for each in registry.refused] == [("one", 5)]


def test_a_canary_that_goes_from_the_folder_is_withdrawn(five: Path, load: Loader) -> None:
    registry = opened(five, load, "", "one=5:0.5")
    shutil.rmtree(five / "one" / "5")
    with capture_logs() as logs:
        registry.refresh()
        registry.refresh()
    assert versions_of(registry) == [4]
    said = [log["reason"] for log in logs if log["event"] == "the models are not as the settings say"]
    assert said == ["canary: the models folder has no version 5 of 'one'; it has 1, 2, 3, 4."]


def test_a_new_version_replaces_the_stable_one_and_no_canary(five: Path, load: Loader) -> None:
    registry = opened(five, load, "latest:2", "one=5:0.5")
    write(five, "one", content="six")
    registry.refresh()
    assert (versions_of(registry), served(registry)["one"]) == ([4, 5, 6], "6")


# At run time


def test_a_plan_is_changed_and_loads_what_it_names(five: Path, load: Loader) -> None:
    registry = opened(five, load)
    load.loaded.clear()
    found = registry.change("one", Plan(canary={3: 0.25}, shadow=(2, 1.0)))
    assert (found.stable.version, list(found.versions), load.loaded) == ("5", [2, 3, 5], ["one/2", "one/3"])
    assert registry.plan("one").canary == {3: 0.25}
    load.loaded.clear()
    registry.change("one", Plan(canary={3: 0.5}))
    assert (versions_of(registry), load.loaded) == ([3, 5], [])
    registry.refresh()
    assert versions_of(registry) == [3, 5], "it stays"
    registry.change("one", Plan(Rule(listed=(1, 2))))
    assert (versions_of(registry), served(registry)) == ([1, 2], {"one": "2", "two": "1"})


@pytest.mark.parametrize(
    ("plan", "error", "said"),
    [
        (Plan(canary={9: 0.5}), ModelNotFound, "no version 9"),
        (Plan(Rule(listed=(1, 9))), ModelNotFound, "no version 9"),
        (Plan(canary={1: 0.5}), BundleRefused, "one 1 cannot be served: model.onnx does not match"),
        (Plan(Rule(listed=(1,))), BundleRefused, "one 1 cannot be served"),
        (
            Plan(Rule(listed=(5,)), canary={5: 0.5}),
            Unfit,
            r"neither, but versions is 5; add one of 1, 2, 3, 4 to it\.$",
        ),
        (Plan(Rule(listed=(2,)), shadow=(2, 1.0)), Unfit, "neither, but versions is 2; add one of 1, 3, 4, 5 to it"),
        (Plan(shadow=(5, 1.0), canary=dict.fromkeys((2, 3, 4), 0.1)), Unfit, "neither, but 1 cannot be served"),
        (Plan(canary=dict.fromkeys((1, 2, 3, 4, 5), 0.1)), Unfit, "neither, but it has no other"),
    ],
)
def test_a_plan_that_cannot_be_changes_nothing(
    five: Path, load: Loader, plan: Plan, error: type[Exception], said: str
) -> None:
    registry = opened(five, load, "latest:2")
    spoil(five, "one", 1)
    before, old = registry.served, registry.plan("one")
    with pytest.raises(error, match=said):
        registry.change("one", plan)
    assert (registry.served, registry.plan("one")) == (before, old)
    with pytest.raises(ModelNotFound, match="no bundle of 'three'"):
        registry.change("three", Plan())
    registry.refresh()
    assert {name: dict(each.versions) for name, each in registry.served.items()} == {
        name: dict(each.versions) for name, each in before.items()
    }


def test_a_shadow_that_does_not_fit_changes_nothing(five: Path) -> None:
    registry = opened(five, Labels(), "one=3")
    with pytest.raises(Unfit, match="bad, good, neutral"):
        registry.change("one", Plan(Rule(listed=(3,)), shadow=(5, 1.0)))
    assert versions_of(registry) == [3]


def test_a_canary_is_taken_back_though_the_stable_version_s_files_have_gone_bad(five: Path, load: Loader) -> None:
    registry = opened(five, load, "one=4", "one=5:0.5")
    before = registry.get("one", None, "4")
    spoil(five, "one", 4)
    with capture_logs():
        registry.change("one", Plan(Rule(listed=(4,))))
        assert versions_of(registry) == [4]
        assert registry.get("one", None) is before, "it answers as when it was verified"
        with pytest.raises(BundleRefused, match=r"one 4 cannot be served: model\.onnx does not match"):
            registry.load("one", 4)


def test_loading_the_canary_makes_it_the_stable_version(five: Path, load: Loader) -> None:
    registry = opened(five, load, "", "one=5:0.1")
    before = registry.get("one", None, "5")
    assert registry.load("one", 5) is before
    assert (versions_of(registry), registry.plan("one").canary) == ([5], {})
    assert registry.load("one").version == "5"


def test_loading_without_a_version_takes_no_canary(five: Path, load: Loader) -> None:
    registry = opened(five, load, "", "one=5:0.1")
    assert registry.load("one").version == "4"
    assert versions_of(registry) == [4, 5]


def test_another_process_follows(five: Path, load: Loader) -> None:
    registry, other = opened(five, load), opened(five, load)
    registry.change("one", Plan(canary={2: 0.5}))
    decisions = {"one": {**registry.decision("one"), "number": 1}}
    other.follow(decisions)
    assert versions_of(other) == versions_of(registry) == [2, 5]
    load.loaded.clear()
    other.follow(decisions)
    assert load.loaded == []
    registry.load("one", 1)
    registry.unload("two")
    other.follow({name: {**registry.decision(name), "number": 2} for name in ("one", "two")})
    assert {name: list(each.versions) for name, each in other.served.items()} == {"one": [1, 2]}
    registry.note_followed("one", 7)
    registry.follow({"one": {"pin": 3, "plan": None, "versions": {}, "number": 7}})
    assert served(registry)["one"] == "1", "its own decision"
    registry.follow({"one": {"pin": None, "plan": None, "versions": {}, "number": 8}})
    assert served(registry)["one"] == "5"


def test_what_cannot_be_followed_changes_nothing_and_is_tried_again(five: Path, load: Loader) -> None:
    registry, other = opened(five, load), opened(five, load)
    registry.load("one", 2)
    decisions = {"one": {**registry.decision("one"), "number": 1}}
    (five / "one" / "2").rename(five / "away")
    with capture_logs():
        assert other.follow(decisions) == ["one"]
        assert served(other)["one"] == "5"
        assert other.follow(decisions) == ["one"]
    (five / "away").rename(five / "one" / "2")
    assert other.follow(decisions) == []
    assert served(other)["one"] == "2"
    registry.unload("two")
    assert other.follow({"two": {**registry.decision("two"), "number": 2}}) == []


@pytest.mark.parametrize("loads", [True, False])
def test_a_version_of_other_content_is_not_the_one_decided_on(five: Path, load: Loader, loads: bool) -> None:
    another = Loader()
    registry, other = opened(five, load, "all"), opened(five, another, "all")
    before = other.get("one", None, "2")
    shutil.rmtree(five / "one" / "2")
    shutil.copytree(five / "one" / "1", five / "one" / "2")
    registry.load("one", 2)
    if loads:  # by the time that the other process looks, the folder has changed once more
        shutil.rmtree(five / "one" / "2")
        shutil.copytree(five / "one" / "3", five / "one" / "2")
    else:  # the other process goes on with the content that it has verified
        another.troubles["one"] = MemoryError()
    with capture_logs():
        assert other.follow({"one": {**registry.decision("one"), "number": 1}}) == ["one"]
    assert served(other)["one"] == served(registry)["one"] == "2"
    assert (other.get("one", None) is before) is not loads


def test_a_decision_that_met_an_error_is_followed_by_the_next_call(
    five: Path, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, other = opened(five, load), opened(five, load)
    registry.load("one", 2)
    decisions = {"one": {**registry.decision("one"), "number": 1}}
    with monkeypatch.context() as broken:
        broken.setattr(Registry, "_put", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            other.follow(decisions)
    assert other.follow(decisions) == []
    assert served(other)["one"] == "2"
