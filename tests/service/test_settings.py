"""Settings: precedence, bounds, and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from service.__main__ import main
from service.settings import Settings, SettingsError, flag, read, unknown_variables, variable


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ``.env`` and no variables but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_defaults() -> None:
    settings = read()
    assert (settings.host, settings.port, settings.models) == ("127.0.0.1", 8000, Path("models"))
    assert (settings.max_inputs, settings.max_body, settings.max_tokens) == (256, 2 * 1024 * 1024, 4096)
    assert (settings.max_trace, settings.keys, settings.log_text) == (4_000_000, (), False)


def test_flags_before_environment_before_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("SERVICE_PORT=1\nSERVICE_HOST=file\nSERVICE_THREADS=3\n", encoding="utf-8")
    monkeypatch.setenv("SERVICE_PORT", "2")
    monkeypatch.setenv("SERVICE_HOST", "environment")
    settings = read({"port": "3"})
    assert (settings.port, settings.host, settings.threads) == (3, "environment", 3)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_PORT", "")
    monkeypatch.setenv("SERVICE_API_KEYS", "")
    assert (read().port, read().keys) == (8000, ())


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("port", "65536", "a whole number from 0 to 65535"),
        ("port", "http", "a whole number from 0 to 65535"),
        ("threads", "-1", "a whole number from 0 to 1024"),
        ("threads", "1.5", "a whole number"),
        ("provider", "tpu", "one of auto, cpu, cuda"),
        ("reload", "nan", "a number from 0"),
        ("timeout", "0", "a number over 0"),
        ("timeout", "inf", "a number over 0"),
        ("max_inputs", "0", "a whole number from 1"),
        ("max_body", "2MB", "a whole number from 1"),
        ("inline_ms", "-1", "a number from 0"),
        ("log_format", "xml", "one of console, json"),
        ("log_text", "perhaps", "true or false"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, right: str
) -> None:
    expected = (f"{name}: {value!r} is not {right}", flag(name), variable(name))
    with pytest.raises(SettingsError) as from_flag:
        read({name: value})
    monkeypatch.setenv(variable(name), value)
    with pytest.raises(SettingsError) as from_variable:
        read()
    for message in (str(from_flag.value), str(from_variable.value)):
        assert all(part in message for part in expected), message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"api_keys": "good,not good"}, "api_keys"),
        ({"api_keys": "clé"}, "api_keys"),
        ({"rate_limit": "5"}, "api_keys"),
        ({"timeout": "301"}, "max_timeout"),
    ],
)
def test_settings_that_do_not_fit_together(flags: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        read(flags)


def test_keys_are_split_and_never_shown() -> None:
    settings = read({"api_keys": " one-key , two-key,, "})
    assert settings.keys == ("one-key", "two-key")
    assert "one-key" not in repr(settings) + str(settings) + settings.model_dump_json()
    with pytest.raises(SettingsError) as error:
        read({"api_keys": "secret one"})
    assert "secret" not in str(error.value)


def test_a_file_that_is_not_text() -> None:
    Path(".env").write_bytes(b"SERVICE_HOST=\xff\n")
    with pytest.raises(SettingsError, match="UTF-8"):
        read()


def test_unknown_variables() -> None:
    Path(".env").write_text("SERVICE_PROT=1\nOTHER=2\n", encoding="utf-8")
    environment = {"SERVICE_HOTS": "x", "service_port": "1", "SERVICE_PORT": "1", "MY_SERVICE_X": "1"}
    assert unknown_variables(environment, Path(".env")) == ["SERVICE_HOTS", "SERVICE_PROT"]


def test_every_setting_has_a_flag_a_variable_and_help() -> None:
    shown = " ".join(CliRunner().invoke(main, ["serve", "--help"], terminal_width=200).output.split())
    for name, field in Settings.model_fields.items():
        assert field.description is not None
        assert field.description.endswith(".")
        assert " ".join(field.description.split()) in shown
        assert flag(name) in shown
        assert variable(name) in shown
