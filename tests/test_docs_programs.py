"""Where the README, CONTRIBUTING.md or a page names a program, in a block or in running text, there is such a program,
with that command and those options. Other tests of the documentation run what pages have in blocks.
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from docs import generated
from tests.integration.conftest import ROOT
from tests.test_docs import DOCS

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```\w*\n.*?^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_PROGRAM = re.compile(r"python -m ([\w.]+)([^`\n|&;>]*)")
_OPTION = re.compile(r"(?<!\S)--[a-z][\w-]*")
_MAKE = re.compile(r"^\s*make ([^#\n]*)", re.MULTILINE)


class Named(NamedTuple):
    """``python -m MODULE COMMAND OPTION…``, as pages have it; the first word is taken for a command."""

    module: str
    command: str | None
    options: tuple[str, ...]


def code(page: Path) -> tuple[str, str]:
    """A page's text, each command on one line; and of that the code alone, blocks and spans."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    text = text.replace("-m training -- ", "\npython -m training ")  # what torchrun is to start
    prose = _SPAN.sub(lambda found: f"`{' '.join(found[1].split())}`", _BLOCK.sub("", text))
    blocks = _BLOCK.findall(text)
    return "\n".join([*blocks, prose]), "\n".join([*blocks, *_SPAN.findall(prose)])


def programs() -> list[Named]:
    found: dict[Named, None] = {}
    for page in PAGES:
        for module, rest in _PROGRAM.findall(code(page)[0]):
            first = re.match(r" +([a-z][a-z-]*)", rest)
            found[Named(module, first[1] if first else None, tuple(_OPTION.findall(rest)))] = None
    return list(found)


NAMED = programs()


def program(module: str) -> str:
    """The module that ``python -m MODULE`` runs."""
    spec = find_spec(module)
    assert spec is not None, module
    return f"{module}.__main__" if spec.submodule_search_locations else module


def made() -> Iterator[str]:
    """What stands behind ``make``, anywhere."""
    for page in PAGES:
        yield from (words.strip() for words in _MAKE.findall(code(page)[1]))


def test_pages_name_programs() -> None:
    assert {"service", "training", "benchmarks", "benchmarks.scaling"} <= {each.module for each in NAMED}
    assert any(each.options for each in NAMED if each.module == "training")


@pytest.mark.parametrize("module", dict.fromkeys(each.module for each in NAMED))
def test_a_program_exists(module: str) -> None:
    package = module.partition(".")[0]
    if not (ROOT / package).is_dir() and find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    spec = find_spec(program(module))
    assert spec is not None, f"{module} is no program"
    assert spec.origin is not None
    assert spec.name.endswith("__main__") or 'if __name__ == "__main__"' in Path(spec.origin).read_text("utf-8")


@pytest.mark.parametrize("named", [each for each in NAMED if f"python -m {each.module}" in generated.PROGRAMS], ids=str)
def test_a_command_has_what_pages_say(named: Named) -> None:
    group, _ = generated.PROGRAMS[f"python -m {named.module}"]
    assert named.command is None or named.command in group.commands
    parameters = [*group.params]
    if named.command:
        command = group.commands[named.command]
        inner = command.commands.values() if isinstance(command, click.Group) else ()
        parameters += [each for part in (command, *inner) for each in part.params]
    known = {"--help", *(name for each in parameters for name in (*each.opts, *each.secondary_opts))}
    assert set(named.options) <= known


@pytest.mark.parametrize(
    "named",
    [each for each in NAMED if each[1:] != (None, ()) and re.match(r"benchmarks|recipes|docs", each.module)],
    ids=str,
)
def test_a_benchmark_has_what_pages_say(
    named: Named, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def shown(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", [named.module, *words, "--help"])
        monkeypatch.delitem(sys.modules, program(named.module), raising=False)  # else runpy warns of a second copy
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(named.module, run_name="__main__")
        assert not ended.value.code
        return capsys.readouterr().out

    def lacks(text: str, names: Iterable[str]) -> list[str]:
        return [name for name in names if not re.search(rf"{name}(?![\w-])", text)]

    command = [named.command] if named.command else []
    assert lacks(shown(), command) == []
    assert lacks(shown(*command), named.options) == []  # a command of its own parser has options of its own


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    variables = set(re.findall(r"\$\(([A-Z]+)\)|^([A-Z]+) \?=", MAKEFILE, re.MULTILINE))
    known = {name for pair in variables for name in pair}
    found = list(made())
    assert len(found) > 20
    for words in found:
        for word in words.split():
            name, is_variable, _ = word.partition("=")
            assert name in (known if is_variable else targets), f"make {words}"
