"""The bundle on disk: what is written is read back, whole or not at all, and what was altered is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.errors import BundleError
from service.model.bundle import (
    CARD,
    FILES,
    MANIFEST,
    MAX_BYTES,
    MODEL_GRAPH,
    TOKENIZER,
    WEIGHTS,
    Bundle,
    Manifest,
    check_name,
    discover,
    is_version,
    load,
    versions,
)
from tests.bundles import architecture, manifest
from training.export.writing import digest, save


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files of a bundle; what stands in them matters to no test here."""
    folder = tmp_path / "files"
    folder.mkdir()
    for file in FILES:
        (folder / file).write_text(f"the content of {file}", "utf-8")
    return folder


@pytest.fixture
def saved(tmp_path: Path, files: Path) -> Bundle:
    return save(tmp_path / "models" / "tiny", manifest(architecture(), files), files)


def refusal(path: Path) -> str:
    """Why a bundle is not loaded: one line that names no folder."""
    with pytest.raises(BundleError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    for folder in path.parents:
        assert len(folder.parts) < 2 or str(folder) not in message
    return message


def rewrite(bundle: Bundle, change: Callable[[dict[str, Any]], object]) -> None:
    """Alter the manifest on disk."""
    path = bundle.file(MANIFEST)
    document = json.loads(path.read_text("utf-8"))
    change(document)
    path.write_text(json.dumps(document), "utf-8")


# Saving.


def test_what_is_saved_is_loaded(saved: Bundle, files: Path) -> None:
    assert load(saved.path) == saved
    assert (saved.name, saved.version) == ("tiny", 1)
    assert sorted(path.name for path in saved.path.iterdir()) == sorted([*FILES, MANIFEST])
    for file in FILES:
        assert saved.file(file).read_bytes() == (files / file).read_bytes()
        assert saved.manifest.files[file] == digest(files / file)


def test_the_digests_are_of_what_was_written_whatever_the_manifest_said(tmp_path: Path, files: Path) -> None:
    stale = manifest(architecture(), files).model_copy(update={"files": dict.fromkeys(FILES, "0" * 64)})
    assert save(tmp_path / "models" / "tiny", stale, files).manifest.files[CARD] == digest(files / CARD)


def test_versions_are_the_highest_and_one(tmp_path: Path, files: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    (folder / "9").mkdir(parents=True)
    for name in ("12.bak", "013", "latest", "-14"):
        (folder / name).mkdir()
    (folder / "77").write_text("a file", "utf-8")
    assert save(folder, manifest(architecture(), files), files).version == 10
    assert versions(folder) == [9, 10]


@pytest.mark.parametrize("crash", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("at", range(len(FILES) + 1))
def test_a_crash_in_the_middle_leaves_nothing_that_is_served(
    tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch, crash: type[BaseException], at: int
) -> None:
    repository = tmp_path / "models"
    before = save(repository / "other", manifest(architecture(), files), files)
    seen: list[list[tuple[str, list[int]]]] = []
    copy, rename = shutil.copyfile, Path.rename

    def copyfile(source: Path, target: Path) -> None:
        seen.append(list(discover(repository)))
        if len(seen) > at:
            raise crash
        copy(source, target)

    def renaming(self: Path, target: Path) -> Path:
        if at == len(FILES):
            raise crash
        return rename(self, target)

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    monkeypatch.setattr(Path, "rename", renaming)
    with pytest.raises(crash):
        save(repository / "tiny", manifest(architecture(), files), files)
    assert list(discover(repository)) == [("other", [1])]
    assert all(found == [("other", [1])] for found in seen), "nor while it was writing"
    assert load(before.path) == before


def test_what_a_killed_process_leaves_is_not_served(tmp_path: Path, files: Path, saved: Bundle) -> None:
    """Nobody tidies up behind a process that was killed."""
    left = saved.path.parent / ".writing-abc" / "bundle"
    shutil.copytree(saved.path, left)
    assert list(discover(tmp_path / "models")) == [("tiny", [1])]
    assert save(saved.path.parent, saved.manifest, files).version == 2


# Finding.


def test_discover_finds_names_with_versions(tmp_path: Path) -> None:
    for name in ("b/1", "a/2", "a/10", "a/x", "empty", ".hidden/1", "c/0", "c/01"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "README.md").write_text("", "utf-8")
    assert list(discover(tmp_path)) == [("a", [2, 10]), ("b", [1])]


def test_no_versions_where_nothing_is(tmp_path: Path) -> None:
    assert versions(tmp_path / "none") == []


@pytest.mark.parametrize(("name", "expected"), [("1", True), ("10", True), ("123456789", True)])
def test_versions_that_are_some(name: str, expected: bool) -> None:
    assert is_version(name) is expected


@pytest.mark.parametrize("name", ["", "0", "01", "-1", "+1", "1.0", "1 ", "v1", "١", "²", "1_000"])
def test_versions_that_are_none(name: str) -> None:
    assert not is_version(name)


@pytest.mark.parametrize("name", ["a", "sentiment-bilstm", "A.b_c-1", "0", "x" * 64])
def test_names_that_a_model_can_have(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "_a", "a b", "a/b", "a\\b", "é", "x" * 65, "a\n", "a\0"])
def test_names_that_no_model_can_have(name: str) -> None:
    with pytest.raises(BundleError, match="is no model name"):
        check_name(name)


# Loading.


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_was_altered(saved: Bundle, file: str) -> None:
    saved.file(file).write_text("something else", "utf-8")
    assert refusal(saved.path).startswith(f"{file} does not match the manifest: SHA-256 ")


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_missing(saved: Bundle, file: str) -> None:
    saved.file(file).unlink()
    assert refusal(saved.path) == f"{file}: No such file or directory"


def test_the_digests_of_another_file(saved: Bundle) -> None:
    def swap(document: dict[str, Any]) -> None:
        files = document["files"]
        files[WEIGHTS], files[MODEL_GRAPH] = files[MODEL_GRAPH], files[WEIGHTS]

    rewrite(saved, swap)
    assert "does not match the manifest" in refusal(saved.path)


@pytest.mark.parametrize("file", FILES)
def test_a_link_is_refused_though_its_content_is_right(saved: Bundle, tmp_path: Path, file: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    saved.file(file).rename(elsewhere)
    saved.file(file).symlink_to(elsewhere)
    assert refusal(saved.path).startswith(f"{file} is a link")
    elsewhere.unlink()
    assert refusal(saved.path).startswith(f"{file} is a link")


def test_a_manifest_that_is_a_link(saved: Bundle, tmp_path: Path) -> None:
    saved.file(MANIFEST).rename(tmp_path / "elsewhere")
    saved.file(MANIFEST).symlink_to(tmp_path / "elsewhere")
    assert refusal(saved.path).startswith("model.json is a link")


@pytest.mark.parametrize("name", ["extra.bin", ".hidden", "d\u00e9j\u00e0 vu\n"])
def test_a_file_that_the_manifest_does_not_name(saved: Bundle, name: str) -> None:
    (saved.path / name).write_text("", "utf-8")
    assert refusal(saved.path) == f"the manifest does not name the file {name!a}; a bundle holds nothing else"


def test_a_folder_in_a_files_place(saved: Bundle) -> None:
    saved.file(WEIGHTS).unlink()
    saved.file(WEIGHTS).mkdir()
    assert "a bundle holds plain files" in refusal(saved.path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_a_pipe_in_a_files_place_does_not_hang(saved: Bundle) -> None:
    saved.file(WEIGHTS).unlink()
    os.mkfifo(saved.file(WEIGHTS))
    assert "a bundle holds plain files" in refusal(saved.path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "model.json: No such file or directory"),
        ("", "model.json: the document: Invalid JSON"),
        ("{", "model.json: the document: Invalid JSON"),
        ("[]", "model.json: the document: "),
        ("null", "model.json: the document: "),
        ('{"schema_version": 1}', "model.json: task: Field required"),
        ("[" * 100_000, "model.json: the document: Invalid JSON"),
        (b"\xff\xfe", "model.json: the document: Invalid JSON"),
    ],
)
def test_a_manifest_that_cannot_be_read(saved: Bundle, content: str | bytes | None, expected: str) -> None:
    path = saved.file(MANIFEST)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert refusal(saved.path).startswith(expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema_version", 2),
        ("schema_version", "1"),
        ("task", "translation"),
        ("cell", "transformer"),
        ("directions", ["sideways"]),
        ("layers", 0),
        ("layers", True),
        ("hidden", 1.5),
        ("hidden", "8"),
        ("head", "transformer"),
        ("labels", ["only"]),
        ("token_limit", 0),
        ("features", []),
        ("features", [{"name": "word", "size": 0}]),
        ("features", [{"name": "colour", "size": 4}]),
        ("features", [{"name": "word", "size": 4, "scale": 2}]),
        ("licence", None),
        ("quality", [{"data": "x", "metric": "accuracy", "value": 1.5, "examples": 1}]),
        ("parity", {}),
    ],
)
def test_a_field_that_is_wrong_is_named(saved: Bundle, field: str, value: object) -> None:
    rewrite(saved, lambda document: document.update({field: value}))
    assert refusal(saved.path).startswith(f"model.json: {field}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "schema_version: Input should be 1, not 2"),
        ({"task": "x\udcff"}, None),
        ({"head": "x\n"}, r"head: Input should be 'last', 'mean', 'max', 'attention' or 'tagger', not 'x\n'"),
        ({"task": "x" * 41}, "task: Input should be 'sentiment' or 'ner'"),
        ({"task": {}}, "task: Input should be 'sentiment' or 'ner'"),
        ({"licence": None}, "licence: Input should be a valid string, not None"),
        ({"directions": ["backward"]}, "directions: forward, or forward and backward, not backward"),
        ({"files": {"é": "0" * 64}}, "files: exactly model.onnx, trace.onnx, weights.safetensors, tokenizer.json, "
         r"README.md, not '\xe9'"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_there_and_what_would_be_right(
    saved: Bundle, change: dict[str, object], reason: str | None
) -> None:
    rewrite(saved, lambda document: document.update(change))
    if reason is None:  # a lone surrogate is no JSON text
        assert "Invalid JSON" in refusal(saved.path)
    else:
        assert refusal(saved.path) == f"model.json: {reason}"


@pytest.mark.parametrize("value", [True, 1.0, None, [1], False])
def test_a_schema_version_that_only_equals_one(saved: Bundle, value: object) -> None:
    rewrite(saved, lambda document: document.update(schema_version=value))
    assert refusal(saved.path).startswith("model.json: schema_version: Input should be 1")


def test_a_manifest_without_a_schema_version(saved: Bundle) -> None:
    rewrite(saved, lambda document: document.pop("schema_version"))
    assert refusal(saved.path) == "model.json: schema_version: Field required; this service reads version 1"


@pytest.mark.parametrize(
    ("first", "both", "name"),
    [
        ('"token_limit": ', '"token_limit": 7, "token_limit": ', "token_limit"),
        ('"token_limit": ', '"token_limit": 4096, "token_limit": ', "token_limit"),  # equal values too
        ('"task": ', '"\\u0074ask": "ner", "task": ', "task"),
        ('"files": {', '"files": {"README.md": "' + "0" * 64 + '", ', "README.md"),
        ('"seed": ', '"seed": 1, "seed": ', "seed"),
    ],
)
def test_a_name_that_an_object_has_twice(saved: Bundle, first: str, both: str, name: str) -> None:
    rewrite(saved, lambda document: None)
    path = saved.file(MANIFEST)
    text = path.read_text("utf-8")
    assert text.count(first) == 1
    path.write_text(text.replace(first, both), "utf-8")
    assert refusal(saved.path) == f"model.json: an object names {name!a} twice; each name may stand there once"


def test_a_field_that_is_unknown(saved: Bundle) -> None:
    rewrite(saved, lambda document: document.update(colour="red"))
    assert refusal(saved.path) == "model.json: colour: Extra inputs are not permitted"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"directions": ["backward"]}, "directions: forward, or forward and backward"),
        ({"directions": ["backward", "forward"]}, "directions: forward, or forward and backward"),
        ({"directions": []}, "directions: forward, or forward and backward"),
        ({"head": "tagger"}, "a ner model has head 'tagger', a sentiment model a pooling head"),
        ({"task": "ner"}, "a ner model has head 'tagger', a sentiment model a pooling head"),
        ({"gru_reset": "after"}, "gru_reset belongs to the gru, and only to it"),
        ({"cell": "gru"}, "gru_reset belongs to the gru, and only to it"),
        ({"peepholes": "full"}, "peepholes belongs to the peephole cell, and only to it"),
        ({"gates_graph": "model.onnx"}, "gates_graph is trace.onnx for the lstm"),
        ({"cell": "mingru"}, "gates_graph is model.onnx for the mingru"),
        ({"cell": "minlstm", "gates_graph": "model.onnx"}, "files: exactly model.onnx, weights.safetensors"),
        ({"cell": "peephole", "peepholes": "full"}, "gates_graph is model.onnx for the peephole"),
        ({"labels": ["a", "a"]}, "labels must differ from each other"),
    ],
)
def test_fields_that_do_not_fit_each_other(saved: Bundle, fields: dict[str, object], expected: str) -> None:
    rewrite(saved, lambda document: document.update(fields))
    assert expected in refusal(saved.path)


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files.pop(TOKENIZER),
        lambda files: files.update({"../../../etc/passwd": "0" * 64}),
        lambda files: files.update({"extra.bin": "0" * 64}),
    ],
)
def test_exactly_the_files_of_a_bundle(saved: Bundle, change: Callable[[dict[str, str]], object]) -> None:
    rewrite(saved, lambda document: change(document["files"]))
    assert "files: exactly model.onnx, trace.onnx" in refusal(saved.path)


