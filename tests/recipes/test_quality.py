"""The table of quality, and the data that the default tagger learned from."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from recipes import seeds
from recipes.quality import PUBLISHED, ROOT, of_seeds, rows, table
from recipes.web_names import emerging_names, web_names, write
from service.model.bundle import Score
from tests.bundles import tiny_bundle
from training.data.corpora import read
from training.export.writing import replace_manifest


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


def test_means_over_sets_are_taken_for_each_seed(tmp_path: Path) -> None:
    file = tmp_path / "seeds.json"
    tagged = {"1": [0.5, 0.7], "2": [0.7, 0.6], "3": [0.9, 0.2]}
    sets = {
        seed: {"a dev accuracy": one, "b test accuracy": two, "a dev macro_f1": 0.1}
        for seed, (one, two) in tagged.items()
    }
    entities = {"tweebank dev f1": 0.4, "wikineural dev f1": 0.6, "uner-ewt dev f1": 0.9, "tweebank dev precision": 0.1}
    file.write_text(json.dumps({"m": sets, "t": {"1": entities}}), "utf-8")
    found = {row[:3]: row[4] for row in of_seeds(file) if row[1].startswith("mean")}
    # Of the means 0.6, 0.65 and 0.55, and not of the medians 0.7 and 0.6.
    assert found == {
        ("m", "mean of 2 sets", "accuracy"): "0.6000 (0.5500–0.6500)",
        ("t", "mean of 2 sets", "f1"): "0.5000 (0.5000–0.5000)",
    }


def test_the_page_has_the_medians_and_ranges_of_three_seeds() -> None:
    page = (ROOT / "docs" / "quality.md").read_text("utf-8")
    section = page.partition("## How far are several seeds apart?")[2].partition("\n## ")[0]
    numbers = re.compile(r"\| ([0-9.]+) \| ([0-9.]+)–([0-9.]+) \|")
    shown = [[float(each) for each in found.groups()] for found in numbers.finditer(section)]
    wanted = {
        "sst2 dev",
        "imdb dev",
        "uci-amazon dev",
        "uci-yelp dev",
        "uner-ewt dev",
        "uner-ewt test",
        "conll2003 dev",
    }
    for name, data, metric, _, value, _ in of_seeds():
        named = name in {"sentiment-bilstm", "ner-bilstm", "ner-bilstm-conll2003"} and metric in {"accuracy", "f1"}
        if named and (data in wanted or data.startswith("mean of")):
            figures = [100 * float(each) for each in re.findall(r"[0-9.]+", value)]
            assert any(row == pytest.approx(figures, abs=0.056) for row in shown), (name, data)  # rounded twice


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
        "ner-bimingru-window",
        "ner-minlstm-window",
    ]
    environment = {"PATH": os.environ["PATH"], "DATA": "/data", "PYTHON": str(stand_in), "SEED": "7", "OUT": "/o"}
    done = subprocess.run(
        ["sh", ROOT / "recipes" / "fit.sh", *names], env=environment, capture_output=True, text=True, check=True
    )
    fits = [line for line in done.stdout.splitlines() if " fit " in line]
    assert [line.rpartition("--out ")[2] for line in fits] == [f"/o/{name}" for name in names]
    wide = [line for line in fits if "--window-words 3" in line]
    assert [line.rpartition("/")[2] for line in wide] == names[-3:]
    assert all("--cell mingru --bidirectional --window-words 3" in line for line in wide[:2])
    assert "--cell minlstm --window-words 3" in wide[2]
    assert all("--seed 7" in line and ("--vectors /data" in line) != ("--start " in line) for line in fits)
