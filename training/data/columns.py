"""Sentences in columns, one token in each row: find the rows and the columns of the tokens and the tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median

from training.data import tags
from training.data.delimited import SEPARATORS, header, records
from training.data.sources import Example, Source, few, is_number, points, position, some, unfit

_DOCUMENT = "-DOCSTART-"
"""The mark of a new document in CoNLL-2003 and its followers: ``-DOCSTART- -X- -X- O``."""
_BLANK = re.compile(r"[ \t]*")
_SPACES = re.compile(" +")
_LANGUAGE = re.compile("[a-z]{2,3}:")
"""Stands before every token in some corpora, such as WikiANN's ``en:Ada``."""
_SEVERAL = 10
"""Tokens of a file with such a prefix; fewer may have one by chance."""
_SPACED = re.compile(r"\S+(?: +\S+)+")
_KEYED = re.compile(r"#\s*\w[\w.-]* = |#(?:begin|end) document\b")
_COUNT = re.compile(r"[0-9]+(?:[-.][0-9]+)?")
"""A token's number; ``1-2`` stands before the words of a contraction in CoNLL-U, ``1.1`` for a word left out."""
_WORD_NAMES = frozenset(("token", "tokens", "word", "words", "form"))
_TAG_NAMES = frozenset(("tag", "tags", "ner", "ner_tag", "ner_tags", "label", "labels", "iob", "bio", "entity"))
_SENTENCE_NAME = re.compile(r"sent(?:ence)?[ _-]*(?:#|id|idx|index|no|nr|num|number)?", re.IGNORECASE)
_LONG, _TOO_LONG = 100, 1000
"""If a file's only sentence has more tokens than this, notes and errors say that blank lines are missing."""
_PAGE = 512
"""Tokens above which one of several sentences is named in a note."""

EXPECTED = "a line is a token and its tag"


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    fields: list[str]


_Rows = list[_Row | None]
"""None for a row between sentences."""


def columns(source: Source) -> Iterator[Example]:
    """Columns parted by tabs or else by spaces, sentences by blank lines."""
    lines = [(line, None if _BLANK.fullmatch(row) else row) for line, row in source.lines()]
    rows = [row for _, row in lines if row is not None]
    sample = next((row for row in rows if not row.startswith(("#", _DOCUMENT))), next(iter(rows), ""))
    tab = "\t" in sample

    def split(row: str) -> list[str]:
        return row.split("\t") if tab else _SPACES.split(row.rstrip(" "))

    width = len(split(sample))
    if rows and width < 2:
        line = next(line for line, row in lines if row == sample)
        raise source.error(line, f"no tag beside the token; {EXPECTED}, parted by a tab or by spaces{_unseen(sample)}")
    parted, comments, found = "tabs" if tab else "spaces", [], _Rows()
    for line, row in lines:
        fields = split(row) if row is not None else []
        if row is not None and row.startswith("#") and _is_comment(row, fields, width):
            comments.append(line)
            continue
        if row is not None and len(fields) != width:
            if row.split(maxsplit=1)[:1] == [_DOCUMENT]:
                found.append(None)
                continue
            raise source.error(line, _uneven(row, len(fields), width, parted))
        found.append(_Row(line, fields) if row is not None else None)
    if comments:
        source.note(f"comments are skipped: {len(comments):,} ({some(comments)})")
    return _sentences(source, found, width)


def table(source: Source) -> Iterator[Example]:
    """CSV, a token a row below a header; a column such as ``Sentence #`` or empty rows part the sentences."""
    separator = max(SEPARATORS, key=lambda each: len(header(source, each)))
    rows = _Rows(
        _Row(line, fields) if any(field.strip() for field in fields) else None
        for line, fields in records(source, separator, blank=True)
    )
    width = 0
    for row in rows:
        width = width or len(row.fields if row else ())
        if row and len(row.fields) != width:
            raise source.error(row.line, _uneven("", len(row.fields), width, SEPARATORS[separator]))
    return _sentences(source, rows, width)


def sentences(source: Source, found: Iterable[tuple[int, Sequence[str], Sequence[str]]]) -> Iterator[Example]:
    """Sentences whose tokens and tags are known already: the line, the tokens and the tags of each."""
    rows = _Rows()
    for line, tokens, own in found:
        rows += [*(_Row(line, [token, tag]) for token, tag in zip(tokens, own, strict=True)), None]
    full = [row for row in rows if row]
    _strip(source, full, 0)
    yield from _examples(source, rows, 0, _of_column(source, full, 1))


