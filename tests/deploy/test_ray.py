"""deploy/ray: a corpus scored on two nodes, one of them killed midway, and a job that goes on where it was stopped."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.bundles import tiny_bundle

pa = pytest.importorskip("pyarrow", reason="pyarrow, of the extra ray, is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow, of the extra ray, is not installed")

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "ray" / "score.py"
TEXTS = ["a good film", "dull and bad .", "the movie is not very good", "it 's great"]
ROWS = 900


@pytest.fixture(scope="module")
def score() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["score"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_bundle(folder / "mood")
    tiny_bundle(folder / "names", task="ner")
    return folder


def lines(path: Path, rows: int = ROWS) -> Path:
    """A file of JSON lines; every hundredth row has no text."""
    records = [{"id": number, "text": TEXTS[number % 4] if number % 100 else ""} for number in range(rows)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def scored(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for path in sorted(folder.glob("part-*")):
        if path.suffix == ".parquet":
            found += pq.read_table(path).to_pylist()
        else:
            found += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return found


def test_json_lines_are_scored_in_order(
    score: ModuleType, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = lines(tmp_path / "rows.jsonl")
    arguments = ["--local", "--model", str(models / "mood"), "--output", str(tmp_path / "out"), "--part-rows", "70"]
    assert score.main([*arguments, str(source)]) == 0
    rows = scored(tmp_path / "out")
    assert [(row["file"], row["row"]) for row in rows] == [(str(source), number) for number in range(ROWS)]
    assert [row["row"] for row in rows if "reason" in row] == list(range(0, ROWS, 100))
    by_text = {TEXTS[number % 4]: row["scores"] for number, row in enumerate(rows) if "scores" in row}
    assert all(row["scores"] == by_text[TEXTS[number % 4]] for number, row in enumerate(rows) if "scores" in row)
    told = json.loads(capsys.readouterr().out)
    assert (told["parts"], told["rows"], told["aside"]) == (13, ROWS, 9)


def test_a_job_goes_on_with_what_is_missing(
    score: ModuleType, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = lines(tmp_path / "rows.jsonl", 200), tmp_path / "out"
    arguments = ["--local", "--model", str(models / "mood"), "--output", str(out), "--part-rows", "50", str(source)]
    assert score.main(arguments) == 0
    (out / "part-000002.jsonl").rename(tmp_path / "lost")
    (out / ".part-000002.jsonl.draft").write_text("half a pa")  # of the run that was killed
    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    capsys.readouterr()
    assert score.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["parts"] == 1
    assert (out / "part-000002.jsonl").read_bytes() == (tmp_path / "lost").read_bytes()
    assert not list(out.glob(".part-*"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert score.main([*arguments, "--truncate"]) == 1
    assert "of another job: truncate differed" in capsys.readouterr().err


def test_parquet_has_a_part_for_each_row_group(score: ModuleType, models: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "rows.parquet", tmp_path / "out"
    texts = ["Ada Lovelace lived in London .", None, "the film"] * 10
    pq.write_table(pa.table({"body": texts}), source, row_group_size=8)
    arguments = ["--local", "--model", str(models / "names"), "--output", str(out), "--column", "body", str(source)]
    assert score.main(arguments) == 0
    assert len(list(out.glob("part-*.parquet"))) == 4
    rows = scored(out)
    assert [row["row"] for row in rows] == list(range(30))
    assert [row["row"] for row in rows if row["entities"] is None] == list(range(1, 30, 3))


def test_what_cannot_be_read_is_said(
    score: ModuleType, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.txt").write_text("a\n")
    common = ["--local", "--model", str(models / "mood"), "--output", str(tmp_path / "out")]
    assert score.main([*common, str(tmp_path / "rows.txt")]) == 1
    assert "neither .parquet nor .jsonl" in capsys.readouterr().err
    assert score.main([*common, str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_row_is_there_once_though_a_node_is_killed(models: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    source, out = lines(tmp_path / "rows.jsonl", 30_000), tmp_path / "out"
    job = ["--model", str(models / "mood"), "--part-rows", "500", str(source)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    result = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "ray_cluster.py"), str(out), *job],
        env=environment,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    assert "one node killed" in result.stdout
    rows = scored(out)
    assert [row["row"] for row in rows] == list(range(30_000))
    assert not list(out.glob(".part-*"))
