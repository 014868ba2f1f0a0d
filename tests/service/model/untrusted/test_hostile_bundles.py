"""Bundles that are made to hurt are refused, each with its reason, and the good one beside them is served.

They are loaded in a process of their own, whose memory is measured.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import BundleError
from service.model import bundle as bundles
from service.model.bundle import FILES, MANIFEST, MODEL_GRAPH, TRACE_GRAPH, Bundle
from service.model.engine import Engine
from service.model.untrusted.graph import Graph
from service.model.untrusted.protobuf import read
from service.model.untrusted.weights import check
from tests.bundles import tiny_bundle
from tests.service.hostile import CASES, Case
from training.export.writing import digest

ROOT = Path(__file__).resolve().parents[4]

LOAD = """
import json, sys, time
from pathlib import Path
from service.serving.registry import Registry
started = time.monotonic()
registry = Registry(Path(sys.argv[1]), provider="cpu", threads=1, token_limit=4096, defaults={})
registry.refresh()
text = registry.models["good"].encode("a fine film", truncate=False)
logits = registry.models["good"].engine.predict([text.rows])
refused = {each.name: each.reason for each in registry.refused}
peak = next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"served": list(registry.models), "refused": refused, "logits": logits.tolist(), "megabytes": peak}))
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "good")


def seal(folder: Path) -> None:
    """Make the manifest's digests right, as whoever means harm would."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if set(manifest.get("files", ())) == set(FILES):
        manifest["files"] = {name: digest(folder / name) for name in FILES}
        (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture(scope="module")
def outcome(good: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a process of its own makes of a repository of all cases and the good bundle."""
    repository = tmp_path_factory.mktemp("hostile")
    shutil.copytree(good.path, repository / "good" / "1")
    for case in CASES:
        folder = repository / case.name / "1"
        shutil.copytree(good.path, folder)
        case.spoil(folder)
        if case.sealed:
            seal(folder)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(repository)],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
        cwd=ROOT,
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    assert str(repository) not in done.stdout
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_good_one_is_served_and_no_other(outcome: dict[str, Any]) -> None:
    assert outcome["served"] == ["good"]
    assert np.isfinite(outcome["logits"]).all()


def test_none_takes_much_memory(outcome: dict[str, Any]) -> None:
    assert isinstance(outcome["megabytes"], int)
    assert outcome["megabytes"] < 2000


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_hostile_bundle_is_refused_with_its_reason(case: Case, outcome: dict[str, Any]) -> None:
    refused = outcome["refused"]
    assert isinstance(refused, dict)
    assert case.reason in refused[case.name]


def test_names_are_no_paths(good: Bundle, tmp_path: Path) -> None:
    for name in ("..", ".", "", "a/b", "a\\b", "-rf", "\u202etxt", "a" * 65, "con\n"):
        with pytest.raises(BundleError):
            bundles.check_name(name)
    for version in ("0", "01", "-1", "1.0", "١", "1\n", "", ".."):
        assert not bundles.is_version(version)


def test_numbers_of_a_node_lie_in_the_graph(good: Bundle, tmp_path: Path) -> None:
    """Only the initializers of the graph itself are given to the runtime; for others it would look for the file."""
    import onnx

    folder = tmp_path / "node" / "1"
    shutil.copytree(good.path, folder)
    model = onnx.load(str(folder / MODEL_GRAPH), load_external_data=False)
    tensor = next(each for each in model.graph.initializer if each.data_location == onnx.TensorProto.EXTERNAL)
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["x"], value=tensor))
    (folder / MODEL_GRAPH).write_bytes(model.SerializeToString())
    seal(folder)
    with pytest.raises(BundleError, match=r"model\.onnx: external data is for the initializers of the graph itself"):
        check(bundles.load(folder))


def test_every_exported_graph_passes(good: Bundle) -> None:
    check(good)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],  # in place of the suite's
)
@given(data=st.data())
def test_whatever_bytes_are_wrong_in_a_graph_nothing_else_is_raised(good: Bundle, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([MODEL_GRAPH, TRACE_GRAPH]))
    content = bytearray(good.file(name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(BundleError):
        Graph([]).check(bytes(content))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_the_reader_of_fields_raises_nothing_else(data: bytes) -> None:
    try:
        message = read(data, dict.fromkeys(range(1, 32), "field"))
    except BundleError:
        return
    for reading in (message.integers, message.integer, message.text, message.texts, message.data):
        try:
            reading("field")
        except BundleError:
            continue


def test_a_graph_that_takes_too_long_is_stopped(good: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand products of what comes in, each of a tenth of a second or more."""
    import onnx
    from onnx import helper

    from tests.service.hostile import before, constant, edit

    folder = tmp_path / "slow" / "1"
    shutil.copytree(good.path, folder)

    def change(graph: onnx.GraphProto) -> None:
        size = constant(graph, "size", 1500, 1500)
        nodes = [
            helper.make_node("Cast", ["lengths"], ["f"], to=1),
            helper.make_node("ReduceSum", ["f"], ["one"], keepdims=0),
            helper.make_node("Expand", ["one", size], ["m0"]),
            *[helper.make_node("MatMul", [f"m{n}", f"m{n}"], [f"m{n + 1}"]) for n in range(1000)],
        ]
        before(graph, *nodes)

    edit(folder, change)
    seal(folder)
    monkeypatch.setattr("service.model.engine.WARM_UP_SECONDS", 0.5)
    engine = Engine(bundles.load(folder))
    with pytest.raises(BundleError, match=r"the graphs do not run: .*terminate"):
        engine.warm_up()
