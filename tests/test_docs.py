"""The documentation: it builds without a warning, describes everything there is, and its commands and snippets run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from docs import generated, hooks
from docs.interface import whole_document
from service import settings as configuration
from service.errors import RequestError
from service.model.equations import gates
from service.observability.metrics import DERIVED, FAMILIES, PREFIX
from service.settings import Settings, flag, variable
from tests.integration.conftest import ROOT, Process
from training.nets.cells import CELLS

DOCS = ROOT / "docs"
ADDRESS = "http://127.0.0.1:8000"
OWN = sorted(path for folder in (*hooks.TITLES, "reading") for path in (DOCS / folder).glob("*.md"))
"""The pages whose every command and snippet is run. Those beside these folders may need what is not here."""
_BLOCK = re.compile(r"(?:<!-- not run: ([^>]+) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_RUN = ("sh", "python")
MODELS = ("sentiment-bilstm", "sentiment-lstm", "ner-bilstm", "ner-bigru", "ner-gru")
"""Those that the pages name."""


SHORTER = {
    r"^(python -m benchmarks [a-z]+)(?= *(?:#|$))": r"\1 --quick",
    r"^(python -m benchmarks\.overhead .* --profile \"[^\"]+\")": r"\1 --requests 64",
}
"""By commands of the pages that take minutes: short forms that take seconds."""


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The (language, code) of a page's blocks that are run."""
    for why, language, code in _BLOCK.findall(page.read_text(encoding="utf-8")):
        assert language in (*_RUN, "text", "json"), f"{page.name}: a block of {language!r} is neither run nor output"
        if language in _RUN and not why:
            yield language, code


def shortened(code: str) -> str:
    """Commands with their benchmarks in a short form. It has other figures, which no page's test looks at."""
    for long, short in SHORTER.items():
        code = re.sub(long, short, code, flags=re.MULTILINE)
    return code


def script(page: Path, url: str) -> str:
    """A page's blocks as one shell script; what Python defines lasts for the page."""
    lines = []
    python = ""
    for language, code in blocks(page):
        code = code.replace(ADDRESS, url).replace(ADDRESS.removeprefix("http://"), url.removeprefix("http://"))
        if language == "sh":
            lines.append(shortened(code))
        else:
            python += code
    if python:
        lines.append(f"python - <<'PYTHON'\n{python}\nPYTHON")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository's, in which pages may write."""
    folder = tmp_path_factory.mktemp("docs")
    for name in MODELS:
        shutil.copytree(ROOT / "models" / name, folder / "models" / name)
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def service(place: Path) -> Iterator[Process]:
    """The service that the pages ask; it takes up what they train."""
    process = Process(place, place / "models", "--reload", "1")
    yield process.until_ready()
    process.close()


