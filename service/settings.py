"""Every setting of the service, once, with its default, its bounds and its help text.

Flags go before environment variables (``SERVICE_`` and the name in capitals), these before the file ``.env``. The
command line's flags, its help and the messages below are made from the fields of `Settings`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import ServiceError

PREFIX = "SERVICE_"
ENV_FILE = ".env"

_NOUNS: dict[object, str] = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
_Seconds = Annotated[float, Field(allow_inf_nan=False)]


class SettingsError(ServiceError):
    """A setting is wrong. The message is one line: which, its value, and what would be right."""


class Settings(BaseSettings):
    """The service's settings. Read them with `read`, which turns what is wrong into one clear line."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=False,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every address of the machine.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one and logs it.")
    models: Path = Field(Path("models"), description="Folder of the model repository: MODELS/NAME/VERSION/.")
    provider: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models run: auto takes CUDA where ONNX Runtime has it, and says what it took."
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads that run models, one batch each; 0 for as many as this process has CPUs "
        "(affinity and control-group quota).",
    )
    reload: _Seconds = Field(
        0.0, ge=0, le=86_400, description="Seconds between looks at the models folder for new versions; 0 never looks."
    )
    admin: bool = Field(
        False,
        description="Let models be loaded and unloaded over HTTP, below /admin. Then the service also starts without "
        "any model.",
    )
    default_sentiment: str | None = Field(
        None, description="Model for sentiment requests that name none; unset: sentiment-bilstm where it is loaded."
    )
    default_ner: str | None = Field(
        None, description="Model for NER requests that name none; unset: ner-bilstm where it is loaded."
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys, separated by commas. With any set, every route but health wants one, "
        "as Authorization: Bearer KEY.",
    )
    rate_limit: _Seconds = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="Requests a second for each API key, as many of them at once; 0 for no limit.",
    )
    max_inputs: int = Field(256, ge=1, le=100_000, description="Inputs in one request.")
    max_body: int = Field(2 * 1024 * 1024, ge=1, le=1024**3, description="Bytes in a request's body.")
    max_tokens: int = Field(
        4096, ge=1, le=1_000_000, description="Tokens in one input; a model may have a lower limit of its own."
    )
    max_trace: int = Field(
        4_000_000, ge=1, le=1_000_000_000, description="Numbers in the gates of one answer, after selection."
    )
    timeout: _Seconds = Field(
        30.0, gt=0, le=86_400, description="Seconds in which a request that sets no X-Request-Timeout is answered."
    )
    max_timeout: _Seconds = Field(
        300.0, gt=0, le=86_400, description="Most seconds that X-Request-Timeout can ask for; more is cut to it."
    )
    queue_tokens: int = Field(
        262_144, ge=1, description="Tokens that may wait to be run; with more waiting, requests are answered 503."
    )
    batch_tokens: int = Field(
        8192,
        ge=1,
        description="Tokens in one batch, padding included: longest row times rows. A longer row runs alone.",
    )
    batch_rows: int = Field(8, ge=1, le=4096, description="Inputs in one batch.")
    inline_ms: _Seconds = Field(
        1.0,
        ge=0,
        le=100,
        description="A batch expected to take fewer milliseconds runs in the event loop, without changing threads.",
    )
    drain_seconds: _Seconds = Field(
        0.0,
        ge=0,
        le=3600,
        description="Seconds after SIGTERM in which requests are still taken while /health/ready says 503, "
        "so that a balancer can turn away.",
    )
    grace_seconds: int = Field(
        30, ge=1, le=3600, description="Seconds after that for finishing the requests that were taken."
    )
    log_format: Literal["console", "json"] = Field("console", description="Log lines for people, or JSON for machines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_text: bool = Field(
        False, description="Log the texts of requests too. They are personal data more often than not."
    )

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys, one by one."""
        return tuple(key.strip() for key in self.api_keys.get_secret_value().split(",") if key.strip())

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if not all(key.isascii() and key.isprintable() and " " not in key for key in self.keys):
            raise ValueError("api_keys: a key holds printable ASCII characters without spaces")
        if self.rate_limit and not self.keys:
            raise ValueError("rate_limit: requests are counted by API key, and api_keys names none")
        if self.timeout > self.max_timeout:
            raise ValueError(f"timeout: {self.timeout:g} seconds are more than max_timeout, {self.max_timeout:g}")
        return self


def read(flags: Mapping[str, Any] | None = None, **options: Any) -> Settings:
    """The settings from flags, environment and ``.env``. Raises `SettingsError`, one line for people.

    `options` are those of pydantic-settings, such as ``_env_file=None``.
    """
    try:
        return Settings(**(flags or {}), **options)
    except ValidationError as error:
        raise SettingsError("; ".join(_problems(error))) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{ENV_FILE}: not UTF-8") from error


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The words that a setting can be; () when it is no choice of words."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def unknown_variables(environment: Mapping[str, str] | None = None, env_file: Path = Path(ENV_FILE)) -> list[str]:
    """Names that look like settings of the service and are none: misspelt, most likely."""
    names = {*(os.environ if environment is None else environment), *dotenv_values(env_file)}
    known = {variable(name) for name in Settings.model_fields}
    return sorted(name for name in names if name.upper().startswith(PREFIX) and name.upper() not in known)


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        if not problem["loc"]:
            yield problem["msg"].removeprefix("Value error, ")
            continue
        name = str(problem["loc"][0]).lower().removeprefix(PREFIX.lower())
        field = Settings.model_fields[name]
        value = "the value" if field.annotation is SecretStr else repr(problem["input"])
        yield f"{name}: {value} is not {_right(field)} ({flag(name)}, {variable(name)})"


def _right(field: FieldInfo) -> str:
    """What a setting's value has to be, in words."""
    if words := choices(field):
        return f"one of {', '.join(words)}"
    bounds = [_NOUNS.get(field.annotation, "text")]
    for rule in field.metadata:
        if isinstance(rule, Ge):
            bounds.append(f"from {rule.ge}")
        elif isinstance(rule, Gt):
            bounds.append(f"over {rule.gt}")
        elif isinstance(rule, Le):
            bounds.append(f"to {rule.le}")
    return " ".join(bounds)
