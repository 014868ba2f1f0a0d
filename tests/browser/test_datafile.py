"""Data files in the page: their inputs are those that training reads; a file that cannot be read is told in words."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.model.bundle import Task
from tests.browser.conftest import Visit, Visiting
from tests.integration.conftest import Process
from training.data.corpora import read

READ = """async ([bytes, name, task]) => {
  const { open, inputsOf } = await import("./page/datafile.js");
  const found = await open(new File([Uint8Array.from(bytes)], name));
  return [found.sha256, inputsOf(found, task)];
}"""

GOOD: dict[str, tuple[Task, str]] = {
    "plain.tsv": ("sentiment", 'text\tlabel\nA "good" film\tpos\n\nIt is bad\tneg\n'),
    "ends.tsv": ("sentiment", "label\ttext\r\npos\tgood \r\nneg\tbad, 日本 😀\r\n"),
    "mac.tsv": ("sentiment", "text\tlabel\rgood\tpos\rbad\tneg\r"),
    "bom.tsv": ("sentiment", "\ufefftext\tlabel\ngood\tpos\n"),
    "other.txt.tsv": ("sentiment", "id\tReview Text\tstars\n1\tgood\t5\n2\tbad\t1\n"),
    "quoted.csv": ("sentiment", 'label,text\npos,"two\nlines, ""quoted"""\nneg,bad\n\npos,good\n'),
    "ends.csv": ("sentiment", 'text,label\r\n"a\r\nb",pos\r\nbad,neg'),
    "mac.csv": ("sentiment", 'text,label\r"good, really",pos\rbad,neg\r'),
    "semicolons.csv": ("sentiment", "text;label\ngood, really;pos\nbad;neg\n"),
    "bars.csv": ("sentiment", "text|label\ngood, really|pos\n"),
    "texts.jsonl": ("sentiment", '{"text": "go\\u00f6d", "label": 1}\n\n{"label": 0, "text": "bad"}\n'),
    "named.ndjson": ("sentiment", '{"sentence": "good", "label": "a"}\n'),
    "tags.conll": ("ner", "Ada\tB-PER\nlived\tO\n\n\nParis\tB-LOC\n"),
    "spaces.txt": ("ner", "-DOCSTART- -X- O O\n\nAda NNP B-NP B-PER\nlived VBD B-VP O\n\nParis NNP B-NP B-LOC\n"),
    "documents.conll": (
        "ner",
        "-DOCSTART-\nAda O B-PER\n-DOCSTART- -X- O\n-DOCSTART- O O\nlived O O\n-DOCSTART- O O\n# a note\n"
        "-DOCSTART- B-NP O\n\n-DOCSTART- B-NP O\n\n-DOCSTART- O O\n-DOCSTART- x y\nParis O B-LOC\n",
    ),
    "counted.conll": ("ner", "# sent_id = 1\n1-2\tdon't\t_\tO\n1\tdo\t_\tO\n2\tn't\t_\tO\n3\tAda\t_\tB-PER\n"),
    "named.tsv": ("ner", "word\tner\nAda\tB-PER\nlived\tO\n"),
    "hash.conll": ("ner", "#\tO\nAda\tB-PER\n#ada\tO\n\n# newdoc id = 4\nParis\tB-LOC\n"),
    "tokens.jsonl": ("ner", '{"tokens": ["Ada", "lived"], "tags": ["B-PER", "O"]}\n'),
}


@pytest.fixture(scope="module")
def page(browser: Any, service: Process) -> Iterator[Any]:
    """The page, open for all tests that read files in it."""
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(f"{service.url}/")
    yield opened
    context.close()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", GOOD)
def test_inputs_and_lines_are_those_that_training_reads(page: Any, tmp_path: Path, name: str, packed: bool) -> None:
    task, text = GOOD[name]
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    sha256, inputs = page.evaluate(READ, [list(path.read_bytes()), path.name, task])
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    wanted = []
    for each in read(path, task):
        value = each.value if isinstance(each.value, str) else list(each.value)
        lines = list(each.lines) if isinstance(value, str) or len(each.lines) > 1 else list(each.lines) * len(value)
        wanted.append({"value": value, "lines": lines})
    assert inputs == wanted