def environment(place: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SERVICE_", "TRAINING_", "HF_"))}
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {
        **kept,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "GATELIGHT_RESULTS": str(place / "results"),  # the pages' benchmarks must not change this checkout
    }


def run(commands: str, place: Path) -> None:
    """Have bash run commands in a folder, whose ``bin`` comes first on the path; all of them have to succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", OWN, ids=lambda page: page.stem)
def test_every_command_and_snippet_runs(page: Path, place: Path, service: Process) -> None:
    found = list(blocks(page))
    if not found:
        assert page.parent.name in ("explanation", "reading", "reference")
        return
    if any("curl" in code for _, code in found) and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    text = script(page, service.url)
    # The service takes up a model that the page has trained a moment later; on a busy machine much later.
    run(text.replace("curl -sf", "curl -sf --retry 120 --retry-delay 1 --retry-all-errors"), place)


def test_benchmarks_of_the_pages_run_in_a_short_form() -> None:
    found = [line for page in OWN for language, code in blocks(page) if language == "sh" for line in code.splitlines()]
    long = [line for line in found if re.match(r"python -m benchmarks(\.overhead)? ", line)]
    assert len(long) >= 3
    assert [line for line in long if shortened(line) == line] == []
    assert shortened("python -m benchmarks overhead   # beside") == "python -m benchmarks overhead --quick   # beside"
    assert shortened('python -m benchmarks.overhead models/a/1 --profile "1 connection"').endswith(" --requests 64")


@pytest.mark.timeout(600)
def test_the_notebook_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    for name, value in environment(place).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IPYTHONDIR", str(place / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(place / "jupyter"))
    notebook = nbformat.read(DOCS / "tutorial" / "csv-to-service.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(place)}}).execute()
    assert (place / "models" / "my-reviews" / "1" / "model.json").exists()
    shown = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "positive" in shown
    assert re.search(r"^(negative|positive) \(0\.\d\d\), but labelled (?!\1)", shown, re.MULTILINE)
    assert "`make setup`" in notebook.cells[0].source


def test_every_page_is_in_the_navigation() -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    shown: set[str] = set()
    for part in hooks.navigation(pages):
        for value in part.values():
            shown |= {value} if isinstance(value, str) else set(value)
    assert shown == pages
    (section,) = [part for part in hooks.navigation(["index.md", "new.md"]) if "How-to guides" in part]
    assert section == {"How-to guides": ["new.md"]}


def test_every_setting_metric_error_and_gate_is_described() -> None:
    page = generated.settings_page()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"`{flag(name)}`" in page
        assert f"`{variable(name)}`" in page
    page = generated.metrics_page()
    for family in (*FAMILIES, *DERIVED):
        assert family.help
        assert f"`{PREFIX}{family.name}`" in page
    page = generated.errors_page()
    for error in RequestError.__subclasses__():
        assert f"`{error.slug}`" in page
    page = generated.gates_page()
    for cell, form in CELLS:
        for gate in gates(cell, form):
            assert " ".join(gate.equation.split()) in page


def test_every_route_and_field_is_described() -> None:
    built, page = whole_document(), generated.PAGES["http"]()
    for path, operations in built["paths"].items():
        for method, operation in operations.items():
            (row,) = [line for line in page.splitlines() if line.startswith(f"| `{method.upper()} {path}` |")]
            assert operation["summary"] in row
            assert f"| {', '.join(operation['responses'])} |" in row
    for name, schema in built["components"]["schemas"].items():
        section = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert schema["description"].splitlines()[0] in section
        for field, facts in schema["properties"].items():
            (row,) = [line for line in section.splitlines() if line.startswith(f"| `{field}` |")]
            assert " ".join(facts["description"].split()) in row.replace("\\|", "|"), (name, field)
            bounds = [fact for bound, fact in facts.items() if bound in ("minimum", "maximum", "exclusiveMinimum")]
            assert [bound for bound in bounds if f"{bound:,}" not in row] == [], row
            assert field in schema.get("required", ()) or f"| `{json.dumps(facts['default'])}` |" in row


@pytest.mark.parametrize("program", generated.PROGRAMS)
def test_every_command_and_option_is_described(program: str) -> None:
    group, prefix = generated.PROGRAMS[program]
    sections = dict(re.findall(r"^##+ `(.*?)`\n(.*?)(?=^##|\Z)", generated.commands_page(), re.DOTALL | re.MULTILINE))
    nested = {f"{name} {below}": one for name, each in inside(group) for below, one in each.commands.items()}
    for name, command in {"": group, **group.commands, **nested}.items():
        assert command.help, name
        assert f"{program} {name}".strip() in sections
        if isinstance(command, click.Group) and not command.params:
            continue
        rows = [line for line in sections[f"{program} {name}".strip()].splitlines() if line.startswith("| ")]
        assert len(rows) - 2 == len(command.params)
        for row, parameter in zip(rows[2:], command.params, strict=True):
            assert getattr(parameter, "help", None), (name, parameter.name)
            assert [fact for fact in facts(parameter, name, prefix) if fact not in row] == [], row


def inside(group: click.Group) -> Iterator[tuple[str, click.Group]]:
    """The groups of commands within a group, by name."""
    yield from ((name, each) for name, each in group.commands.items() if isinstance(each, click.Group))


def facts(parameter: click.Parameter, command: str, prefix: str | None) -> Iterator[str]:
    """What a row of the page has to say of an option or argument."""
    default, envvar = getattr(parameter.default, "value", parameter.default), parameter.envvar
    if parameter.param_type_name == "option":
        yield from [*parameter.opts, *parameter.secondary_opts]
        if prefix and getattr(parameter, "allow_from_autoenv", True):
            envvar = "_".join(filter(None, [prefix, *command.replace("-", "_").split(), parameter.name])).upper()
    choices = [str(choice) for choice in getattr(parameter.type, "choices", None) or ()]
    if command == "serve":
        field = Settings.model_fields[parameter.name]
        default, envvar, choices = field.default, variable(parameter.name), [*configuration.choices(field)]
    yield from choices
    if parameter.required:
        yield "required"
    elif (type(default) in (str, int) and default != "") or isinstance(default, Path):
        yield f"| `{default}` |"
    elif type(default) is float:
        yield f"| `{default:g}"  # 1.0 or 1
    if envvar:
        yield f"`{envvar}`"


def test_secrets_have_no_default_to_show() -> None:
    assert "SecretStr" not in generated.settings_page()
    assert "PydanticUndefined" not in generated.settings_page()
