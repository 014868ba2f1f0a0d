"""Every setting of the service, once, with its default, its bounds and its help text.

Flags go before environment variables (``SERVICE_`` and the name in capitals), these before the file ``.env``. The
command line's flags, its help and the messages below are made from the fields of `Settings`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict

from service import rollout
from service.errors import ServiceError
from service.rollout import Rollout

PREFIX = "SERVICE_"
ENV_FILE = ".env"

_NOUNS: dict[object, str] = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
_NOUNS[Path | None] = "a path"
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?", re.IGNORECASE)
_Real = Annotated[float, Field(allow_inf_nan=False)]


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
    workers: int = Field(
        1,
        ge=0,
        le=256,
        description="Processes that serve, on one port; 0 for one a CPU. Limits on what waits, and on connections, "
        "hold for each of them.",
    )
    hang_seconds: int = Field(
        60,
        ge=0,
        le=86_400,
        description="With several workers: seconds for which one's event loop may stand still before it is ended and "
        "replaced; 0 for ever.",
    )
    strict: bool = Field(
        False,
        description="Refuse a model of which a recurrent layer would not run on the provider chosen, rather than run "
        "that layer on the CPU and say so.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads in each process that run models, one batch each; 0 for the CPUs that this process may "
        "use (affinity and control-group quota), divided by the workers.",
    )
    reload: _Real = Field(
        0.0,
        ge=0,
        le=86_400,
        description="Seconds between looks at the models folder for new versions; 0 looks on SIGHUP alone.",
    )
    admin: bool = Field(
        False,
        description="Let models be loaded and unloaded over HTTP, below /admin. Then the service also starts without "
        "any model.",
    )
    versions: str = Field(
        "latest:1",
        description="Versions of each model that are served side by side: latest:N for the N highest, all, or entries "
        "such as sentiment-lstm=1+3 for one model, separated by commas. A request that names none gets the highest.",
    )
    canary: str = Field(
        "",
        description="New versions on trial, such as sentiment-lstm=4:0.1: loaded in addition, and given that share of "
        "the requests that name no version; separated by commas. The same X-Route-Key gets the same version.",
    )
    shadow: str = Field(
        "",
        description="Versions that answer nobody, such as sentiment-lstm=4, or =4:0.25 for a share of the requests: "
        "loaded in addition, and run after the answer, for comparison; separated by commas.",
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
    api_keys_file: Path | None = Field(
        None,
        description="File of more API keys, one a line, read anew when it changes: KEY [admin|metrics] [rate=N] "
        "[name=NAME].",
    )
    admin_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys that may load and unload models too, separated by commas; without any, every key may.",
    )
    rate_limit: _Real = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="Requests a second for each API key, over all workers where they are forked (Linux), as many of "
        "them at once; 0 for no limit.",
    )
    cors_origins: str = Field(
        "",
        description="Origins whose web pages may ask, separated by commas, such as https://example.org; * for all of "
        "them. Unset: none but the service's own.",
    )
    tls_certificate: Path | None = Field(
        None, description="Certificate chain in PEM: with it the service speaks HTTPS. Read anew when it changes."
    )
    tls_key: Path | None = Field(None, description="The certificate's private key in PEM, where it is in another file.")
    tls_key_password: SecretStr = Field(SecretStr(""), description="Password of the private key.")
    tls_version: Literal["1.2", "1.3"] = Field("1.2", description="Least version of TLS that is spoken.")
    hsts_seconds: int = Field(
        0,
        ge=0,
        le=63_072_000,
        description="Seconds for which browsers are told to come back by HTTPS alone; 0 tells them nothing.",
    )
    max_connections: int = Field(
        1000, ge=1, le=100_000, description="Open connections in each worker; requests on more are answered 503."
    )
    max_header: int = Field(
        32_768, ge=1024, le=1024**2, description="Bytes in a request's header, its first line included; more is a 431."
    )
    header_seconds: _Real = Field(
        10.0,
        gt=0,
        le=3600,
        description="Seconds in which a request's header has to come, from its first byte; and a TLS handshake.",
    )
    body_seconds: _Real = Field(
        20.0, gt=0, le=3600, description="Seconds in which a request's body has to come, from the end of its header."
    )
    read_seconds: _Real = Field(
        20.0, gt=0, le=3600, description="Seconds in which a client has to take another 64 KiB of a large answer."
    )
    answer_seconds: _Real = Field(
        300.0, gt=0, le=86_400, description="Seconds in which a client has to take a whole answer."
    )
    max_unsent: int = Field(
        256 * 1024**2,
        ge=1,
        description="Bytes of answers that may wait for slow clients, in each worker; beyond, the client address with "
        "the most of them loses its slowest connection.",
    )
    max_unread: int = Field(
        64 * 1024**2,
        ge=1,
        description="Bytes of bodies that may have come without their ends, in each worker; beyond, the request whose "
        "body began first gets a 503.",
    )
    idle_seconds: int = Field(
        75, ge=1, le=86_400, description="Seconds after which a connection without a request is closed."
    )
    max_inputs: int = Field(256, ge=1, le=100_000, description="Inputs in one request.")
    max_body: int = Field(2 * 1024 * 1024, ge=1, le=1024**3, description="Bytes in a request's body.")
    max_tokens: int = Field(
        4096, ge=1, le=1_000_000, description="Tokens in one input; a model may have a lower limit of its own."
    )
    max_trace: int = Field(
        4_000_000, ge=1, le=1_000_000_000, description="Numbers in the gates of one answer, after selection."
    )
    trace_numbers: int = Field(
        64_000_000,
        ge=1,
        description="Numbers in the gates of all answers that are under way in each worker, 4 bytes each "
        "before they are printed; beyond, requests for traces get a 503. The first is always let in.",
    )
    timeout: _Real = Field(
        30.0, gt=0, le=86_400, description="Seconds in which a request that sets no X-Request-Timeout is answered."
    )
    max_timeout: _Real = Field(
        300.0, gt=0, le=86_400, description="Most seconds that X-Request-Timeout can ask for; more is cut to it."
    )
    queue_tokens: int = Field(
        262_144, ge=1, description="Tokens that may wait to be run; with more waiting, requests are answered 503."
    )
    large_tokens: int = Field(
        32_768, ge=1, description="A request of more tokens is a large one: it takes room from other large ones alone."
    )
    large_share: _Real = Field(
        0.5, gt=0, le=1, description="Share of queue_tokens that large requests may fill; the first always may wait."
    )
    model_share: _Real = Field(
        0.8,
        gt=0,
        le=1,
        description="Share of queue_tokens that one model's requests may fill, of what those of others leave.",
    )
    edge_seconds: _Real = Field(
        5.0,
        gt=0,
        le=3600,
        description="Seconds of parsing and tokenising, as expected, that may wait for a thread in each worker; "
        "beyond, requests that are too large to be read in the event loop are answered 503.",
    )
    batch_tokens: int = Field(
        4096,
        ge=1,
        description="Tokens in one batch, padding included: longest row times rows. A longer row runs alone.",
    )
    batch_rows: int = Field(16, ge=1, le=4096, description="Inputs in one batch.")
    inline_ms: _Real = Field(
        4.0,
        ge=0,
        le=100,
        description="A batch expected to take fewer milliseconds runs in the event loop, without changing threads.",
    )
    payload_log: Path | None = Field(
        None,
        description="File for requests and their answers, one CloudEvent a line, and a file of feedback beside it; "
        "unset: none. Each of several workers puts its number before the ending: log.0.jsonl for log.jsonl.",
    )
    payload_sample: _Real = Field(1.0, ge=0, le=1, description="Share of the requests that are logged there.")
    payload_text: bool = Field(
        False,
        description="Log their texts there too; else how long they are. They are personal data more often than not.",
    )
    payload_bytes: int = Field(
        64 * 1024**2, ge=1024, description="Bytes of such a file; a line that would go beyond begins another."
    )
    payload_files: int = Field(
        4, ge=0, le=10_000, description="Files that are kept beside the one that is written: log.jsonl.1 is the newest."
    )
    payload_redact: str = Field(
        "",
        description="Function, as MODULE:FUNCTION, that gets each event before it is written, and gives what may be "
        "written of it, or None for nothing. An event on which it fails is not written.",
    )
    gate_sample: _Real = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the inputs of predictions whose gates are traced as well, after the answer, and counted "
        "in the metrics gate_*; 0 for none.",
    )
    full_metrics: bool = Field(
        False,
        description="Show in /metrics each gate's distributions, drift by gate, all scores of the manifests, and "
        "requests and batches by model: some 300 series a model. Else one drift and few others a model.",
    )
    compress_bytes: int = Field(
        4096,
        ge=0,
        description="Bytes from which on an answer in JSON or text is compressed for clients whose Accept-Encoding "
        "takes gzip or deflate; 0 compresses none.",
    )
    max_streams: int = Field(
        2000, ge=0, le=100_000, description="Streams over WebSockets that may be open in each worker; 0 for none."
    )
    stream_idle_seconds: _Real = Field(
        300.0, gt=0, le=86_400, description="Seconds without a message after which a stream is closed."
    )
    stream_bytes: int = Field(
        262_144,
        ge=1024,
        le=1024**3,
        description="Bytes in one message of a stream, and in those that wait to be read, each.",
    )
    stream_rate: _Real = Field(
        0.0, ge=0, le=1_000_000, description="Tokens a second that each stream is read with; 0 for no limit."
    )
    stream_key_rate: _Real = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="Tokens a second that all streams of one API key are read with, in each worker; 0 for no limit.",
    )
    settle: int = Field(
        32,
        ge=1,
        le=64,
        description="Tokens after which a tagger's label counts as settled in a stream whose sentence goes on.",
    )
    state_key: SecretStr = Field(
        SecretStr(""),
        description="Key that seals the states of POST /stream; services behind one balancer share it. Unset: a random "
        "one at each start, shared by all workers.",
    )
    state_seconds: _Real = Field(
        3600.0, gt=0, le=31_536_000, description="Seconds for which the state of a stream is good."
    )
    max_sequences: int = Field(
        2000, ge=0, le=100_000, description="Sequences of /v2 that may be open, over all workers; 0 for none."
    )
    sequence_seconds: _Real = Field(
        300.0, gt=0, le=86_400, description="Seconds without a request after which a sequence of /v2 is dropped."
    )
    drain_seconds: _Real = Field(
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
    tracing: bool = Field(
        False,
        description="Send a trace of every request by OpenTelemetry, where the OTEL_ variables say; needs the extra "
        "otel.",
    )
    log_text: bool = Field(
        False, description="Log the texts of requests too. They are personal data more often than not."
    )

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys of `api_keys`, one by one."""
        return _split(self.api_keys.get_secret_value())

    @property
    def administrators(self) -> tuple[str, ...]:
        """The API keys of `admin_keys`, one by one."""
        return _split(self.admin_keys.get_secret_value())

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of `cors_origins`, one by one."""
        return _split(self.cors_origins)

    @property
    def secured(self) -> bool:
        """Whether API keys are asked for."""
        return bool(self.keys or self.administrators or self.api_keys_file)

    @property
    def scheme(self) -> str:
        """How clients speak to the service."""
        return "https" if self.tls_certificate is not None else "http"

    @property
    def rollout(self) -> Rollout:
        """Which versions are served, by `versions`, `canary` and `shadow`. Raises `ValueError`."""
        return rollout.read(self.versions, self.canary, self.shadow)

    @model_validator(mode="after")
    def _fit_the_versions(self) -> Settings:
        _ = self.rollout
        return self

    @model_validator(mode="after")
    def _fit_the_log(self) -> Settings:
        if self.payload_log is None and (self.payload_text or self.payload_redact or self.payload_sample != 1):
            raise ValueError("payload_log: there is no log to sample, to redact or to put texts into; name its file")
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        for name, keys in (("api_keys", self.keys), ("admin_keys", self.administrators)):
            if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
                raise ValueError(f"{name}: a key holds printable ASCII characters without spaces")
        if self.administrators and not self.admin:
            raise ValueError("admin_keys: nothing can be loaded or unloaded while admin is false")
        if self.rate_limit and not self.secured:
            raise ValueError("rate_limit: requests are counted by API key, and neither api_keys nor a file names any")
        for origin in self.origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"cors_origins: {origin!r} is no origin such as https://example.org, and not *")
        if self.tls_certificate is None and (self.tls_key or self.tls_key_password.get_secret_value()):
            raise ValueError("tls_key: there is no TLS without tls_certificate")
        if self.hsts_seconds and self.tls_certificate is None:
            raise ValueError("hsts_seconds: browsers heed it over HTTPS alone; set tls_certificate")
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
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(error) from error


def written(name: str) -> str | None:
    """A setting as the environment, or else `.env`, has it, unchecked; for commands that take but a few of them.

    Raises `SettingsError`.
    """
    try:
        found = [
            source(Settings).env_vars.get(variable(name).lower())
            for source in (EnvSettingsSource, DotEnvSettingsSource)
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(error) from error
    return found[0] or found[1]


def _unreadable(error: OSError | UnicodeDecodeError) -> SettingsError:
    return SettingsError(f"{ENV_FILE}: {error.strerror if isinstance(error, OSError) else 'not UTF-8'}")


def _split(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())


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
