from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from service.errors import BundleError, BundleRefused, InvalidField, ModelNotFound, StartupError
from service.model import engine as engines
from service.model.bundle import (
    CARD,
    FILES,
    MANIFEST,
    MODEL_GRAPH,
    TOKENIZER,
    TRACE_GRAPH,
    Bundle,
    Feature,
    Manifest,
    Origin,
    Parity,
    Task,
)
from service.model.bundle import load as load_bundle
from service.model.decoding import decoder
from service.model.engine import Engine, Placement
from service.model.loading import Model, ProviderSetting, choose_provider, loader
from service.model.tokenizer import UNKNOWN, build
from service.rollout import Rollout
from service.rollout import read as read_rollout
from service.serving.opening import open_registry
from service.serving.registry import Registry
from service.settings import Settings
from tests.patience import next_tick
from training.export.writing import save

LABELS: dict[Task, tuple[str, ...]] = {"sentiment": ("negative", "positive"), "ner": ("O", "B-PER", "I-PER")}
WORDS = (UNKNOWN, "a", "good", "film", ".")
TOKEN_LIMIT = 12


def write(repository: Path, name: str, task: Task = "sentiment", *, content: str = "") -> Bundle:
    """The next version of a bundle that is whole, though nothing but the fake loader could run it."""
    manifest = Manifest(
        task=task,
        cell="lstm",
        directions=("forward", "backward"),
        layers=1,
        hidden=4,
        head="tagger" if task == "ner" else "mean",
        labels=LABELS[task],
        token_limit=TOKEN_LIMIT,
        features=(Feature(name="word", size=len(WORDS)),),
        licence="MIT",
        origin=Origin(data=("made up",), command="none", seed=7, epochs=1, versions={}),
        parity=Parity.model_validate(dict.fromkeys(Parity.model_fields, 0)),
        files=dict.fromkeys(FILES, "0" * 64),
    )
    files = repository.parent / "files"
    files.mkdir(exist_ok=True)
    for file in FILES:
        (files / file).write_text(content + file, encoding="utf-8")
    build(WORDS, manifest.features).save(files / TOKENIZER)
    return save(repository / name, manifest, files)


def spoil(repository: Path, name: str, version: int, file: str = MODEL_GRAPH) -> None:
    """Alter one file of a bundle, so that its digest is wrong."""
    (repository / name / str(version) / file).write_text("spoilt", encoding="utf-8")


