"""`predict`, `models`, `check`, `completion`: what they print, what they write, how they end."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import structlog
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from service.__main__ import main
from service.errors import StartupError
from service.model.bundle import CARD, Bundle
from service.model.bundle import load as load_bundle
from service.model.engine import Engine
from service.model.loading import loader
from service.model.tokenizer import Encoded
from service.model.weights import arrays
from service.observability import logs
from service.process import start
from service.scoring import reference
from service.scoring.batch import ScoringRun
from service.scoring.progress import Progress
from service.scoring.repository import load
from service.scoring.rows import Row, Source
from service.scoring.work import cut
from service.serving.queueing import LIKE, batches
from service.settings import Settings, choices, variable
from tests import spoilt
from tests.bundles import ORIGIN, Options, architecture, network, tiny_bundle, tokenizer
from tests.patience import until
from training.export.bundle import export
from training.export.writing import replace_manifest

ROOT = Path(__file__).resolve().parents[3]
TEXTS = ["A great film.", "bad", "Ada Lovelace lived in London. " * 20, "the film is not bad", "a"]


@pytest.fixture(autouse=True)
def _logging_is_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The commands run in this process, and a logger once cached keeps its level for the tests that follow."""
    configure = logs.configure

    def uncached(*arguments: Any) -> None:
        configure(*arguments)
        structlog.configure(cache_logger_on_first_use=False)

    monkeypatch.setattr(logs, "configure", uncached)
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_bundle(folder / "sentiment")
    tiny_bundle(folder / "ner", task="ner", cell="gru")
    return folder


def invoke(models: Path, *arguments: str, stdin: bytes | None = None) -> Result:
    command, *rest = arguments
    given = io.BufferedReader(io.BytesIO(stdin or b""))
    return CliRunner().invoke(main, [command, "--models", str(models), *rest], input=given)


def predict(models: Path, *arguments: str, stdin: bytes | None = None, model: str = "sentiment") -> Result:
    return invoke(models, "predict", "--model", model, "--quiet", *arguments, stdin=stdin)


def records(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def expected(models: Path, texts: list[Any], name: str = "sentiment") -> list[dict[str, object]]:
    """What the model says of each text alone."""
    model = load(models / name / "1", "cpu", 4096)
    found = []
    for text in texts:
        encoded = [model.encode(text, truncate=False)]
        found += model.decoder.decode(model.engine.predict([encoded[0].rows]), encoded)
    return found


def test_text_lines(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    result = predict(models, str(file))
    assert result.exit_code == 0, result.output
    found = records(result.stdout)
    assert [(each.pop("file"), each.pop("row")) for each in found] == [(str(file), n) for n in range(1, 6)]
    assert found == expected(models, TEXTS)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "tsv"])
def test_every_format_plain_and_zipped(models: Path, tmp_path: Path, kind: str, suffix: str) -> None:
    text = io.StringIO()
    if kind == "csv":
        csv.writer(text).writerows([["id", "body"], *(["1", each] for each in TEXTS)])
    else:
        lines = {
            "txt": TEXTS,
            "jsonl": [json.dumps(each if n % 2 else {"body": each}) for n, each in enumerate(TEXTS)],
            "tsv": ["body\tid", *(f"{each}\t1" for each in TEXTS)],
        }
        text.write("\n".join(lines[kind]) + "\n")
    content = text.getvalue().encode()
    file = tmp_path / f"texts.{kind}{suffix}"
    file.write_bytes(gzip.compress(content) if suffix else content)
    result = predict(models, "--column", "body", str(file))
    assert result.exit_code == 0, result.output
    assert [each["label"] for each in records(result.stdout)] == [each["label"] for each in expected(models, TEXTS)]
    assert [each["row"] for each in records(result.stdout)] == [1, 2, 3, 4, 5]


