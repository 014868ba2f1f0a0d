"""Every cell, in one direction and in two, two layers deep, as it is served: its gates are those of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from service.model import bundle as bundles
from service.model.equations import gate_names
from tests import deviation
from tests.bundles import KINDS, Kind, named, tiny_bundle
from tests.integration.conftest import Process

NETWORKS = list(product(KINDS, (False, True)))
TEXTS = ["A great film.", "It was n't bad , it was very dull and not fine ! " * 8, "bad"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("every-cell")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Process]:
    torch.set_num_threads(1)
    for cell, bidirectional in NETWORKS:
        tiny_bundle(folder / "models" / _name(cell, bidirectional), cell=cell, bidirectional=bidirectional, layers=2)
    process = Process(folder, folder / "models")
    yield process.until_ready()
    process.close()


def _name(cell: Kind, bidirectional: bool) -> str:
    return f"{'bi-' if bidirectional else ''}{cell}"


@pytest.mark.parametrize(("cell", "bidirectional"), NETWORKS)
def test_what_is_served_is_what_the_weights_make_of_the_text(
    folder: Path, service: Process, cell: Kind, bidirectional: bool
) -> None:
    name, of_cell = _name(cell, bidirectional), named(cell)[0]
    bundle = bundles.load(folder / "models" / name / "1")
    assert bundle.manifest.parity.gates < bundle.manifest.parity.gates_tolerance
    worst = deviation.of_model(service.client, bundle, TEXTS)
    assert set(worst) == set(gate_names(of_cell))
    assert max(worst.values()) < 1e-5
    request = {"model": name, "inputs": TEXTS, "decimals": None}
    for trace in service.client.post("/gates", json=request).json()["traces"]:
        ways = ["forward", "backward"] if bidirectional else ["forward"]
        assert [(each["layer"], each["direction"]) for each in trace["layers"]] == list(product((0, 1), ways))
        given = trace["contributions"]
        if of_cell == "rnn":
            assert given is None
            continue
        sums = np.array(given["bias"]) + np.array(given["tokens"]).sum(0)
        assert sums == pytest.approx(given["logits"], abs=1e-3)