class Loader:
    """Loads bundles without ONNX Runtime, and counts. `troubles` are raised for the model of that name."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.troubles: dict[str, Exception] = {}
        self.provider = "cpu"

    def __call__(self, bundle: Bundle) -> Model:
        self.loaded.append(f"{bundle.name}/{bundle.version}")
        if bundle.name in self.troubles:
            raise self.troubles[bundle.name]
        manifest = bundle.manifest
        return Model(
            bundle,
            build(WORDS, manifest.features),
            cast("Engine", SimpleNamespace(provider=self.provider, placement=Placement({"cpu": 1}, {}), relies_on=())),
            decoder(manifest.task, manifest.labels),
            seconds_per_token=1e-5,
            token_limit=min(manifest.token_limit, 10),
        )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def load() -> Loader:
    return Loader()


def registry_of(
    repository: Path,
    load: Loader | None,
    *,
    provider: ProviderSetting = "auto",
    defaults: Mapping[Task, str | None] | None = None,
    rollout: Rollout | None = None,
) -> Registry:
    return Registry(
        repository,
        provider=provider,
        threads=1,
        token_limit=TOKEN_LIMIT,
        defaults=defaults or {},
        rollout=rollout,
        load=load,
    )


def served(registry: Registry) -> dict[str, str]:
    return {name: model.version for name, model in registry.models.items()}


# What is served


def test_the_highest_version_of_each_name_is_served(repository: Path, load: Loader) -> None:
    for _ in range(11):
        write(repository, "sentiment-lstm")
    write(repository, "ner-lstm", "ner")
    (repository / ".hidden" / "1").mkdir(parents=True)
    (repository / "README.md").write_text("no model")
    (repository / "sentiment-lstm" / "012").mkdir()
    registry = registry_of(repository, load)
    assert registry.models == {}
    changes = registry.refresh()
    assert served(registry) == {"ner-lstm": "1", "sentiment-lstm": "11"}
    assert {model.name for model in changes.loaded} == set(registry.models)
    assert sorted(load.loaded) == ["ner-lstm/1", "sentiment-lstm/11"], "nothing is loaded that is not served"
    assert registry.refused == ()


@pytest.mark.parametrize("file", [*FILES, MANIFEST])
def test_a_broken_version_is_named_and_the_next_lower_one_served(repository: Path, load: Loader, file: str) -> None:
    for _ in range(3):
        write(repository, "sentiment-lstm")
    write(repository, "sentiment-gru")
    spoil(repository, "sentiment-lstm", 3, file)
    registry = registry_of(repository, load)
    with capture_logs() as logs:
        changes = registry.refresh()
    assert served(registry) == {"sentiment-gru": "1", "sentiment-lstm": "2"}
    assert registry.refused == changes.refused
    [refused] = registry.refused
    assert (refused.name, refused.version) == ("sentiment-lstm", 3)
    assert file in refused.reason
    said = [(log["model"], log["version"], log["reason"]) for log in logs if log["event"] == "bundle refused"]
    assert said == [("sentiment-lstm", 3, refused.reason)]


def test_a_name_without_a_version_that_can_be_served_is_not_served(repository: Path, load: Loader) -> None:
    write(repository, "good")
    for name in ("no way", "empty"):
        (repository / name / "1").mkdir(parents=True)
    registry = registry_of(repository, load)
    registry.refresh()
    assert served(registry) == {"good": "1"}
    reasons = {refused.name: refused.reason for refused in registry.refused}
    assert "no model name" in reasons["no way"]
    assert reasons["empty"] == "model.json: No such file or directory"


@pytest.mark.parametrize("relative", [False, True])
def test_reasons_hold_no_path(repository: Path, load: Loader, relative: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository, "one")
    monkeypatch.chdir(repository.parent)
    folder = Path("models") if relative else repository
    path = repository.resolve() / "one" / "1" / MODEL_GRAPH
    load.troubles["one"] = BundleError(f"{path} cannot be parsed, nor can {repository}")
    registry = registry_of(folder, load)
    registry.refresh()
    [refused] = registry.refused
    assert str(repository) not in refused.reason
    assert refused.reason == f"one/1/{MODEL_GRAPH} cannot be parsed, nor can the models folder"


def test_an_error_of_another_kind_is_refused_without_its_words(repository: Path, load: Loader) -> None:
    write(repository, "one")
    write(repository, "two")
    load.troubles["one"] = OSError(f"cannot map {repository}")
    registry = registry_of(repository, load)
    registry.refresh()
    assert served(registry) == {"two": "1"}
    assert [refused.reason for refused in registry.refused] == ["it cannot be loaded (OSError)"]


def test_folders_that_cannot_be_read(repository: Path, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one without the right to read them meets them: these tests may run as root, who has every right."""
    write(repository, "good")
    locked = (write(repository, "locked").path, repository / "lost+found")
    locked[1].mkdir()
    for method in ("lstat", "open", "iterdir"):
        original = getattr(Path, method)

        def refuse(path: Path, *rest: Any, original: Any = original, **more: Any) -> Any:
            if {path, path.parent} & set(locked):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return original(path, *rest, **more)

        monkeypatch.setattr(Path, method, refuse)
    registry = registry_of(repository, load)
    for _ in range(2):
        registry.refresh()
        assert served(registry) == {"good": "1"}
        assert [(each.name, each.reason) for each in registry.refused] == [("locked", "model.json: Permission denied")]


def lock(monkeypatch: pytest.MonkeyPatch, locked: set[Path], *methods: str) -> None:
    """Make these methods of these paths raise, as for a user without the right to read them."""
    for method in methods:
        original = getattr(Path, method)

        def refuse(path: Path, *rest: Any, original: Any = original, **more: Any) -> Any:
            if path in locked:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return original(path, *rest, **more)

        monkeypatch.setattr(Path, method, refuse)


