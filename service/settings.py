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
    """A setting is wrong. The message is one line with its name, its value and the allowed values."""


class Settings(BaseSettings):
    """The service's settings. Read them with `read`, which turns errors into one clear line."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=False,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 is every address of the machine.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free port and logs it.")
    models: Path = Field(Path("models"), description="Folder of the model repository: MODELS/NAME/VERSION/.")
    provider: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Device of the models: auto takes CUDA if ONNX Runtime has it, else the CPU, and logs its choice.",
    )
    workers: int = Field(
        1,
        ge=0,
        le=256,
        description="Processes that serve on one port; 0 starts one for each CPU. Limits on waiting work and on "
        "connections hold for each process.",
    )
    hang_seconds: int = Field(
        60,
        ge=0,
        le=86_400,
        description="With several workers: a worker whose event loop stands still for this many seconds is replaced; "
        "0 never.",
    )
    strict: bool = Field(
        False,
        description="Refuse a model if one of its recurrent layers would not run on the chosen provider. Otherwise "
        "that layer runs on the CPU, and the log says so.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads of each process that run models, one batch each; 0 divides the CPUs that the process "
        "may use (affinity and control-group quota) by the workers.",
    )
    reload: _Real = Field(
        0.0,
        ge=0,
        le=86_400,
        description="Seconds from one look at the models folder for new versions to the next; 0 looks on SIGHUP only.",
    )
    admin: bool = Field(
        False,
        description="Allow loading and unloading of models over HTTP, below /admin. The service then also starts "
        "without any model.",
    )
    versions: str = Field(
        "latest:1",
        description="Versions of each model that are served side by side: latest:N (the N highest), all, or entries "
        "such as sentiment-lstm=1+3, separated by commas. A request without a version gets the highest.",
    )
    canary: str = Field(
        "",
        description="New versions on trial, such as sentiment-lstm=4:0.1, separated by commas. Each gets that share "
        "of the requests that name no version. The same X-Route-Key always gets the same version.",
    )
    shadow: str = Field(
        "",
        description="Versions that run for comparison and answer nobody, such as sentiment-lstm=4, or =4:0.25 for a "
        "share of the requests, separated by commas. They run after the answer.",
    )
    default_sentiment: str | None = Field(
        None, description="Model for sentiment requests that name none; unset: sentiment-bilstm if it is loaded."
    )
    default_ner: str | None = Field(
        None, description="Model for NER requests that name none; unset: ner-bilstm if it is loaded."
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys, separated by commas. If any key is set, every route except health requires one, as "
        "Authorization: Bearer KEY.",
    )
    api_keys_file: Path | None = Field(
        None,
        description="File of more API keys, one on each line, read again when it changes: KEY [admin|metrics] "
        "[rate=N] [name=NAME].",
    )
    admin_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys that may also load and unload models, separated by commas; without any, every key may.",
    )
    rate_limit: _Real = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="Requests a second for each API key, and the size of its bursts; 0 is no limit. Forked workers "
        "(Linux) share the limit.",
    )
    cors_origins: str = Field(
        "",
        description="Origins whose web pages may send requests, separated by commas, such as https://example.org; * "
        "is all. Unset: only the service's own pages.",
    )
    tls_certificate: Path | None = Field(
        None,
        description="Certificate chain in PEM. With it the service speaks HTTPS. It is read again when it changes.",
    )
    tls_key: Path | None = Field(None, description="The certificate's private key in PEM, if it is in another file.")
    tls_key_password: SecretStr = Field(SecretStr(""), description="Password of the private key.")
    tls_version: Literal["1.2", "1.3"] = Field("1.2", description="Lowest version of TLS that is accepted.")
    hsts_seconds: int = Field(
        0,
        ge=0,
        le=63_072_000,
        description="Seconds for which browsers use HTTPS only (Strict-Transport-Security); 0 sends no such header.",
    )
    max_connections: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Open connections of each worker. A request on a further connection gets a 503.",
    )
    max_header: int = Field(
        32_768,
        ge=1024,
        le=1024**2,
        description="Bytes of a request's header with its first line. A longer header gets a 431.",
    )
    header_seconds: _Real = Field(
        10.0,
        gt=0,
        le=3600,
        description="Seconds for a request's header to arrive, from its first byte; also for a TLS handshake.",
    )
    body_seconds: _Real = Field(
        20.0, gt=0, le=3600, description="Seconds for a request's body to arrive, from the end of its header."
    )
    read_seconds: _Real = Field(
        20.0, gt=0, le=3600, description="Seconds for a client to read the next 64 KiB of a large answer."
    )
    answer_seconds: _Real = Field(300.0, gt=0, le=86_400, description="Seconds for a client to read a whole answer.")
    max_unsent: int = Field(
        256 * 1024**2,
        ge=1,
        description="Bytes of answers that wait for slow clients, in each worker. Beyond it, the client address with "
        "the most bytes loses its slowest connection.",
    )
    max_unread: int = Field(
        64 * 1024**2,
        ge=1,
        description="Bytes of unfinished request bodies, in each worker. Beyond it, the request whose body began "
        "first gets a 503.",
    )
    idle_seconds: int = Field(
        75, ge=1, le=86_400, description="Seconds after which a connection without a request is closed."
    )
    max_inputs: int = Field(256, ge=1, le=100_000, description="Inputs of one request.")
    max_body: int = Field(2 * 1024 * 1024, ge=1, le=1024**3, description="Bytes of a request's body.")
    max_tokens: int = Field(
        4096, ge=1, le=1_000_000, description="Tokens of one input. A model may have a lower limit of its own."
    )
    max_trace: int = Field(
        4_000_000,
        ge=1,
        le=1_000_000_000,
        description="Numbers in the gates of one answer, after the selection of gates, layers and units.",
    )
    trace_numbers: int = Field(
        64_000_000,
        ge=1,
        description="Numbers in the gates of all unfinished answers of each worker, 4 or 8 bytes each. Beyond it, "
        "requests for gates get a 503. A single request is always accepted.",
    )
    timeout: _Real = Field(
        30.0, gt=0, le=86_400, description="Seconds to answer a request that sets no X-Request-Timeout."
    )
    max_timeout: _Real = Field(
        300.0, gt=0, le=86_400, description="Highest X-Request-Timeout in seconds; a higher one is lowered to it."
    )
    queue_tokens: int = Field(
        262_144, ge=1, description="Tokens that may wait in the queue. Beyond it, requests get a 503."
    )
    large_tokens: int = Field(
        32_768,
        ge=1,
        description="Tokens above which a request is large. Large requests share a part of the queue (large-share).",
    )
    large_share: _Real = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of queue-tokens that large requests may fill. One large request may always wait.",
    )
    model_share: _Real = Field(
        0.8,
        gt=0,
        le=1,
        description="Share of the free queue-tokens that the requests of one model may fill.",
    )
    edge_seconds: _Real = Field(
        5.0,
        gt=0,
        le=3600,
        description="Seconds of parsing and tokenising that may wait for a thread, in each worker. Beyond it, "
        "requests too large for the event loop get a 503.",
    )
    batch_tokens: int = Field(
        4096,
        ge=1,
        description="Tokens of one batch with its padding: longest row times rows. A longer row runs alone.",
    )
    batch_rows: int = Field(16, ge=1, le=4096, description="Inputs of one batch.")
    inline_ms: _Real = Field(
        4.0,
        ge=0,
        le=100,
        description="A batch that should take fewer milliseconds than this runs in the event loop, without a change "
        "of threads.",
    )
    payload_log: Path | None = Field(
        None,
        description="File for requests and their answers, one CloudEvent on each line, with a file of feedback "
        "beside it; unset: none. Each of several workers has its own file: log.0.jsonl for log.jsonl.",
    )
    payload_sample: _Real = Field(1.0, ge=0, le=1, description="Share of the requests that the payload log holds.")
    payload_text: bool = Field(
        False,
        description="Write the texts into the payload log too, not only their lengths. They are often personal data.",
    )
    payload_bytes: int = Field(
        64 * 1024**2,
        ge=1024,
        description="Bytes of one file of the payload log. A line that would go beyond them begins the next file.",
    )
    payload_files: int = Field(
        4, ge=0, le=10_000, description="Older files of the payload log that are kept; log.jsonl.1 is the newest."
    )
    payload_redact: str = Field(
        "",
        description="Function MODULE:FUNCTION that gets each event before it is written, and returns the event to "
        "write, or None to write nothing. An event on which it fails is not written.",
    )
    gate_sample: _Real = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the predicted inputs whose gates are measured too, after the answer, for the metrics "
        "gate_*; 0 measures none.",
    )
    full_metrics: bool = Field(
        False,
        description="Show in /metrics the distributions and the drift of each gate, all scores of the manifests, and "
        "requests and batches of each model: about 300 series for a model.",
    )
    compress_bytes: int = Field(
        4096,
        ge=0,
        description="Answers in JSON or text of at least this many bytes are compressed for clients that accept gzip "
        "or deflate; 0 compresses none.",
    )
    max_streams: int = Field(
        2000, ge=0, le=100_000, description="Open WebSocket streams of each worker; 0 allows none."
    )
    stream_idle_seconds: _Real = Field(
        300.0, gt=0, le=86_400, description="Seconds without a message after which a stream is closed."
    )
    stream_bytes: int = Field(
        262_144, ge=1024, le=1024**3, description="Bytes of one message of a stream, and of its messages that wait."
    )
    stream_rate: _Real = Field(
        0.0, ge=0, le=1_000_000, description="Tokens a second for each WebSocket of /stream; 0 is no limit."
    )
    stream_key_rate: _Real = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="Tokens a second for all streams and sequences of one API key, over all workers; 0 is no limit. "
        "A WebSocket over it is read more slowly, a request over it gets a 429.",
    )
    settle: int = Field(
        32,
        ge=1,
        le=64,
        description="Tokens after which a tagger's label counts as settled while the sentence of a stream goes on.",
    )
    state_key: SecretStr = Field(
        SecretStr(""),
        description="Key that seals the states of POST /stream. Services behind one balancer need the same key. "
        "Unset: a random key at each start, shared by all workers.",
    )
    state_seconds: _Real = Field(
        3600.0, gt=0, le=31_536_000, description="Seconds for which the state of a stream is valid."
    )
    max_sequences: int = Field(
        2000, ge=0, le=100_000, description="Open sequences of /v2, over all workers; 0 allows none."
    )
    sequence_seconds: _Real = Field(
        300.0, gt=0, le=86_400, description="Seconds without a request after which a sequence of /v2 is dropped."
    )
    drain_seconds: _Real = Field(
        0.0,
        ge=0,
        le=3600,
        description="Seconds after SIGTERM in which requests are still accepted while /health/ready says 503, so "
        "that a balancer stops sending them.",
    )
    grace_seconds: int = Field(30, ge=1, le=3600, description="Seconds after that to finish the accepted requests.")
    log_format: Literal["console", "json"] = Field(
        "console", description="Log lines for people (console) or for machines (json)."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    tracing: bool = Field(
        False,
        description="Send an OpenTelemetry trace of every request to the address in the OTEL_ variables; needs the "
        "extra otel.",
    )
    log_text: bool = Field(False, description="Log the texts of requests too. They are often personal data.")

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
        """True if API keys are required."""
        return bool(self.keys or self.administrators or self.api_keys_file)

    @property
    def scheme(self) -> str:
        """How clients speak to the service."""
        return "https" if self.tls_certificate is not None else "http"

    @property
    def rollout(self) -> Rollout:
        """The served versions, from `versions`, `canary` and `shadow`. Raises `ValueError`."""
        return rollout.read(self.versions, self.canary, self.shadow)

    @model_validator(mode="after")
    def _fit_the_log(self) -> Settings:
        if self.payload_log is None and (self.payload_text or self.payload_redact or self.payload_sample != 1):
            raise ValueError("payload_log: there is no log to sample, to redact or to put texts into; name its file")
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        _ = self.rollout
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
    """The allowed values of a setting, in words."""
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