BAD = {
    "utf16.tsv": ("text\tlabel\ngood\tpos\n".encode("utf-16-le"), "The file is not text, or not in UTF-8"),
    "latin.tsv": ("text\tlabel\nschön\tpos\n".encode("latin-1"), "The file is not text in UTF-8."),
    "empty.tsv": (b"", "The file holds no input."),
    "header.tsv": (b"text\tlabel\n", "The file holds no input."),
    "nothing.tsv": (b"a\tb\n1\t2\n", "No column or key is surely the text: there are a, b."),
    "several.csv": (b"review,comment\n1,2\n", "No column or key is surely the text: there are review, comment."),
    "quote.csv": (b'text,label\n"good,pos\n', "Line 2: a quoted field does not end."),
    "short.gz": (gzip.compress(b"text\tlabel\ngood\tpos\n")[:-9], "The file is no whole gzip file."),
    "none.tsv.gz": (b"text\tlabel\n", "The file is no whole gzip file."),
    "bomb.tsv.gz": (gzip.compress(bytes((64 << 20) + 1), 1), "this page reads files of at most 64."),
    "broken.jsonl": (b'{"text": "good"}\n{"text"\n', "Line 2 is not JSON."),
    "null.jsonl": (b"null\n", "Line 1 is no JSON object."),
    "list.jsonl": (b'["good"]\n', "Line 1 is no JSON object."),
    "number.jsonl": (b'{"text": "good"}\n{"text": 3}\n', "Line 2 has no text"),
    "half.jsonl": (b'{"text": "\\ud800"}\n', "Line 1 has no text"),
    "picture.png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "The file is not text"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_read_is_told_in_words(page: Any, name: str) -> None:
    content, reason = BAD[name]
    packed = len(content) > 100_000  # evaluate takes numbers one by one
    data = list(gzip.compress(content) if packed else content)
    told = page.evaluate(
        """async ([bytes, name, packed]) => {
          const { DataFileError, open, inputsOf } = await import("./page/datafile.js");
          let content = new Blob([Uint8Array.from(bytes)]);
          const unpacked = () => content.stream().pipeThrough(new DecompressionStream("gzip"));
          if (packed) content = await new Response(unpacked()).blob();
          try {
            inputsOf(await open(new File([content], name)), "sentiment");
          } catch (error) {
            return [error instanceof DataFileError, error.message];
          }
        }""",
        [data, name, packed],
    )
    assert told[0], told
    assert reason in told[1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("Ada\nlived\n", "No tag beside each token"), ("\n\n", "The file holds no input.")],
)
def test_columns_that_cannot_be_read_are_told_in_words(page: Any, content: str, reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        page.evaluate(READ, [list(content.encode()), "tags.conll", "ner"])
    with pytest.raises(Exception, match="CSV cannot be read here"):
        page.evaluate(READ, [list(b"a,b\n"), "tags.csv", "ner"])


def test_after_a_bad_file_a_good_one_is_taken(visiting: Visiting, service: Process, tmp_path: Path) -> None:
    visit: Visit = visiting(service)
    page = visit.open("#model=sentiment-lstm&text=good&unit=2&token=0&direction=forward&gate=forget")
    for name, (content, reason) in list(BAD.items())[:4]:
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#data-file", tmp_path / name)
        page.wait_for_selector(f"#file-notice:has-text('{reason}')")
        page.click("#find")
        assert page.locator("[data-distance]").count() == 0
    good = tmp_path / "good.jsonl"
    good.write_text(json.dumps({"text": "good"}) + "\n", "utf-8")
    page.set_input_files("#data-file", good)
    page.wait_for_selector("#file-notice", state="hidden")
    page.click("#find")
    page.wait_for_selector("[data-distance='0.0000']")