def _is_comment(row: str, fields: list[str], width: int) -> bool:
    """True for a row that is a comment. A token # or #word with its columns is none."""
    if _KEYED.match(row):
        return True
    fits = len(fields) == width and any(map(tags.is_tag, fields[1:]))
    return not fits and (fields[0] == "#" or row.startswith("# "))


def _uneven(row: str, found: int, width: int, parted: str) -> str:
    if row and found == 1:
        other = "; this line is parted by " + ("spaces" if parted == "tabs" else "tabs")
        mixed = other if (" " if parted == "tabs" else "\t") in row.strip() else ""
        return f"no tag beside the token; {EXPECTED}, here parted by {parted}{mixed or _unseen(row)}"
    hint = "; a token that holds a space needs columns parted by tabs" if parted == "spaces" and found > width else ""
    return f"{found} columns parted by {parted}, but {width} in the lines before{hint or _unseen(row)}"


def _unseen(row: str) -> str:
    """Words on white space that looks like a separator or a blank line, and is none."""
    found = points(char for char in row if char.isspace() and char not in " \t")
    return f"; the line holds {found}, which neither parts columns nor ends a sentence" if found else ""


# The columns, by their names and by their content.


def _sentences(source: Source, rows: _Rows, width: int) -> Iterator[Example]:
    rows = [None if row and _is_mark(row.fields) else row for row in rows]
    names = _header(source, rows)
    if names:
        rows = rows[1 + next(at for at, row in enumerate(rows) if row) :]
    rows = _parted(rows, names)
    full = [row for row in rows if row]
    if not full:
        return
    token = _token_column(source, rows, names, width)
    if len(full) > 9 and all(_SPACED.fullmatch(row.fields[token]) and row.fields[token][0] != "[" for row in full):
        raise source.error(
            full[0].line, "every token holds a space: columns are parted by spaces or by tabs, not by both in one file"
        )
    if "\r" in source.text:
        _check_ends(source, full, token)
    _strip(source, full, token)
    read = _tag_reader(source, full, names, width, token)
    if _counted(full, width):
        if extra := [row.line for row in full if _is_extra(row)]:
            source.note(f"rows that are no tokens, such as 1-2 and 1.1, are skipped: {len(extra):,} ({some(extra)})")
        rows = [row for row in rows if row is None or not _is_extra(row)]
        rows = _numbered(source, rows) if token else rows
    yield from _checked(source, list(_examples(source, _documents(source, rows), token, read)))


def _is_mark(fields: Sequence[str]) -> bool:
    """True for a row that marks a new document and can be no token: without a tag, or with ``-X-`` as in CoNLL-2003."""
    return _DOCUMENT in fields and ("-X-" in fields or not any(map(tags.is_tag, fields)))


def _documents(source: Source, rows: _Rows) -> _Rows:
    """The rows without the marks of documents that have a tag: the first row of a sentence, outside every entity.

    Others are words. Notes name them, and the marks that tokens follow.
    """
    found, marks, words = _Rows(), dict[int, int](), list[int]()
    for row in rows:
        if row and _DOCUMENT in row.fields:
            if (found and found[-1]) or any(tags.is_tag(field) and field != "O" for field in row.fields):
                words.append(row.line)
            else:
                marks[len(found)] = row.line
                row = None
        found.append(row)
    joined = [line for at, line in marks.items() if any(found[at + 1 : at + 2])]
    if joined:
        source.note(f"{_DOCUMENT} before the first token of a sentence is left out: {len(joined):,} ({some(joined)})")
    if words:
        source.note(f"{_DOCUMENT} within a sentence is read as a word: {len(words):,} ({some(words)})")
    return found


def _header(source: Source, rows: _Rows) -> list[str]:
    """The names of the columns, if the first row holds them."""
    first = next((row for row in rows if row), None)
    if first is None:
        return []
    layout, known = source.layout, {field.strip().lower() for field in first.fields}
    named = any(
        wanted and not is_number(wanted) and position(wanted, first.fields, 0) is not None
        for wanted in (layout.token, layout.tag)
    )
    if named or (known & _WORD_NAMES and known & _TAG_NAMES and not any(map(tags.is_tag, first.fields))):
        return [field.strip() for field in first.fields]
    return []


def _parted(rows: _Rows, names: list[str]) -> _Rows:
    """The rows, with a break at each new sentence in a column named like ``Sentence #``."""
    at = next((at for at, name in enumerate(names) if _SENTENCE_NAME.fullmatch(name)), None)
    if at is None:
        return rows
    found, now = _Rows(), ""
    for row in rows:
        name = row.fields[at].strip() if row else ""
        if name and name != now:
            found.append(None)
            now = name
        found.append(row)
    return found