@pytest.mark.parametrize("method", ["iterdir", "is_dir"])
def test_a_name_that_cannot_be_read_stops_no_other(
    repository: Path, load: Loader, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    for name in ("a", "locked", "z"):
        write(repository, name)
    locked = {repository / "locked"}
    lock(monkeypatch, locked, method)
    registry = registry_of(repository, load)
    with capture_logs() as logs:
        assert registry.refresh().counts == {"loaded": 2, "retired": 0, "refused": 1}
        assert not registry.refresh()
    assert served(registry) == {"a": "1", "z": "1"}
    (refused,) = registry.refused
    assert (refused.name, refused.version) == ("locked", None)
    assert refused.reason == "its folder cannot be read: Permission denied"
    assert [log["model"] for log in logs if log["event"] == "bundle refused"] == ["locked"], "told once"
    assert [(each.name, each.version) for each in registry.index()] == [("a", 1), ("z", 1)]
    with pytest.raises(BundleRefused, match="locked cannot be served: its folder cannot be read: Permission denied"):
        registry.load("locked")
    write(repository, "z")
    assert len(registry.refresh().loaded) == 1, "a look finds what is new beside it"
    locked.clear()
    assert [model.name for model in registry.refresh().loaded] == ["locked"]
    assert registry.refused == ()


def test_a_served_name_that_cannot_be_read_later_is_served_as_before(
    repository: Path, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, "one")
    write(repository, "two")
    registry = registry_of(repository, load)
    registry.refresh()
    before, locked = dict(registry.models), {repository / "one"}
    with monkeypatch.context() as patch, capture_logs() as logs:
        lock(patch, locked, "iterdir")
        assert [each.name for each in registry.refresh().refused] == ["one"]
        write(repository, "two")
        registry.refresh()
    assert [(log["model"], log["serves"]) for log in logs if log["event"] == "bundle refused"] == [
        ("one", "what was verified before")
    ]
    assert not [log for log in logs if log["event"] == "model folder missing"]
    assert served(registry) == {"one": "1", "two": "2"}
    assert registry.models["one"] is before["one"]
    registry.refresh()
    assert registry.refused == ()
    assert registry.models["one"] is before["one"]


def test_a_version_that_cannot_be_looked_at_stops_no_other(
    repository: Path, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, "one")
    locked = write(repository, "one").path
    lock(monkeypatch, {locked, locked / MANIFEST}, "is_dir", "lstat", "iterdir")
    registry = registry_of(repository, load)
    registry.refresh()
    assert served(registry) == {"one": "1"}
    assert [(each.version, each.reason) for each in registry.refused] == [(2, "model.json: Permission denied")]


def test_a_version_wanted_of_a_name_that_cannot_be_read_stops_the_start(
    repository: Path, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, "one")
    write(repository, "two")
    lock(monkeypatch, {repository / "two"}, "iterdir")
    registry = registry_of(repository, load, rollout=read_rollout("two=1", "", ""))
    with pytest.raises(StartupError, match="'two': its folder cannot be read: Permission denied"):
        registry.refresh()


def test_a_start_with_nothing_but_a_name_that_cannot_be_read_says_which(
    repository: Path, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, "locked")
    lock(monkeypatch, {repository / "locked"}, "iterdir")
    expected = "none of its bundles can be served: locked: its folder cannot be read: Permission denied"
    with pytest.raises(StartupError, match=expected):
        open_registry(Settings(models=repository))


# What changes


def test_a_refresh_that_finds_nothing_new_does_nothing(repository: Path, load: Loader) -> None:
    write(repository, "one")
    write(repository, "two")
    write(repository, "two")
    spoil(repository, "two", 2)
    registry = registry_of(repository, load)
    registry.refresh()
    models, count = registry.models, len(load.loaded)
    with capture_logs() as logs:
        changes = registry.refresh()
    assert not changes
    assert logs == []
    assert len(load.loaded) == count
    assert all(registry.models[name] is models[name] for name in models)
    assert len(registry.refused) == 1


def test_new_versions_and_names_are_loaded(repository: Path, load: Loader) -> None:
    write(repository, "one")
    write(repository, "two")
    registry = registry_of(repository, load)
    registry.refresh()
    picture, one = registry.models, registry.models["one"]
    load.loaded.clear()
    write(repository, "one")
    write(repository, "three")
    assert not registry.refresh().retired
    assert load.loaded == ["one/2", "three/1"]
    assert served(registry) == {"one": "2", "two": "1", "three": "1"}
    assert picture["one"] is one, "the picture that a request holds does not change"


@pytest.mark.parametrize("what", ["version", "name", "every name", "folder"])
@pytest.mark.parametrize("how", ["deleted", "moved away"])
def test_a_model_whose_folder_is_gone_is_served_until_another_is_there(
    repository: Path, load: Loader, what: str, how: str, tmp_path: Path
) -> None:
    write(repository, "one")
    write(repository, "two")
    registry = registry_of(repository, load)
    registry.refresh()
    models = dict(registry.models)
    gone = {"version": ["one/1"], "name": ["one"], "every name": ["one", "two"], "folder": ["."]}[what]
    kept = shutil.copytree(repository, tmp_path / "kept")
    for number, path in enumerate(gone):
        if how == "deleted":
            shutil.rmtree(repository / path)
        else:
            (repository / path).resolve().rename(tmp_path / str(number))
    with capture_logs() as logs:
        for _ in range(3):
            assert not registry.refresh()
    assert dict(registry.models) == models
    assert [(each.name, each.version) for each in registry.index() if each.ready] == [("one", 1), ("two", 1)]
    missing = [log["model"] for log in logs if log["event"] == "model folder missing"]
    assert missing == {"version": ["one"], "name": ["one"], "every name": ["one", "two"], "folder": []}[what], "once"
    shutil.copytree(kept, repository, dirs_exist_ok=True)
    assert not registry.refresh(), "the same files: verified again"
    assert all(registry.models[name] is model for name, model in models.items())
    write(repository, "one", content="new")
    assert registry.refresh().loaded == (registry.models["one"],)
    assert served(registry) == {"one": "2", "two": "1"}
    shutil.rmtree(repository / "two")
    registry.unload("two")
    registry.refresh()
    assert served(registry) == {"one": "2"}, "an administrator's word retires it"


def test_a_version_whose_manifest_changed_is_loaded_again(repository: Path, load: Loader) -> None:
    write(repository, "one", content="old")
    registry = registry_of(repository, load)
    registry.refresh()
    old = registry.models["one"]
    next_tick(old.bundle.file(MANIFEST))
    shutil.rmtree(repository / "one")
    write(repository, "one", content="new")
    assert registry.refresh().loaded == (registry.models["one"],)
    assert registry.models["one"] is not old
    assert load.loaded == ["one/1", "one/1"]


@pytest.mark.parametrize("file", [MANIFEST, *FILES])
@pytest.mark.parametrize("fault", ["overwritten", "emptied", "deleted"])
def test_a_file_that_changed_is_noticed_and_what_was_verified_is_served(
    repository: Path, load: Loader, file: str, fault: str
) -> None:
    path = write(repository, "one").file(file)
    registry = registry_of(repository, load)
    registry.refresh()
    old, whole, stamp = registry.models["one"], path.read_bytes(), path.stat()
    next_tick(path)
    if fault == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"" if fault == "emptied" else bytes(len(whole)))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with capture_logs() as logs:
        (refused,) = registry.refresh().refused
        assert not registry.refresh(), "told once"
    assert file in refused.reason
    assert [log["serves"] for log in logs] == ["what was verified before"]
    assert registry.models["one"] is old
    path.write_bytes(whole)
    with capture_logs() as logs:
        registry.refresh()
    assert [log["event"] for log in logs] == ["model files verified again"]
    assert registry.refused == ()
    assert registry.models["one"] is old
    assert load.loaded == ["one/1"]


