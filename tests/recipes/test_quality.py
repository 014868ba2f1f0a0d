"""The table of quality, and the data that the default tagger learned from."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from recipes import seeds
from recipes.quality import PUBLISHED, ROOT, of_seeds, rows, table
from recipes.web_names import emerging_names, web_names, write
from service.model.bundle import Score, replace_manifest
from tests.bundles import tiny_bundle
from training.data.corpora import read


def test_every_model_that_ships_is_in_the_table() -> None:
    found = list(rows(ROOT / "models"))
    shipped = {path.name for path in (ROOT / "models").iterdir() if path.is_dir() and not path.name.startswith("my-")}
    assert {row[0] for row in found} == shipped
    assert "| ner-bilstm | uner-ewt test | f1 |" in table(ROOT / "models")


def test_every_published_figure_stands_beside_a_measured_one() -> None:
    measured = {(row[0], f"{row[1]} {row[2]}") for row in rows(ROOT / "models")}
    assert {(name, figure) for name, figures in PUBLISHED.items() for figure in figures} <= measured


def test_tweets_that_mark_users_are_left_out_and_types_are_mapped(tmp_path: Path) -> None:
    for name, text in (
        ("btc", "@\tO\nada\tB-PER\n\nParis\tB-LOC\n"),
        ("wnut17", "Acme\tB-corporation\nInc\tI-corporation\nphone\tB-product\n"),
        ("uner-ewt", "Ada\tB-PER\nin\tO\nParis\tB-LOC\n\nIBM\tB-ORG\nParis\tB-LOC\n\nnothing\tO\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.conll").write_text(text, "utf-8")
    write(web_names(tmp_path), tmp_path / "web" / "train.conll")
    labels = [example.label for example in read(tmp_path / "web" / "train.conll", "ner")]
    assert labels == [("B-LOC",), ("B-ORG", "I-ORG", "O")]
    assert [each.label for each in emerging_names(tmp_path)] == [("B-location",), ("B-person", "O", "B-location")]


def test_seeds_are_gathered_and_shown_as_median_and_range(tmp_path: Path) -> None:
    for seed, value in ((1, 0.5), (2, 0.8), (3, 0.7)):
        made = tiny_bundle(tmp_path / str(seed) / "m")
        score = Score(data="some dev", metric="accuracy", value=value, examples=9)
        origin = made.manifest.origin.model_copy(update={"seed": seed})
        replace_manifest(made, made.manifest.model_copy(update={"quality": (score,), "origin": origin}))
    file = tmp_path / "seeds.json"
    file.write_text(json.dumps(seeds.gathered([tmp_path / str(seed) / "m" for seed in (3, 1, 2)])), "utf-8")
    assert list(of_seeds(file)) == [("m", "some dev", "accuracy", "3 (1, 2, 3)", "0.7000 (0.5000–0.8000)", "")]


def test_every_recipe_is_shell_that_names_data_below_the_folder(tmp_path: Path) -> None:
    """Run with a stand-in for Python that prints what it is asked."""
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\necho "$@"\n', "utf-8")
    stand_in.chmod(0o755)
    names = [
        "ner-bilstm",
        "ner-bilstm-300",
        "ner-bilstm-conll2003",
        "ner-bilstm-conll2003-both",
        "ner-bilstm-conll2003-glove",
        "ner-bilstm-gold",
        "ner-bilstm-wnut17",
        "ner-gru",
        "sentiment-bilstm",
        "sentiment-bilstm-max",
        "sentiment-bilstm-pretrained",
        "sentiment-rnn",
        "sentiment-bimingru-window",
        "ner-minlstm-window",
    ]
    environment = {"PATH": os.environ["PATH"], "DATA": "/data", "PYTHON": str(stand_in), "SEED": "7", "OUT": "/o"}
    done = subprocess.run(
        ["sh", ROOT / "recipes" / "fit.sh", *names], env=environment, capture_output=True, text=True, check=True
    )
    fits = [line for line in done.stdout.splitlines() if " fit " in line]
    assert [line.rpartition("--out ")[2] for line in fits] == [f"/o/{name}" for name in names]
    wide = [line for line in fits if "--window-words 3" in line]
    assert [line.rpartition("/")[2] for line in wide] == ["sentiment-bimingru-window", "ner-minlstm-window"]
    assert "--cell mingru --bidirectional --window-words 3" in wide[0]
    assert "--cell minlstm --window-words 3" in wide[1]
    assert all("--seed 7" in line and ("--vectors /data" in line) != ("--start " in line) for line in fits)
