"""The model card: everything that a reader of a model needs to know of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.model.bundle import CARD, Crf, Manifest, Origin, Parity, Score, Task
from service.model.equations import equations
from tests.bundles import architecture, draft, manifest, network, tiny_bundle
from training.export.card import render

COMMAND = "python -m training fit --task ner --train '$DATA/ner/train file.conll'"


def card(tmp_path: Path, task: Task = "ner", **fields: object) -> str:
    shape = architecture(task=task, cell="gru", layers=2)
    filled: Manifest = manifest(shape, draft(network(shape), tmp_path / "draft").path).model_copy(
        update={
            "licence": "CC BY-SA 4.0",
            "origin": Origin(
                data=("uner-ewt train: 12,543 examples", "other train: 7 examples"),
                command=COMMAND,
                seed=1234,
                epochs=9,
                versions={"torch": "2.13.0", "onnx": "1.23.2"},
            ),
            "quality": (Score(data="uner-ewt dev", metric="f1", value=0.81236, examples=2001, truncated=3),),
            "parity": Parity(
                model=2e-7, trace=3e-7, gates=4e-7, batches=11, logits_tolerance=5e-5, gates_tolerance=1e-5
            ),
            **fields,
        }
    )
    return render("ner-bigru", filled)


@pytest.mark.parametrize(
    "part",
    [
        "# ner-bigru\n",
        "2 layers, two directions, 8 units each",
        "| licence | CC BY-SA 4.0 |",
        "| longest input | 4,096 tokens |",
        "- uner-ewt train: 12,543 examples\n- other train: 7 examples\n",
        "Seed 1234, 9 epochs, with onnx 1.23.2, torch 2.13.0.",
        f"```sh\n{COMMAND}\n```",
        "| uner-ewt dev | 2,001 | 3 | f1 | 0.8124 |",
        "to 3e-07 in the logits",
        "to 4e-07, over 11 random batches",
        "## Limits",
        "LOC, PER",
    ],
)
def test_what_a_card_says(tmp_path: Path, part: str) -> None:
    assert part in card(tmp_path)


def test_every_equation_is_printed(tmp_path: Path) -> None:
    text = card(tmp_path)
    for gate, equation in equations("gru", "after").items():
        assert f"{gate:<10} {equation}" in text


def test_a_card_says_what_its_graph_relies_on_and_names_the_page_of_runtimes(tmp_path: Path) -> None:
    relies = "`model.onnx` is for ONNX Runtime: it relies on `sequence_lens`."
    assert relies in card(tmp_path)
    assert relies in card(tmp_path, cell="mingru", characters="lstm")
    assert relies not in card(tmp_path, cell="mingru", characters="cnn")
    assert "`model.onnx` is for ONNX Runtime. For another runtime," in card(tmp_path, cell="mingru")
    assert "docs/reference/runtimes.md" in card(tmp_path, cell="mingru")


def test_limits_are_those_of_the_task(tmp_path: Path) -> None:
    assert "irony" in card(tmp_path, "sentiment")
    assert "irony" not in card(tmp_path, "ner")


def test_a_card_says_what_a_score_means(tmp_path: Path) -> None:
    assert "product of its tokens" in card(tmp_path)
    assert "calibrated" not in card(tmp_path)
    field = Crf(start=(0.0,) * 5, transitions=((0.0,) * 5,) * 5)
    found = card(tmp_path, crf=field, temperature=1.3)
    assert "marginal probability" in found
    assert "calibrated on dev: what they are made of is divided by 1.3." in found


def test_a_card_without_figures_is_still_a_card(tmp_path: Path) -> None:
    assert "## Figures" in card(tmp_path, quality=())


def test_the_card_lies_in_the_bundle_and_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "sentiment-tiny")
    text = bundle.file(CARD).read_text("utf-8")
    assert text.startswith("# sentiment-tiny\n\nSays whether a text is negative, positive")
    assert "1 layer, two directions, 8 units each" in text
    assert text == render("sentiment-tiny", bundle.manifest.model_copy())
    assert str(tmp_path) not in text
