"""The table of quality, and the data that the default tagger learned from."""

from __future__ import annotations

from pathlib import Path

from recipes.quality import PUBLISHED, ROOT, rows, table
from recipes.web_names import web_names, write
from training.corpora import read


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
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.conll").write_text(text, "utf-8")
    write(web_names(tmp_path), tmp_path / "web" / "train.conll")
    labels = [example.label for example in read(tmp_path / "web" / "train.conll", "ner")]
    assert labels == [("B-LOC",), ("B-ORG", "I-ORG", "O")]