def test_a_copy_of_the_same_files_over_them_changes_nothing(repository: Path, load: Loader) -> None:
    bundle = write(repository, "one")
    registry = registry_of(repository, load)
    registry.refresh()
    old = registry.models["one"]
    for file in (MANIFEST, *FILES):
        shutil.copyfile(bundle.file(file), repository / "copy")
        (repository / "copy").replace(bundle.file(file))
    assert not registry.refresh()
    assert registry.models["one"] is old
    assert load.loaded == ["one/1"]


def test_the_highest_version_withdrawn_brings_the_one_before_back(repository: Path, load: Loader) -> None:
    write(repository, "one")
    write(repository, "one")
    registry = registry_of(repository, load)
    registry.refresh()
    shutil.rmtree(repository / "one" / "2")
    registry.refresh()
    assert served(registry) == {"one": "1"}


@pytest.mark.parametrize("fault", ["a new version is broken", "its own files were altered", "its manifest has gone"])
def test_the_model_that_is_served_stays_while_what_is_new_is_broken(repository: Path, load: Loader, fault: str) -> None:
    write(repository, "one")
    write(repository, "one")
    registry = registry_of(repository, load)
    registry.refresh()
    old = registry.models["one"]
    if fault == "a new version is broken":
        write(repository, "one")
        spoil(repository, "one", 3)
    elif fault == "its own files were altered":
        spoil(repository, "one", 2, MANIFEST)
    else:
        (repository / "one" / "2" / MANIFEST).unlink()
    for _ in range(2):
        registry.refresh()
        assert registry.models["one"] is old
        assert len(registry.refused) == 1