def _numbered(source: Source, rows: _Rows) -> _Rows:
    """The rows, with a break where the first column's number rises, if it numbers the sentences.

    Nothing else parts them then: the number stays or rises by one, never falls, and stays at least as often, since a
    sentence has two tokens or more. A token's number rises nearly always, even if one of them is there twice.
    """
    full = [row for row in rows if row]
    steps = Counter(int(after.fields[0]) - int(before.fields[0]) for before, after in pairwise(full))
    if None in rows[: len(full)] or set(steps) != {0, 1} or steps[0] < steps[1]:
        return rows
    source.note("the numbers in the first column are those of the sentences: each begins a new one")
    found = _Rows()
    for before, row in zip([None, *rows], rows, strict=False):
        if before and row and before.fields[0] != row.fields[0]:
            found.append(None)
        found.append(row)
    return found


def _column(source: Source, wanted: str, names: list[str], width: int, option: str) -> int:
    found = position(wanted, names, width)
    if found is None:
        has = f"named {few(map(repr, names))}" if names else "without names"
        raise source.error(None, f"there is no column {wanted!r} ({option}); the file has {width} columns, {has}")
    return found


def _token_column(source: Source, rows: _Rows, names: list[str], width: int) -> int:
    if source.layout.token is not None:
        return _column(source, source.layout.token, names, width, "--token-column")
    if len(named := [at for at, name in enumerate(names) if name.lower() in _WORD_NAMES]) == 1:
        return named[0]
    full = [row for row in rows if row]
    if width == 2 and tags.are_tags({row.fields[0] for row in full}):
        if not any(tags.is_tag(row.fields[1]) for row in full):
            return 1  # the tag stands first
        return 0
    if _counted(full, width):
        source.note("the first column holds numbers: the tokens are read from column 2 (--token-column names another)")
        return 1
    sentences = [[row.fields[0] for row in group if row] for full, group in groupby(rows, bool) if full]
    if width == 2 and len(full) > 4 and all(_counts(sentence) for sentence in sentences):
        raise source.error(full[0].line, "the first column counts the tokens, and no column holds the tokens")
    if width > 2 and len(full) > 9 and all(len(set(sentence)) == 1 for sentence in sentences):
        detail = f"the first column holds {full[0].fields[0]!r} in every row of a sentence: name the column of tokens"
        raise source.error(full[0].line, f"{detail} (--token-column)")
    return 0


def _counted(full: list[_Row], width: int) -> bool:
    """True if a first column of numbers stands before the tokens."""
    if width < 3 or not all(_COUNT.fullmatch(row.fields[0]) for row in full):
        return False
    return len(full) > 1 or full[0].fields[0] in ("0", "1")


def _is_extra(row: _Row) -> bool:
    """True for CoNLL-U's ``1-2`` and ``1.1``, which are no tokens of the sentence."""
    return not row.fields[0].isdigit()


def _counts(numbers: Sequence[str]) -> bool:
    return any(list(numbers) == [str(at) for at in range(first, first + len(numbers))] for first in (0, 1))


def _strip(source: Source, full: list[_Row], token: int) -> None:
    """Take away what stands around tokens and tags: no token learned with it would be met again."""
    spaced = []
    for row in full:
        bare = [field.strip() or field for field in row.fields]
        if bare != row.fields:
            spaced.append(row.line)
            row.fields[:] = bare
    if spaced:
        lines = [*dict.fromkeys(spaced)]
        source.note(f"white space around tokens and tags is left out: {len(lines):,} ({some(lines)})")
    prefix = _LANGUAGE.match(full[0].fields[token]) if len(full) >= _SEVERAL else None
    if prefix and all(row.fields[token][: prefix.end()] == prefix[0] != row.fields[token] for row in full):
        source.note(f"every token begins with {prefix[0]!r}, which is left out")
        for row in full:
            row.fields[token] = row.fields[token].removeprefix(prefix[0])


def _check_ends(source: Source, full: list[_Row], token: int) -> None:
    """Raises `CorpusError` for a carriage return beside the token: the line should end there."""
    for row in full:
        if any("\r" in field for at, field in enumerate(row.fields) if at != token):
            raise source.error(row.line, "a carriage return within the line: let all lines of the file end in one way")


_Read = Callable[[_Row], str]