def test_a_quoted_field_may_hold_lines(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    file.write_text('text\n"A great\nfilm, ""really"""\nbad\n', encoding="utf-8")
    found = records(predict(models, str(file)).stdout)
    assert [each["scores"] for each in found] == [
        each["scores"] for each in expected(models, ['A great\nfilm, "really"', "bad"])
    ]


def test_standard_input_and_csv(models: Path) -> None:
    result = predict(models, "--to", "csv", stdin=b"A great film.\nbad\n")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(rows[0]) == ["file", "row", "label", "score", "negative", "positive", "truncated"]
    assert [row["label"] for row in rows] == [each["label"] for each in expected(models, ["A great film.", "bad"])]
    result = predict(models, "--to", "csv", stdin=b"Ada lived\n", model="ner")
    assert json.loads(next(csv.DictReader(io.StringIO(result.stdout)))["entities"]) is not None


def test_standard_input_may_be_zipped(models: Path) -> None:
    found = records(predict(models, "-", stdin=gzip.compress(b"A great film.\n") + gzip.compress(b"bad\n")).stdout)
    assert [(each["file"], each["row"]) for each in found] == [("-", 1), ("-", 2)]
    assert [each["label"] for each in found] == [each["label"] for each in expected(models, ["A great film.", "bad"])]


def test_json_lines_may_be_named_json(models: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": "bad"}\n["a", "film"]\n', encoding="utf-8")
    assert len(records(predict(models, str(tmp_path / "a.json")).stdout)) == 2
    assert ".json .csv" in " ".join(CliRunner().invoke(main, ["predict", "--help"]).stdout.split())


def test_tokens_already(models: Path) -> None:
    result = predict(models, "--format", "jsonl", "--tokens", stdin=b'["Ada", "Lovelace"]\n', model="ner")
    (record,) = records(result.stdout)
    assert [token["text"] for token in record["tokens"]] == ["Ada", "Lovelace"]


def test_rows_set_aside(models: Path, tmp_path: Path) -> None:
    file, output = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
    file.write_bytes(
        b'"good"\n{"no": 1}\nnot json\n"\xff"\n""\n[1]\n"' + b"good " * 5000 + b'"\n"bad"\n"\\ud800"\n[]\n["a", ""]\n'
    )
    result = predict(models, str(file), "--output", str(output))
    assert result.exit_code == 3, result.output
    assert [each["row"] for each in records(output.read_text())] == [1, 8]
    aside = records((tmp_path / "out.jsonl.rejected.jsonl").read_text())
    assert [each["row"] for each in aside] == [2, 3, 4, 5, 6, 7, 9, 10, 11]
    reasons = {each["row"]: each["reason"] for each in aside}
    assert "--column" in reasons[2]
    assert "not JSON" in reasons[3]
    assert "empty" in reasons[5]
    assert "--truncate" in reasons[7]
    result = predict(models, str(file), "--truncate")
    assert {each["row"] for each in records(result.stdout)} == {1, 7, 8}
    assert {each["row"] for each in records(result.stderr)} == set(reasons) - {7}


def test_bytes_that_are_not_utf8_spoil_their_row_alone(models: Path) -> None:
    result = predict(models, stdin=b"good\n\xff\xfe bad\nbad\n")
    assert [each["row"] for each in records(result.stdout)] == [1, 3]
    assert records(result.stderr) == [{"file": "-", "row": 2, "reason": "The text is not UTF-8."}]


@pytest.mark.parametrize("reduce", ["none", "summary"])
def test_gates(models: Path, reduce: str) -> None:
    result = predict(models, "--gates", "--reduce", reduce, stdin=b"A great film.\nbad\n")
    first, second = records(result.stdout)
    model = loader("cpu", threads=1, token_limit=4096)(load_bundle(models / "sentiment" / "1"))
    encoded: Encoded = model.encode("A great film.", truncate=False)
    trace = model.engine.trace([encoded.rows])
    assert [token["text"] for token in first["tokens"]] == ["A", "great", "film", "."]
    for layer in first["layers"]:
        forget = trace.gate((layer["layer"], layer["direction"], "forget"), 0)
        shown = layer["gates"]["forget"]
        if reduce == "none":
            np.testing.assert_allclose(shown, forget, atol=6e-5)
        else:
            np.testing.assert_allclose(shown["mean"], forget.mean(axis=1), atol=6e-5)
    parts = first["contributions"]
    np.testing.assert_allclose(np.sum(parts["tokens"], axis=0) + parts["bias"], parts["logits"], atol=1e-3)
    assert len(second["tokens"]) == 1
    (record,) = records(predict(models, "--gates", "--tokens", stdin=b"Ada lived\n", model="ner").stdout)
    assert record["contributions"] is None
    assert "label" in record["tokens"][0]


@pytest.mark.parametrize("beside", ["rejected.jsonl", "run.json"])
@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_a_file_to_score_is_not_written_over(
    models: Path, tmp_path: Path, beside: str, resume: tuple[str, ...]
) -> None:
    file, output = tmp_path / f"out.jsonl.{beside}", tmp_path / "out.jsonl"
    file.write_text('{"text": "bad"}\n')
    result = predict(models, str(file), "--output", str(output), *resume)
    assert result.exit_code == 1
    assert f"{file} is one of the files to score" in " ".join(result.stderr.split())
    assert file.read_text() == '{"text": "bad"}\n'
    assert not output.exists()


def many(tmp_path: Path, rows: int, longest: int = 40) -> tuple[Path, Path]:
    """Two files of rows, every seventh of which is to be set aside."""
    files = tmp_path / "one.txt", tmp_path / "two.txt"
    for part, file in enumerate(files):
        texts = ("" if number % 7 == 6 else "good film " * (number * 13 % longest + part + 1) for number in range(rows))
        file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return files


def test_resume_at_every_byte(models: Path, tmp_path: Path) -> None:
    files = [str(file) for file in many(tmp_path, 9)]
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert predict(models, *files, "--output", str(whole)).exit_code == 3
    lines, aside = whole.read_bytes(), Path(f"{whole}.rejected.jsonl").read_bytes()
    for end in [*range(0, 300, 37), *range(300, len(lines), 797), len(lines)]:
        written = [json.loads(line) for line in lines[:end].splitlines(keepends=True) if line.endswith(b"\n")]
        last = (written[-1]["file"], written[-1]["row"]) if written else ("", 0)
        needed = sum(  # what is set aside is written before the records behind it
            len(line)
            for line in aside.splitlines(keepends=True)
            if written and (json.loads(line)["file"], json.loads(line)["row"]) < last
        )
        for more in (0, 5, len(aside)):
            output.write_bytes(lines[:end])
            Path(f"{output}.run.json").write_bytes(Path(f"{whole}.run.json").read_bytes())
            Path(f"{output}.rejected.jsonl").write_bytes(aside[: needed + more])
            assert predict(models, *files, "--output", str(output), "--resume").exit_code == 3
            assert output.read_bytes() == lines, end
            assert Path(f"{output}.rejected.jsonl").read_bytes() == aside, end


@pytest.mark.parametrize(
    ("form", "killed_by"), [("jsonl", signal.SIGKILL), ("csv", signal.SIGKILL), ("jsonl", signal.SIGTERM)]
)
def test_resume_after_a_kill(models: Path, tmp_path: Path, form: str, killed_by: signal.Signals) -> None:
    """Its last input is standard input, which the killed run waits for: it cannot have come to its end before."""
    files, rest = [*(str(file) for file in many(tmp_path, 1_000, longest=4)), "-"], b"a good film\n" * 5
    whole, output = tmp_path / "whole", tmp_path / "out"
    command = [sys.executable, "-m", "service", "predict", "--models", str(models), "--model", "sentiment"]
    command += ["--to", form, "--quiet", *files]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--output", str(output)], cwd=tmp_path, env=environment, stdin=subprocess.PIPE
    ) as process:
        until(lambda: output.exists() and output.stat().st_size >= 1000, every=0.002)
        assert process.poll() is None
        process.send_signal(killed_by)
        assert process.wait() == -killed_by, "what was not done does not end as if it were"
    killed_at = output.stat().st_size
    assert predict(models, "--to", form, *files, "--output", str(whole), stdin=rest).exit_code == 3
    assert 0 < killed_at < whole.stat().st_size
    assert predict(models, "--to", form, *files, "--output", str(output), "--resume", stdin=rest).exit_code == 3
    assert output.read_bytes() == whole.read_bytes()
    assert Path(f"{output}.rejected.jsonl").read_bytes() == Path(f"{whole}.rejected.jsonl").read_bytes()


def test_only_the_same_run_goes_on(models: Path, tmp_path: Path) -> None:
    file, output = tmp_path / "a.txt", tmp_path / "out.jsonl"
    file.write_text("good\n")
    assert predict(models, str(file), "--output", str(output)).exit_code == 0
    again = predict(models, str(file), "--output", str(output))
    assert (again.exit_code, "--resume" in again.stderr) == (1, True)
    other = predict(models, str(file), "--output", str(output), "--resume", "--truncate")
    assert (other.exit_code, "truncate differed" in other.stderr) == (1, True)
    other = predict(models, str(file), "--output", str(output), "--resume", "--format", "jsonl")
    assert (other.exit_code, "another run: format differed" in other.stderr) == (1, True)
    output.write_text("something else\n")
    assert predict(models, str(file), "--output", str(output), "--resume").exit_code == 1
    assert output.read_text() == "something else\n"


@pytest.mark.parametrize("after", [b"good\nbad\nmore\n", b"good\nfun\n", b"good\n"], ids=["grew", "rewritten", "cut"])
def test_a_run_goes_on_with_files_that_are_as_they_were(models: Path, tmp_path: Path, after: bytes) -> None:
    files, output = [tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "out.jsonl"
    for file in files:
        file.write_bytes(b"good\nbad\n")
    arguments = [*map(str, files), "--output", str(output)]
    assert predict(models, *arguments).exit_code == 0
    written = output.read_bytes()
    os.utime(files[0], (0, 0))
    assert predict(models, *arguments, "--resume").exit_code == 0
    files[1].write_bytes(after)
    refused = predict(models, *arguments, "--resume")
    assert refused.exit_code == 1
    assert f"cannot go on: {files[1]} changed" in refused.stderr
    assert output.read_bytes() == written


@pytest.mark.parametrize("note", [None, b'{"model":'], ids=["missing", "damaged"])
def test_an_output_goes_on_only_with_the_note_of_its_run(models: Path, tmp_path: Path, note: bytes | None) -> None:
    file, output, beside = tmp_path / "a.txt", tmp_path / "out.jsonl", tmp_path / "out.jsonl.run.json"
    file.write_text("good\n")
    assert predict(models, str(file), "--output", str(output)).exit_code == 0
    beside.unlink() if note is None else beside.write_bytes(note)
    refused = predict(models, str(file), "--output", str(output), "--resume")
    assert refused.exit_code == 1
    assert "out.jsonl.run.json, which describes its run, is missing" in refused.stderr
    assert "differed" not in refused.stderr


def test_a_run_goes_on_with_another_card_and_not_with_other_weights(models: Path, tmp_path: Path) -> None:
    file, output, mine = tmp_path / "a.txt", tmp_path / "out.jsonl", tmp_path / "models"
    shutil.copytree(models, mine)
    file.write_text("good\n")
    assert predict(mine, str(file), "--output", str(output)).exit_code == 0
    found = load_bundle(mine / "sentiment" / "1")
    replace_manifest(found, found.manifest, {CARD: b"# Another card\n"})
    assert predict(mine, str(file), "--output", str(output), "--resume").exit_code == 0
    shutil.rmtree(mine / "sentiment")
    tiny_bundle(mine / "sentiment", seed=8)
    other = predict(mine, str(file), "--output", str(output), "--resume")
    assert (other.exit_code, "weights differed" in other.stderr) == (1, True)


def test_standard_input_goes_on(models: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert predict(models, "--output", str(output), stdin=b"good\nbad\n").exit_code == 0
    whole = output.read_bytes()
    output.write_bytes(whole.splitlines(keepends=True)[0])
    assert predict(models, "--output", str(output), "--resume", stdin=b"good\nbad\n").exit_code == 0
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("nowhere.txt",), 1, "no such file"),
        (("a.bin",), 1, "--format"),
        (("--resume",), 2, "--output"),
        (("--gates", "--to", "csv"), 2, "CSV"),
        (("--reduce", "summary"), 2, "--gates"),
        (("a.txt", "a.txt"), 2, "twice"),
        (("table.csv",), 1, "it has a, b"),
        (("broken.csv",), 1, "row 1 is not CSV"),
        (("empty.tsv",), 1, "the file is empty"),
        (("cut.txt.gz",), 1, "cut.txt.gz"),
        (("spoilt.txt.gz",), 1, "error: spoilt.txt.gz"),
        (("folder",), 1, "is a folder"),
        (("folder", "--format", "csv"), 1, "is a folder"),
        (("nowhere",), 1, "no such file"),
        (("--model", "nothing", "a.txt"), 1, "ner, sentiment"),
    ],
)
def test_errors_are_one_line(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("good\n")
    Path("a.bin").write_text("good\n")
    Path("table.csv").write_text("a,b\n1,2\n")
    Path("broken.csv").write_text('text\n"open\n')
    Path("empty.tsv").write_text("")
    zipped = gzip.compress(b"good\n" * 100)
    Path("cut.txt.gz").write_bytes(zipped[:-10])
    Path("spoilt.txt.gz").write_bytes(zipped[:10] + b"\xff" * 8 + zipped[18:])
    Path("folder").mkdir()
    result = predict(models, *arguments)
    assert result.exit_code == status, result.output
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_where(models: Path) -> None:
    arguments = ["--debug", "predict", "--models", str(models), "--model", "nothing", "a.txt"]
    assert "Traceback" in CliRunner().invoke(main, arguments).stderr


def test_models(models: Path, tmp_path: Path) -> None:
    result = invoke(models, "models")
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["ner/1", "ok"], ["sentiment/1", "ok"]]
    assert records(invoke(models, "models", "--json").stdout)[1]["labels"] == ["negative", "positive"]
    broken = tmp_path / "models"
    shutil.copytree(models, broken)
    with (broken / "ner" / "1" / "trace.onnx").open("ab") as file:
        file.write(b"x")
    result = invoke(broken, "models")
    assert result.exit_code == 3
    assert "trace.onnx does not match" in result.stdout
    assert invoke(tmp_path / "nowhere", "models").exit_code == 1
    shutil.copytree(models / "sentiment" / "1", tmp_path / "other" / "sentiment" / "01")
    assert "VERSION is a whole number from 1, without leading zeros" in invoke(tmp_path / "other", "models").stderr