def test_a_model_whose_every_version_is_broken_now_goes_on(repository: Path, load: Loader) -> None:
    write(repository, "one")
    registry = registry_of(repository, load)
    registry.refresh()
    shutil.move(repository / "one" / "1", repository / "one" / "2")
    spoil(repository, "one", 2)
    registry.refresh()
    assert served(registry) == {"one": "1"}


def test_a_broken_version_is_tried_again_when_its_files_change(repository: Path, load: Loader) -> None:
    write(repository, "one")
    good = (repository / "one" / "1" / MODEL_GRAPH).read_bytes()
    spoil(repository, "one", 1)
    registry = registry_of(repository, load)
    registry.refresh()
    assert served(registry) == {}
    (repository / "one" / "1" / MODEL_GRAPH).write_bytes(good)
    registry.refresh()
    assert served(registry) == {"one": "1"}
    assert registry.refused == ()


def test_trouble_that_may_pass_is_tried_again_and_told_once(repository: Path, load: Loader) -> None:
    write(repository, "one")
    load.troubles["one"] = MemoryError()
    registry = registry_of(repository, load)
    with capture_logs() as logs:
        assert registry.refresh().refused
        assert not registry.refresh()
    assert len([log for log in logs if log["event"] == "bundle refused"]) == 1
    load.troubles.clear()
    registry.refresh()
    assert served(registry) == {"one": "1"}


def test_a_replaced_model_lives_as_long_as_a_request_holds_it(repository: Path, load: Loader) -> None:
    write(repository, "one")
    registry = registry_of(repository, load)
    registry.refresh()
    held = registry.get("one", None)
    gone = weakref.ref(held)
    write(repository, "one")
    registry.refresh()
    assert held.version == "1"
    assert registry.get("one", None).version == "2"
    del held
    gc.collect()
    assert gone() is None


def test_readers_see_one_picture_while_refreshes_run(repository: Path, load: Loader) -> None:
    write(repository, "one")
    registry = registry_of(repository, load)
    registry.refresh()
    stop = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(registry.get(None, "sentiment").version)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):
        write(repository, "one")
        refreshers = [threading.Thread(target=registry.refresh) for _ in range(3)]
        for refresher in refreshers:
            refresher.start()
        for refresher in refreshers:
            refresher.join()
    stop.set()
    reader.join()
    assert seen <= {"1", "2", "3", "4", "5", "6"}
    assert load.loaded == [f"one/{version}" for version in range(1, 7)], "each is loaded once"


# The folder itself


def test_a_folder_that_is_not_there_stops_the_start(repository: Path, load: Loader) -> None:
    with pytest.raises(StartupError, match="No such file or directory"):
        registry_of(repository / "nowhere", load).refresh()
    (repository / "file").write_text("")
    with pytest.raises(StartupError, match="Not a directory"):
        registry_of(repository / "file", load).refresh()


def test_a_folder_that_vanishes_later_is_logged_once_and_the_models_stay(repository: Path, load: Loader) -> None:
    write(repository, "one")
    registry = registry_of(repository, load)
    registry.refresh()
    away = repository.parent / "away"
    repository.rename(away)
    with capture_logs() as logs:
        assert not registry.refresh()
        assert not registry.refresh()
    assert [log["log_level"] for log in logs] == ["error"]
    assert served(registry) == {"one": "1"}
    away.rename(repository)
    assert not registry.refresh()
    assert load.loaded == ["one/1"]


def test_an_empty_folder_is_for_the_caller_to_judge(repository: Path, load: Loader) -> None:
    registry = registry_of(repository, load, provider="cuda", defaults={"ner": "not-yet"})
    assert not registry.refresh()
    assert registry.models == {}
    write(repository, "one")
    assert registry.refresh()


# Names and defaults