@pytest.mark.parametrize("value", ["", "0" * 63, "A" * 64, "g" * 64])
def test_digests_that_are_none(saved: Bundle, value: str) -> None:
    rewrite(saved, lambda document: document["files"].update({CARD: value}))
    assert refusal(saved.path).startswith("model.json: files.README.md")


@pytest.mark.parametrize("name", ["0", "01", "latest", "-1"])
def test_a_folder_that_is_no_version(saved: Bundle, name: str) -> None:
    moved = saved.path.rename(saved.path.parent / name)
    assert refusal(moved) == f"version {name!r} is not a whole number from 1"


def test_a_name_that_no_model_can_have(saved: Bundle) -> None:
    moved = saved.path.parent.rename(saved.path.parent.parent / "my model")
    assert "'my model' is no model name" in refusal(moved / "1")


def test_nothing_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none" / "1") == "model.json: No such file or directory"


def test_a_manifest_cannot_be_changed_in_memory(saved: Bundle) -> None:
    with pytest.raises(ValueError, match="frozen"):
        saved.manifest.task = "ner"  # type: ignore[misc]  # that is what is tried


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("origin", "seed"), 1 << 64),
        (("origin", "epochs"), 1 << 54),
        (("parity", "batches"), 10**400),
        (("health", "texts"), 1 << 64),
        (("health", "gates", 0, "activation", "counts", 0), 10**400),
        (("health", "gates", 0, "activation", "sum"), float("inf")),
        (("quality",), [{"data": "x" * 300, "metric": "f1", "value": 1, "examples": 1}]),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_numbers_that_no_answer_could_tell_on_are_refused(
    saved: Bundle, path: tuple[str | int, ...], value: object
) -> None:
    spread = {"counts": [1], "sum": 1.0}
    manifest = json.loads(saved.manifest.model_dump_json())
    gates = [{"layer": 0, "direction": "forward", "gate": "forget", "activation": spread}]
    manifest["health"] = {"data": "made up", "texts": 1, "tokens": 1, "gates": gates}
    Manifest.model_validate_json(json.dumps(manifest))
    inner: Any = manifest
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    (saved.path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    assert refusal(saved.path).startswith(f"model.json: {'.'.join(map(str, path))}")


def test_the_manifest_goes_through_json_unchanged(saved: Bundle) -> None:
    assert Manifest.model_validate_json(saved.manifest.model_dump_json()) == saved.manifest


def test_the_limit_of_what_ships() -> None:
    assert MAX_BYTES == 6_000_000


def test_a_repository_that_is_moved_away_while_it_is_read_has_not_lost_its_models(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    for name in "abc":
        (repository / name / "1").mkdir(parents=True)
    found = discover(repository)
    assert next(found) == ("a", [1])
    repository.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        list(found)
    found = discover(tmp_path / "away")
    next(found)
    (tmp_path / "away").rename(repository)
    (tmp_path / "away").mkdir()
    with pytest.raises(FileNotFoundError, match="replaced while it was read"):
        list(found)