def _tag_reader(source: Source, full: list[_Row], names: list[str], width: int, token: int) -> _Read:
    """Function that gives the tag of a row."""
    if source.layout.tag is not None:
        column = _column(source, source.layout.tag, names, width, "--tag-column")
    elif len(named := [at for at, name in enumerate(names) if name.lower() in _TAG_NAMES]) == 1:
        column = named[0]
    else:
        column = _found_tags(source, full, width, token)
    if column == token:
        raise source.error(full[0].line, f"column {token + 1} is said to hold both the tokens and their tags")
    if key := tags.feature({row.fields[column] for row in full}):
        source.note(f"the tags are those under {key!r} in column {column + 1}")
        return lambda row: tags.of_feature(row.fields[column], key)
    return _of_column(source, full, column, "; --tag-column names another column" if width > 2 else "")


def _of_column(source: Source, full: list[_Row], column: int, hint: str = "") -> _Read:
    """Function that gives the tag that a row has in a column."""
    values = {row.fields[column] for row in full}
    if tags.are_tags(values):
        if tags.bare(values):
            source.note(f"the tags are bare letters: every entity gets the type {tags.TYPE}")
        return lambda row: row.fields[column]
    typed = any("-" in value for value in values)
    return lambda row: _checked_tag(source, row.line, row.fields[column], typed, hint)


def _found_tags(source: Source, full: list[_Row], width: int, token: int) -> int:
    """The column of tags: the last, unless another one must be meant."""
    last = width - 1 if token != width - 1 else 0
    values = [{row.fields[column] for row in full} for column in range(width)]
    holds = [column != token and tags.are_tags(values[column]) for column in range(width)]
    if not holds[last] and 2 * sum(tags.is_tag(row.fields[last]) for row in full) >= len(full):
        return last  # a wrong tag in the column of tags is an error, no reason to take another column
    meant = [column for column in range(width) if holds[column]]
    meant = [column for column in meant if column > token] or meant
    if chosen := [column for column in meant if tags.types(values[column]) and not tags.are_chunks(values[column])]:
        meant = chosen
    if not meant:
        return last
    column = meant[0] if chosen else meant[-1]
    if column != last or len(meant) > 1:
        others = ", ".join(f"{each + 1}" for each in meant if each != column)
        also = f"; so does column {others}, such as inner entities or predictions, which --tag-column names"
        source.note(f"the tags are read from column {column + 1} of {width}{also if others else ''}")
    return column


def _checked_tag(source: Source, line: int, tag: str, typed: bool, hint: str) -> str:
    """The tag. Raises `CorpusError` for a string that is no tag, and for a bare tag among `typed` ones."""
    if not tag:
        raise source.error(line, "the tag is empty; a token outside every entity has the tag O")
    if not tags.is_tag(tag) or (typed and tags.bare((tag,))):
        shown = tag if len(tag) < 30 else f"{tag[:12]}…{tag[-12:]}"
        if flaw := unfit(tag) or unfit(tag.partition("-")[2]):
            raise source.error(line, f"the tag {shown!r} {flaw}")
        raise source.error(line, f"{shown!r} is no tag; {tags.remedy(tag)}{hint}")
    return tag


# Rows to examples.


def _examples(source: Source, rows: _Rows, token: int, read: _Read) -> Iterator[Example]:
    for full, group in groupby(rows, bool):
        if full:
            sentence = [row for row in group if row]
            for row in sentence:
                if not row.fields[token]:
                    raise source.error(row.line, f"the token is empty; {EXPECTED}, a blank line ends a sentence")
            tokens = tuple(row.fields[token] for row in sentence)
            yield Example(tokens, tags.iob2(map(read, sentence)), tuple(row.line for row in sentence))


def _checked(source: Source, examples: list[Example]) -> list[Example]:
    """The examples. Raises `CorpusError`, or adds a note, if blank lines seem to be missing."""
    if not examples:
        return examples
    longest = max(examples, key=lambda example: len(example.value))
    tokens = len(longest.value)
    if (len(examples) == 1 and tokens > _LONG) or median(len(example.value) for example in examples) > _PAGE:
        detail = f"no blank line parts the sentences, so that one has {tokens:,} tokens; put one after each sentence"
        if tokens > _TOO_LONG:
            raise source.error(longest.lines[0], detail)
        source.note(detail)
    elif long := [example for example in examples if len(example.value) > _PAGE]:
        first = some([example.lines[0] for example in long])
        source.note(
            f"{len(long):,} of {len(examples):,} sentences have more than {_PAGE} tokens ({first}), the longest "
            f"{tokens:,}; a blank line ends a sentence"
        )
    return examples