@pytest.mark.parametrize(
    ("names", "chosen", "default"),
    [
        (["sentiment-gru", "sentiment-bilstm", "a"], None, "sentiment-bilstm"),
        (["zeta", "my-a", "beta"], None, "beta"),
        (["my-b", "my-a"], None, "my-a"),
        (["my-b", "sentiment-bilstm"], "my-b", "my-b"),
        ([], None, None),
    ],
)
def test_the_default_of_a_task(
    repository: Path, load: Loader, names: list[str], chosen: str | None, default: str | None
) -> None:
    for name in names:
        write(repository, name)
    write(repository, "another-task", "ner")
    registry = registry_of(repository, load, defaults={"sentiment": chosen, "ner": None})
    registry.refresh()
    assert registry.snapshot.defaults == {"ner": "another-task"} | ({"sentiment": default} if default else {})
    assert registry.get(None, "ner").name == "another-task"
    if default:
        assert registry.get(None, None) is registry.get(None, "sentiment") is registry.get(default, None)


def test_a_default_that_is_not_loaded_or_of_another_task_stops_the_start(repository: Path, load: Loader) -> None:
    write(repository, "one")
    with pytest.raises(StartupError, match=r"'two', is not loaded. Loaded: one"):
        registry_of(repository, load, defaults={"sentiment": "two"}).refresh()
    with pytest.raises(StartupError, match="'one', is of the task 'sentiment'"):
        registry_of(repository, load, defaults={"ner": "one"}).refresh()


def test_a_chosen_default_that_vanishes_has_no_substitute(repository: Path, load: Loader) -> None:
    write(repository, "one")
    write(repository, "sentiment-bilstm")
    registry = registry_of(repository, load, defaults={"sentiment": "one"})
    registry.refresh()
    with capture_logs() as logs:
        registry.unload("one")
        registry.refresh()
    assert [log["reason"] for log in logs if log["log_level"] == "error"] == [
        "The default model for sentiment, 'one', is not loaded. Loaded: sentiment-bilstm."
    ]
    assert registry.snapshot.defaults == {}
    with pytest.raises(ModelNotFound):
        registry.get(None, None)
    assert registry.get("sentiment-bilstm", None)


def test_errors_of_get(repository: Path, load: Loader) -> None:
    write(repository, "one")
    write(repository, "two")
    registry = registry_of(repository, load)
    registry.refresh()
    with pytest.raises(ModelNotFound, match=r"'three'. Loaded: one, two\."):
        registry.get("three", None)
    with pytest.raises(ModelNotFound, match=r"task 'ner'. Loaded: one, two\.") as missing:
        registry.get(None, "ner")
    assert missing.value.status == 404
    with pytest.raises(InvalidField) as wrong:
        registry.get("one", "ner")
    assert [problem.pointer for problem in wrong.value.problems] == ["/model"]
    assert registry.get("one", "sentiment").name == "one"


# Providers


def test_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    available = ["CPUExecutionProvider"]
    monkeypatch.setattr(engines, "available_providers", lambda: available)
    with capture_logs() as logs:
        assert choose_provider("auto") == "cpu"
    assert [(log["provider"], log["why"]) for log in logs] == [("cpu", "ONNX Runtime has no CUDAExecutionProvider")]
    assert choose_provider("cpu") == "cpu"
    with pytest.raises(StartupError, match=r"extra 'cuda'.*onnxruntime-gpu"):
        choose_provider("cuda")
    available.insert(0, "CUDAExecutionProvider")
    with capture_logs() as logs:
        assert choose_provider("auto") == "cuda"
    assert logs[0]["provider"] == "cuda"
    assert choose_provider("cuda") == "cuda"
    assert choose_provider("cpu") == "cpu"