def test_models_names_a_folder_that_cannot_be_read_and_lists_the_others(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterdir = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "ner":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    result = invoke(models, "models")
    assert result.exit_code == 3
    refused, other = result.stdout.splitlines()
    assert refused.split(maxsplit=2) == ["ner", "REFUSED", "its folder cannot be read: Permission denied"]
    assert other.split()[:2] == ["sentiment/1", "ok"]
    assert records(invoke(models, "models", "--json").stdout)[0] == {
        "name": "ner",
        "version": "",
        "ok": False,
        "reason": "its folder cannot be read: Permission denied",
    }
    assert "ner cannot be read: Permission denied" in invoke(models, "check", "ner").stderr


NETWORKS: dict[str, Options] = {
    "lstm": {"layers": 2},
    "gru, last": {"cell": "gru", "head": "last", "layers": 2},
    "gru, reset before": {"cell": "gru-before", "head": "mean", "bidirectional": False},
    "rnn": {"cell": "rnn"},
    "peephole": {"cell": "peephole", "head": "last"},
    "attention": {"head": "attention"},
    "8-bit words": {"word_bits": 8},
    "4-bit words": {"word_bits": 4},
    "characters, cnn": {"task": "ner", "characters": "cnn", "crf": True, "word_bits": 4},
    "characters, lstm": {"task": "ner", "characters": "lstm"},
}


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_check(tmp_path: Path, options: Options) -> None:
    _holds(tiny_bundle(tmp_path / "m", **options), 3 if options.get("bidirectional", True) else 5)


def test_check_follows_integers(tmp_path: Path) -> None:
    shape = architecture(layers=2)
    folder = tmp_path / "m"
    _holds(export(network(shape), tokenizer(shape), ORIGIN, "none", folder, lambda _: [], precision="int8"))


def test_check_follows_the_steps_of_streams(tmp_path: Path) -> None:
    _holds(tiny_bundle(tmp_path / "m", bidirectional=False, layers=2), 5)
    shape = architecture(bidirectional=False)
    folder = tmp_path / "int8" / "m"  # its traced gates are not rounded, those of its steps are
    _holds(export(network(shape), tokenizer(shape), ORIGIN, "none", folder, lambda _: [], precision="int8"), 4)


def test_check_sees_a_wrong_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_bundle(tmp_path / "m", bidirectional=False)
    spoilt.steps(monkeypatch, spoilt.add(3e-5))  # so little that it is loaded
    result = invoke(tmp_path, "check", "m")
    assert result.exit_code == 3
    assert "FAIL  gates token by token, and of trace.onnx" in result.stdout
    spoilt.steps(monkeypatch, spoilt.add(1e-2))
    result = invoke(tmp_path, "check", "m")
    assert result.exit_code == 3
    assert "FAIL  m/1: token by token, as streams are read, the answer is not that of trace.onnx" in result.stdout


def _holds(bundle: Bundle, checks: int = 3) -> None:
    result = invoke(bundle.path.parents[1], "check", "m", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["not_checked"] is None
    assert len(facts["checks"]) == checks
    for each in facts["checks"]:
        assert 0 < each["found"] < each["limit"]


def test_check_sees_a_wrong_weight(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(models, "check", "ner/1").exit_code == 0
    real: Callable[[memoryview], dict[str, Any]] = arrays

    def altered(content: memoryview) -> Any:
        weights = real(content)
        weights["recurrent.0.R"] = weights["recurrent.0.R"] + np.float32(0.01)
        return weights

    monkeypatch.setattr(reference, "arrays", altered)
    result = invoke(models, "check", "ner")
    assert result.exit_code == 3
    assert "FAIL  gates and their equations" in result.stdout


def test_check_of_a_damaged_bundle_says_what_is_wrong(tmp_path: Path) -> None:
    made = tiny_bundle(tmp_path / "m")
    with (made.path / "tokenizer.json").open("ab") as file:
        file.write(b" ")
    result = invoke(tmp_path, "check", "m")
    assert result.exit_code == 3
    assert result.stdout.startswith(f"FAIL  m/{made.version}: tokenizer.json does not match the manifest")
    facts = json.loads(invoke(tmp_path, "check", "m", "--json").stdout)
    assert (facts["name"], facts["ok"]) == ("m", False)
    assert "tokenizer.json" in facts["reason"]


def test_check_says_what_it_cannot_follow(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[memoryview], dict[str, Any]] = arrays
    monkeypatch.setattr(reference, "arrays", lambda content: {**real(content), "extra.weight": np.zeros(1, np.float32)})
    result = invoke(models, "check", "ner")
    assert result.exit_code == 0
    assert "not checked, the network has parts" in result.stdout


PARTS: list[tuple[Options, str, str]] = [
    ({"head": "attention"}, "head.query", "logits and the traced states"),
    ({"word_bits": 8}, "embedding.word.scale", "gates and their equations"),
    ({"word_bits": 4}, "embedding.word.fine", "gates and their equations"),
    ({"task": "ner", "characters": "cnn"}, "character.bias", "gates and their equations"),
    ({"task": "ner", "characters": "lstm"}, "character.B", "gates and their equations"),
]


@pytest.mark.parametrize(("options", "weight", "what"), PARTS, ids=[weight for _, weight, _ in PARTS])
def test_check_sees_a_wrong_number_in_every_part(
    tmp_path: Path, options: Options, weight: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bundle(tmp_path / "m", **options)
    real: Callable[[memoryview], dict[str, Any]] = arrays

    def altered(content: memoryview) -> Any:
        weights = real(content)
        assert weights[weight].any()
        weights[weight] = weights[weight] // 2 if weights[weight].dtype == np.uint8 else weights[weight] + 0.05
        return weights

    monkeypatch.setattr(reference, "arrays", altered)
    result = invoke(tmp_path, "check", "m")
    assert result.exit_code == 3
    assert f"FAIL  {what}" in result.stdout


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file .env in the current folder, still empty, and no variables of the service."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    (tmp_path / ".env").touch()
    return tmp_path / ".env"


@pytest.mark.parametrize(
    "command", [["models"], ["check", "sentiment"], ["predict", "--model", "sentiment", "a.txt", "--quiet"]]
)
def test_a_folder_of_models_is_named_by_flag_then_variable_then_file(
    models: Path, env_file: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    Path("a.txt").write_text("good\n")
    assert CliRunner().invoke(main, command).exit_code == 1
    env_file.write_text(f"SERVICE_MODELS={models}\nUNRELATED=1\n")
    assert CliRunner().invoke(main, command).exit_code == 0
    assert not {"SERVICE_MODELS", "UNRELATED"} & set(os.environ)
    monkeypatch.setenv("SERVICE_MODELS", "nowhere")
    assert CliRunner().invoke(main, command).exit_code == 1
    assert CliRunner().invoke(main, [*command, "--models", str(models)]).exit_code == 0


@pytest.mark.usefixtures("env_file")
def test_settings_of_predict(models: Path, env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[ScoringRun] = []
    monkeypatch.setattr("service.scoring.batch.run", runs.append)
    predict(models)
    env_file.write_text("SERVICE_THREADS=3\nSERVICE_PROVIDER=cpu\n")
    predict(models)
    monkeypatch.setenv("SERVICE_THREADS", "4")
    predict(models)
    predict(models, "--threads", "5")
    found = [(each.threads, each.provider) for each in runs]
    assert found == [(0, "auto"), (3, "cpu"), (4, "cpu"), (5, "cpu")]


@pytest.mark.parametrize(
    ("content", "words"), [(b"SERVICE_THREADS=many\n", "many"), (b"SERVICE_THREADS=\xff\n", ".env: not UTF-8")]
)
def test_a_wrong_line_of_the_file(models: Path, env_file: Path, content: bytes, words: str) -> None:
    env_file.write_bytes(content)
    result = predict(models)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_completion() -> None:
    for shell in ("bash", "zsh", "fish"):
        script = CliRunner().invoke(main, ["completion", shell]).stdout
        assert "_GATELIGHT_COMPLETE" in script


@pytest.mark.parametrize(
    ("line", "completed"), [("gatelight pre", ["predict"]), ("gatelight check senti", ["sentiment"])]
)
def test_bash_completes(models: Path, line: str, completed: list[str]) -> None:
    program = models.parent / "gatelight"
    program.write_text(f"#!{sys.executable}\nfrom service.script import gatelight\ngatelight()\n", encoding="utf-8")
    program.chmod(0o755)
    words = line.split()
    script = f"""
        eval "$(gatelight completion bash)"
        COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}
        _gatelight_completion gatelight {words[-1]}
        echo "${{COMPREPLY[@]}}"
    """
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "SERVICE_MODELS": str(models)}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=models.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == completed


def completed(words: str, incomplete: str = "") -> list[tuple[str, str]]:
    """What a shell would be given behind some words: values, and what they are."""
    found = ShellComplete(main, {}, "gatelight", "_X").get_completions(words.split(), incomplete)
    return [(item.type, item.value) for item in found]


def test_files_and_choices_are_completed(models: Path, env_file: Path) -> None:
    assert completed("predict --model sentiment", "re") == [("file", "re")]
    assert completed("predict --output", "out") == [("file", "out")]
    assert completed("serve --models", "mo") == completed("predict --models", "mo") == [("dir", "mo")]
    assert completed("serve --tls-key", "k") == completed("serve --api-keys-file", "k") == [("file", "k")]
    for name, field in Settings.model_fields.items():
        if words := choices(field):
            flag = "--" + name.replace("_", "-")
            assert completed(f"serve {flag}") == [("plain", word) for word in words]
    env_file.write_text(f"SERVICE_MODELS={models}\n")
    assert completed("check", "se") == [("plain", "sentiment")]


@pytest.mark.usefixtures("env_file")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("a wheel came off"), "error: RuntimeError: a wheel came off (--debug shows where)"),
        (StartupError("no wheels"), "cannot start: no wheels"),
    ],
)
def test_a_service_that_cannot_start_says_so_and_with_debug_where(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def broken(settings: Settings) -> int:
        raise error

    monkeypatch.setattr(start, "serve", broken)
    quiet = CliRunner().invoke(main, ["serve"])
    assert (quiet.exit_code, len(quiet.output.splitlines())) == (1, 1)
    assert words in quiet.output
    shown = CliRunner().invoke(main, ["--debug", "serve"])
    assert (shown.exit_code, "Traceback" in shown.output) == (1, True)


def test_every_command_helps() -> None:
    listing = CliRunner().invoke(main, ["--help"]).stdout
    for name, command in main.commands.items():
        assert name in listing
        shown = CliRunner().invoke(main, [name, "--help"])
        assert shown.exit_code == 0
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert len((getattr(parameter, "help", None) or "").split()) > 2, (name, parameter.name)


def test_batches_hold_rows_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 500).tolist()
    found = list(batches(lengths, 8, 1024))
    assert sorted(place for batch in found for place in batch) == list(range(500))
    for batch in found:
        rows = [lengths[place] for place in batch]
        assert len(rows) == 1 or (len(rows) <= 8 and max(rows) * len(rows) <= 1024 and min(rows) >= LIKE * max(rows))


@pytest.mark.parametrize("zipped", [False, True])
def test_progress_counts_the_rows_that_are_done(tmp_path: Path, zipped: bool) -> None:
    """Not those that were read ahead: a whole file may fit into a buffer."""
    generator = np.random.default_rng(0)
    text = "".join(f"good film {number}\n" for number in generator.integers(0, 10**12, 100_000)).encode()
    file = tmp_path / ("a.txt.gz" if zipped else "a.txt")
    file.write_bytes(gzip.compress(text) if zipped else text)
    source = Source(str(file), None, "text")
    rows = list(source.rows())
    assert all(before.position <= after.position for before, after in pairwise(rows))
    shown = io.StringIO()
    progress = Progress({source.name: source.size}, quiet=False, stream=shown)
    for done, share in ((25_000, 25), (50_000, 50)):
        progress.add(25_000, 25_000, rows[done - 1])
        line = progress.line(time.monotonic() + 10)
        assert line.startswith(f"{done:,} rows, ")
        assert share <= int(line.split(" %")[0].rpartition(" ")[2]) <= share + 2, line
        assert line.endswith(" left")
    progress.finish(3)
    assert shown.getvalue().endswith(", 3 set aside\n")


def test_the_time_left_of_a_resumed_run_is_that_of_its_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: 100.0)  # it stands
    monkeypatch.setattr("service.scoring.progress.time", clock)
    sizes: dict[str, int | None] = {"done": 500_000, "half": 500_000, "next": 500_000}
    progress = Progress(sizes, quiet=True)
    assert " left" not in progress.line(100.0), "nothing has been read yet that would tell"
    clock.monotonic = lambda: 200.0
    progress.passed(Row("half", 50_000, "good", position=250_000))
    assert " left" not in progress.line(200.0)
    progress.add(25_000, 25_000, Row("half", 75_000, "good", position=375_000))
    # 125,000 rows are left, at 2,500 a second.
    assert progress.line(210.0) == "25,000 rows, 2,500 rows/s, 2,500 tokens/s, 58 %, 0:00:50 left"


def test_a_stream_has_no_share_and_no_time_left() -> None:
    progress = Progress({"-": None}, quiet=True)
    progress.add(10, 10, Row("-", 10, "good"))
    assert progress.line(time.monotonic() + 1).endswith("tokens/s")


def test_the_first_answers_are_written_before_the_input_ends(models: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "predict", "--models", str(models), "--model", "sentiment", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"good film\n" * 100)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["row"] == 1
        process.stdin.close()
        assert sum(1 for _ in process.stdout) == 99


def test_windows_grow_and_hold_every_row() -> None:
    rows = [Row("a", number, "good") for number in range(1, 10_001)]
    windows = list(cut(rows))
    assert [len(window) for window in windows] == [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 1824]
    assert [row for window in windows for row in window] == rows


def test_a_resumed_run_scores_the_same_batches(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row's digits may depend, in the eighth place, on the batch that it runs in."""
    seen: list[list[int]] = []
    plain = Engine.predict

    def spied(engine: Engine, rows: Any) -> Any:
        if threading.current_thread().name.startswith("score"):  # not the warm-up
            seen.append(sorted(len(each) for each in rows))
        return plain(engine, rows)

    monkeypatch.setattr(Engine, "predict", spied)
    file, output = tmp_path / "a.txt", tmp_path / "out.jsonl"
    file.write_text("".join("good " * (number * 7 % 23 + 1) + "\n" for number in range(300)))
    arguments = [str(file), "--output", str(output), "--threads", "1"]
    assert predict(models, *arguments).exit_code == 0
    whole, batches_of_all = output.read_bytes(), list(seen)
    for written in (1, 16, 17, 111, 112, 299):
        output.write_bytes(b"".join(whole.splitlines(keepends=True)[:written]))
        seen.clear()
        assert predict(models, *arguments, "--resume").exit_code == 0
        assert output.read_bytes() == whole
        assert seen == batches_of_all[-len(seen) :], written


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_columns_are_kept(models: Path, tmp_path: Path, name: str, form: str) -> None:
    file, output = tmp_path / name, tmp_path / "out"
    rows = [{"id": "a,1", "text": "good", "n": "7"}, {"id": "b", "text": "", "n": "8"}]
    if name.endswith("jsonl"):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith("tsv"):
        file.write_text("id\ttext\tn\n" + "".join("\t".join(row.values()) + "\n" for row in rows))
    else:
        file.write_text("id,text,n\n" + "".join(",".join(f'"{cell}"' for cell in row.values()) + "\n" for row in rows))
    found = predict(models, str(file), "--keep", "n", "--keep", "id", "--output", str(output), "--to", form)
    assert found.exit_code == 3
    if form == "csv":
        (record,) = csv.DictReader(io.StringIO(output.read_text()))
        assert list(record)[:4] == ["file", "row", "n", "id"]
        assert (record["n"], record["id"]) == ("7", "a,1")
    else:
        assert json.loads(output.read_text())["kept"] == {"n": "7", "id": "a,1"}
    assert json.loads(Path(f"{output}.rejected.jsonl").read_text())["kept"] == {"n": "8", "id": "b"}
    again = predict(models, str(file), "--keep", "n", "--output", str(output), "--to", form, "--resume")
    assert "keep differed" in again.stderr


def test_kept_fields_may_be_missing_or_of_any_kind(models: Path) -> None:
    lines = b'{"text": "good", "id": {"a": [1]}}\n{"text": "bad"}\n"film"\nno JSON\n\n{"text":"a","id":true}\n'
    found = predict(models, "--format", "jsonl", "--keep", "id", stdin=lines)
    assert [record["kept"]["id"] for record in records(found.stdout)] == [{"a": [1]}, None, None, True]
    assert (found.exit_code, found.stderr.count('"kept":{"id":null},"reason":"The line is not JSON."')) == (3, 2)
    table = predict(models, "--format", "jsonl", "--keep", "id", "--to", "csv", stdin=lines)
    assert [record["id"] for record in csv.DictReader(io.StringIO(table.stdout))] == ['{"a":[1]}', "", "", "true"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize(("kind", "mark"), [("csv", b","), ("tsv", b"\t")])
def test_a_kept_field_that_is_not_utf_8_sets_its_row_aside(models: Path, kind: str, mark: bytes, form: str) -> None:
    rows = [
        b"id" + mark + b"text",
        b"caf\xe9" + mark + b"good",
        b"caf\xc3\xa9" + mark + b"good",
        b"\xff" + mark + b"\xff",
    ]
    found = predict(models, "--format", kind, "--keep", "id", "--to", form, stdin=b"\n".join(rows))
    assert found.exit_code == 3
    assert found.stdout.count("café") == 1
    aside = [json.loads(line) for line in found.stderr.splitlines() if line.startswith("{")]
    assert [(each["row"], each["kept"]["id"]) for each in aside] == [(1, "caf\ufffd"), (3, "\ufffd")]
    assert "'id' (--keep) is not UTF-8" in aside[0]["reason"]


def test_a_file_whose_name_is_not_utf_8_is_refused(models: Path, tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9.txt")
    file.write_text("good\n")
    found = predict(models, str(file))
    assert found.exit_code == 1
    assert "name is not UTF-8" in found.stderr


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("id,text\n1,good\n", ("--keep", "name"), "there is no column 'name'; it has id, text. Choose with --keep"),
        ("id,id,text\n1,2,good\n", ("--keep", "id"), "2 columns are named 'id'; rename one"),
        ("text,text\ngood,bad\n", (), "2 columns are named 'text'; rename one"),
        ("label,text\n1,good\n", ("--keep", "label", "--to", "csv"), "has a column label already"),
        ("id,text\n1,good\n", ("--keep", "id", "--keep", "id"), "names a column twice"),
        ("good\n", ("--format", "text", "--keep", "id"), "text lines have no columns to --keep"),
    ],
)
def test_columns_that_cannot_be_kept_or_read(
    models: Path, tmp_path: Path, content: str, arguments: Sequence[str], words: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(content)
    found = predict(models, str(file), *arguments)
    assert found.exit_code in (1, 2)
    assert words in found.stderr


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.tsv.gz"])
def test_utf16_is_named(models: Path, tmp_path: Path, coding: str, name: str) -> None:
    file, content = tmp_path / name, "text\ngood film\n".encode(coding)
    file.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    found = predict(models, str(file))
    assert found.exit_code == 1
    assert "it is UTF-16; save it as UTF-8" in found.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_said_in_one_line(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("good\nbad\n")
    command = [sys.executable, "-m", "service", "predict", "--models", str(models), "--model", "sentiment", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Path("/dev/full").open("wb") as full:
        found = subprocess.run(command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, check=False)
    assert found.returncode == 1
    assert b"error: standard output: No space left on device" in found.stderr


@pytest.mark.parametrize("command", [["models"], ["check", "sentiment"]], ids=" ".join)
def test_output_that_cannot_be_written_is_a_failure(models: Path, tmp_path: Path, command: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SERVICE_MODELS": str(models)}
    words = [sys.executable, "-m", "service", *command]
    with Path("/dev/full").open("wb") as full:
        found = subprocess.run(words, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, check=False)
    assert found.returncode == 1
    assert b"No space left on device" in found.stderr


def test_a_disk_that_fills_up_leaves_a_run_that_goes_on(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, output, whole = tmp_path / "a.txt", tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    file.write_text("good film\n" * 200)
    assert predict(models, str(file), "--output", str(whole)).exit_code == 0

    class Full:
        """A file on a disk with room for 3,000 bytes more."""

        def __init__(self, file: Any) -> None:
            self.file, self.room, self.name = file, 3000, file.name

        def write(self, content: memoryview) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken = self.file.write(content[: self.room])
            self.room -= taken
            return int(taken)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    plain = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        found = plain(path, mode, *rest, **options)
        return Full(found) if mode == "ab" and path == output else found

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", opened)
        found = predict(models, str(file), "--output", str(output))
    assert found.exit_code == 1
    assert "No space left on device. Mend that and go on with --resume." in found.stderr
    assert output.stat().st_size == 3000
    assert predict(models, str(file), "--output", str(output), "--resume").exit_code == 0
    assert output.read_bytes() == whole.read_bytes()


def test_a_resumed_run_says_what_it_did_itself(models: Path, tmp_path: Path) -> None:
    file, output = tmp_path / "a.txt", tmp_path / "out.jsonl"
    file.write_text("good\n\nbad\n\nfilm\n")
    arguments = ["predict", "--model", "sentiment", str(file), "--output", str(output)]
    assert "\n5 rows in " in "\n" + invoke(models, *arguments).stderr
    output.write_bytes(b"".join(output.read_bytes().splitlines(keepends=True)[:2]))
    resumed = invoke(models, *arguments, "--resume")
    assert resumed.exit_code == 3
    assert resumed.stderr.startswith("2 rows in ")
    assert resumed.stderr.endswith(" rows/s), 1 set aside (1 more before it was resumed)\n")
