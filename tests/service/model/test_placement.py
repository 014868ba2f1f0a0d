"""Where recurrent layers run: read from the session, shown, and with `strict` insisted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import onnxruntime as ort
import pytest
from structlog.testing import capture_logs

from service.errors import BundleError
from service.model import engine as engines
from service.model.engine import Engine, Placement, placement
from service.model.loading import fallback_reason, loader
from service.serving.registry import Registry
from tests.bundles import KINDS, Kind, architecture, draft, network, tiny_bundle


@dataclass
class Node:
    op_type: str


@dataclass
class Part:
    ep_name: str
    operators: Sequence[str]

    def get_nodes(self) -> list[Node]:
        return [Node(operator) for operator in self.operators]


@dataclass
class Session:
    """What a session says of itself, as on a machine with a GPU."""

    parts: list[Part]

    def get_provider_graph_assignment_info(self) -> list[Part]:
        return self.parts


def placed(*parts: tuple[str, Sequence[str]]) -> Placement:
    return placement(
        cast(ort.InferenceSession, Session([Part(f"{ep}ExecutionProvider", nodes) for ep, nodes in parts]))
    )


def test_all_on_the_gpu() -> None:
    found = placed(("CUDA", ["Gather", "LSTM"]), ("CUDA", ["LSTM", "MatMul"]), ("CPU", ["Shape"]))
    assert found == Placement({"cuda": 2}, {"cuda": 2, "cpu": 1})
    assert found.provider == "cuda"


def test_one_layer_on_the_cpu_is_the_cpu() -> None:
    found = placed(("CUDA", ["GRU", "MatMul"]), ("CPU", ["GRU"]))
    assert found.recurrent == {"cuda": 1, "cpu": 1}
    assert found.provider == "cpu"


def test_the_gpu_for_all_but_the_layers_is_the_cpu() -> None:
    assert placed(("CUDA", ["Gather", "MatMul"]), ("CPU", ["LSTM"])).provider == "cpu"


def test_a_graph_without_a_layer_is_refused() -> None:
    with pytest.raises(BundleError, match="no recurrent operator"):
        placed(("CPU", ["Gather", "MatMul"]))


def test_a_provider_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(BundleError, match="gave nodes to OpenVINOExecutionProvider, which was not asked for"):
        placed(("CPU", ["Gather"]), ("OpenVINO", ["LSTM"]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_on_the_cpu_says_so_for_every_layer(kind: Kind, tmp_path: Path) -> None:
    engine = Engine(draft(network(architecture(cell=kind, layers=2)), tmp_path))
    assert engine.placement.recurrent == {"cpu": 2}
    assert engine.placement.other.keys() == {"cpu"}
    assert engine.provider == "cpu"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one model, whose engine, asked for CUDA, finds its layers on the CPU."""
    tiny_bundle(tmp_path / "drawn")
    on_cpu = Engine

    def make(bundle: Any, *, provider: str, threads: int) -> Engine:
        return on_cpu(bundle, threads=threads)

    monkeypatch.setattr(engines, "Engine", make)
    monkeypatch.setattr(engines, "available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    return tmp_path


def registry(folder: Path, *, strict: bool) -> Registry:
    return Registry(folder, provider="auto", threads=1, token_limit=100, defaults={}, strict=strict)


def test_a_fallback_is_told_of_with_its_reason(elsewhere: Path) -> None:
    one = registry(elsewhere, strict=False)
    with capture_logs() as logs:
        one.refresh()
    (warning,) = (log for log in logs if log["log_level"] == "warning")
    assert (warning["model"], warning["recurrent"]) == ("drawn", {"cpu": 1})
    assert "no GPU" in warning["why"]
    assert one.models["drawn"].describe()["placement"] == {
        "recurrent": {"cpu": 1},
        "other": dict(one.models["drawn"].engine.placement.other),
    }


def test_strict_refuses_it(elsewhere: Path) -> None:
    one = registry(elsewhere, strict=True)
    one.refresh()
    assert one.models == {}
    (refused,) = one.refused
    assert "not all recurrent layers run on cuda (1 on cpu), and strict is set" in refused.reason


def test_strict_has_nothing_against_the_cpu_where_it_was_chosen(tmp_path: Path) -> None:
    assert loader("cpu", 1, 100, strict=True)(tiny_bundle(tmp_path / "drawn")).engine.provider == "cpu"


def test_cells_that_the_gpu_has_not_are_named(tmp_path: Path) -> None:
    manifest = draft(network(architecture(cell="gru")), tmp_path).manifest
    before = manifest.model_copy(update={"gru_reset": "before"})
    peephole = manifest.model_copy(update={"cell": "peephole", "gru_reset": None})
    assert "reset comes before" in fallback_reason(before)
    minimal = manifest.model_copy(update={"cell": "mingru", "gru_reset": None, "gates_graph": "model.onnx"})
    assert "peepholes" in fallback_reason(peephole)
    assert "no operator for the mingru" in fallback_reason(minimal)
    assert "no GPU" in fallback_reason(manifest)