def test_without_onnx_runtime_the_start_names_the_extras() -> None:
    program = """
import sys
sys.modules["onnxruntime"] = None
from pathlib import Path
from service.errors import StartupError
from service.serving.registry import Registry
try:
    Registry(Path("models"), provider="cpu", threads=1, token_limit=9, defaults={})
except StartupError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "'cpu'" in done.stdout
    assert "'cuda'" in done.stdout


def test_cuda_asked_for_and_not_used_by_any_model_stops_the_start(repository: Path, load: Loader) -> None:
    write(repository, "one")
    with pytest.raises(StartupError, match="no model runs on it"):
        registry_of(repository, load, provider="cuda").refresh()
    load.provider = "cuda"
    registry_of(repository, load, provider="cuda").refresh()


# A model


def test_a_model_encodes_up_to_the_lower_limit(repository: Path, load: Loader) -> None:
    write(repository, "one")
    registry = registry_of(repository, load)
    registry.refresh()
    model = registry.get("one", None)
    assert len(model.encode("a good film .", truncate=False)) == 4
    with pytest.raises(InvalidField, match="limit is 10"):
        model.encode(["a"] * 11, truncate=False)
    assert len(model.encode(["a"] * 11, truncate=True)) == 10


def test_describe_is_plain(repository: Path, load: Loader) -> None:
    write(repository, "one", "ner")
    registry = registry_of(repository, load)
    registry.refresh()
    described = registry.models["one"].describe()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert (
        described
        | {
            "name": "one",
            "version": "1",
            "task": "ner",
            "cell": "lstm",
            "directions": ["forward", "backward"],
            "layers": 1,
            "hidden": 4,
            "head": "tagger",
            "labels": list(LABELS["ner"]),
            "gates": ["forget", "input", "output", "candidate", "cell", "hidden"],
            "provider": "cpu",
            "token_limit": 10,
            "quality": [],
            "raw_text": [],
            "licence": "MIT",
        }
        == described
    )
    assert cast("dict[str, str]", described["equations"]).keys() == set(cast("list[str]", described["gates"]))
    assert str(repository) not in json.dumps(described)


# With the real engine


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one bundle that was exported from a network as it was drawn."""
    pytest.importorskip("torch", reason="exporting a bundle needs torch")
    from training.export.bundle import export
    from training.nets.networks import Architecture, Network

    features = (Feature(name="word", size=len(WORDS)),)
    architecture = Architecture(
        task="sentiment",
        cell="lstm",
        directions=("forward", "backward"),
        layers=1,
        hidden=4,
        head="mean",
        labels=LABELS["sentiment"],
        features=features,
    )
    origin = Origin(data=("made up",), command="none", seed=7, epochs=0, versions={})
    repository = tmp_path_factory.mktemp("real") / "models"
    export(Network(architecture), build(WORDS, features), origin, "MIT", repository / "drawn", lambda _: [])
    return repository


def test_a_real_bundle_is_loaded_and_answers(real: Path) -> None:
    registry = Registry(real, provider="auto", threads=1, token_limit=TOKEN_LIMIT, defaults={})
    registry.refresh()
    assert registry.refused == ()
    model = registry.get(None, None)
    encoded = model.encode("A good film.", truncate=False)
    [prediction] = cast("list[dict[str, Any]]", model.decoder.decode(model.engine.predict([encoded.rows]), [encoded]))
    assert sum(prediction["scores"].values()) == pytest.approx(1)
    assert model.seconds_per_token > 0
    described = model.describe()
    assert described["provider"] == model.engine.provider
    assert cast("int", described["parameters"]) > len(WORDS)
    assert described["token_limit"] == TOKEN_LIMIT
    json.dumps(described, allow_nan=False)


@pytest.mark.parametrize("file", [MODEL_GRAPH, TRACE_GRAPH, TOKENIZER])
def test_a_real_bundle_that_is_whole_and_wrong_is_refused(real: Path, repository: Path, file: str) -> None:
    shutil.copytree(real / "drawn", repository / "drawn")
    files = repository / "drawn" / "1"
    manifest = Manifest.model_validate_json((files / MANIFEST).read_bytes())
    (files / file).write_text((files / CARD).read_text())
    save(repository / "drawn", manifest, files)
    shutil.rmtree(files)
    shutil.copytree(real / "drawn" / "1", files)
    registry = Registry(repository, provider="cpu", threads=1, token_limit=TOKEN_LIMIT, defaults={})
    registry.refresh()
    assert served(registry) == {"drawn": "1"}
    [refused] = registry.refused
    assert refused.version == 2
    assert file in refused.reason
    assert str(repository) not in refused.reason


def test_the_loader_warns_of_a_model_that_does_not_run_where_it_should(
    real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(real, provider="cpu", threads=1, token_limit=TOKEN_LIMIT, defaults={})
    registry.refresh()
    bundle = load_bundle(real / "drawn" / "1")
    made = registry.models["drawn"].engine
    monkeypatch.setattr(engines, "Engine", lambda bundle, provider, threads: made)
    with capture_logs() as logs:
        loader("cuda", 1, TOKEN_LIMIT)(bundle)
    assert [(log["log_level"], log["recurrent"]) for log in logs] == [("warning", {"cpu": 1})]
