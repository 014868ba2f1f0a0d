"""API keys: scopes, rates, and the file that they come from."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.errors import Forbidden, RateLimited, StartupError, Unauthorized
from service.http.security.access import Access
from service.http.security.keys import LOOK_EVERY, MAX_FILE, Grant, Keys, digest, parse
from service.serving.rates import Buckets
from tests.patience import next_tick

ONE, TWO, BOSS = "the-first-key-of-all", "another-key-entirely", "the-administrators-key"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def check(access: Access, key: str | None, path: str = "/predict", **headers: bytes) -> Grant | None:
    if key is not None:
        headers["authorization"] = b"Bearer " + key.encode()
    return access.check({name.encode(): value for name, value in headers.items()}, path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"{ONE}\n", encoding="utf-8")
    return path


# Rates


def test_a_key_has_its_own_rate(clock: Clock) -> None:
    access = Access(Keys((ONE, TWO)), 2, clock=clock)
    for _ in range(2):
        check(access, ONE)
    with pytest.raises(RateLimited) as error:
        check(access, ONE)
    assert error.value.retry_after == pytest.approx(0.5)
    check(access, TWO)
    clock.now += 0.5
    check(access, ONE)
    with pytest.raises(RateLimited):
        check(access, ONE)
    clock.now += 3600
    for _ in range(2):
        check(access, ONE)
    with pytest.raises(RateLimited):
        check(access, ONE)


def test_a_rate_below_one(clock: Clock) -> None:
    access = Access(Keys((ONE,)), 0.1, clock=clock)
    check(access, ONE)
    with pytest.raises(RateLimited) as error:
        check(access, ONE)
    assert error.value.retry_after == pytest.approx(10)


def test_a_rate_of_the_files_goes_before_the_settings(file: Path, clock: Clock) -> None:
    file.write_text(f"{ONE} rate=1\n{TWO}\n", encoding="utf-8")
    access = Access(Keys(file=file), 5, clock=clock)
    check(access, ONE)
    with pytest.raises(RateLimited):
        check(access, ONE)
    for _ in range(5):
        check(access, TWO)
    with pytest.raises(RateLimited):
        check(access, TWO)


def test_processes_count_together(clock: Clock) -> None:
    buckets = Buckets()
    accesses = [Access(Keys((ONE,)), 3, clock=clock, buckets=buckets) for _ in range(3)]
    for access in accesses:
        check(access, ONE)
    for access in accesses:
        with pytest.raises(RateLimited):
            check(access, ONE)


# Who may


@pytest.mark.parametrize("header", [None, b"", b"one", b"Basic one", b"Bearer", b"Bearer ", b"Bearer One", b"\xff"])
def test_keys_that_do_not_fit(header: bytes | None) -> None:
    headers = {} if header is None else {b"authorization": header}
    with capture_logs(), pytest.raises(Unauthorized):
        Access(Keys(("one", "two"))).check(headers, "/")


def basic(credentials: str) -> bytes:
    return b"Basic " + base64.b64encode(credentials.encode())


@pytest.mark.parametrize("credentials", [f"me:{ONE}", f":{ONE}", f"{ONE}:"])
def test_a_browser_sends_its_key_as_a_password(credentials: str) -> None:
    access = Access(Keys((ONE,)))
    for path in ("/", "/page/main.js"):
        check(access, None, path, authorization=basic(credentials), **{"sec-fetch-site": b"cross-site"})
    for path in ("/models", "/gates", "/openapi.json"):
        for headers in ({}, {"sec-fetch-site": b"same-origin"}, {"sec-fetch-site": b"none"}):
            check(access, None, path, authorization=basic(credentials), **headers)


@pytest.mark.parametrize(
    "sent", [basic("me:another"), basic(f"{ONE}:wrong"), b"Basic " + ONE.encode(), b"Basic", b"Basic =", basic("")]
)
def test_a_password_that_is_no_key(sent: bytes) -> None:
    with pytest.raises(Unauthorized):
        check(Access(Keys((ONE,))), None, "/", authorization=sent)


def test_pages_of_others_cannot_use_the_password_that_a_browser_keeps() -> None:
    access = Access(Keys((ONE,)))
    for site in (b"cross-site", b"same-site"):
        with pytest.raises(Unauthorized):
            check(access, None, "/predict", authorization=basic(f":{ONE}"), **{"sec-fetch-site": site})
    for path in ("/admin/models", "/v2/repository/models/x/load"):
        with pytest.raises(Unauthorized):
            check(access, None, path, authorization=basic(f":{ONE}"), **{"sec-fetch-site": b"same-origin"})


@pytest.mark.parametrize(
    ("path", "accept", "challenge"),
    [
        ("/", b"text/html,application/xhtml+xml,*/*;q=0.8", "Basic"),
        ("/", b"*/*", "Bearer"),
        ("/", b"application/json", "Bearer"),
        ("/models", b"text/html,*/*;q=0.8", "Bearer"),
        ("/page/main.js", b"*/*", "Bearer"),
    ],
)
def test_only_a_person_at_the_page_is_asked_for_a_password(path: str, accept: bytes, challenge: str) -> None:
    access = Access(Keys((ONE,)))
    for sent in ({}, {"authorization": basic(":wrong")}):
        with pytest.raises(Unauthorized) as error:
            check(access, None, path, accept=accept, **sent)
        assert error.value.headers["WWW-Authenticate"].split()[0] == challenge


def test_the_pages_files_do_not_count(clock: Clock) -> None:
    access = Access(Keys((ONE,)), 1, clock=clock)
    for _ in range(40):
        check(access, ONE, "/page/main.js")
    check(access, ONE, "/gates")
    with pytest.raises(RateLimited):
        check(access, ONE, "/gates")


def test_without_keys_everyone_may_ask() -> None:
    assert Access(Keys()).check({}, "/predict") is None
    assert Access(Keys()).check({}, "/admin/models") is None


@pytest.mark.parametrize("path", ["/admin/models", "/admin/models/x/load", "/v2/repository/models/x/unload"])
def test_administration_wants_an_administrators_key_where_there_is_one(path: str) -> None:
    access = Access(Keys((ONE,), (BOSS,)))
    check(access, BOSS, path)
    check(access, BOSS)
    check(access, ONE)
    with pytest.raises(Forbidden):
        check(access, ONE, path)
    with pytest.raises(Unauthorized):
        check(access, None, path)
    check(Access(Keys((ONE,))), ONE, path)


def test_a_key_for_metrics_is_for_metrics_alone(file: Path) -> None:
    file.write_text(f"{ONE} metrics\n{TWO}\n", encoding="utf-8")
    access = Access(Keys(file=file))
    check(access, ONE, "/metrics")
    check(access, TWO, "/metrics")
    for path in ("/predict", "/", "/metrics/x", "/admin/models"):
        with pytest.raises(Forbidden):
            check(access, ONE, path)


def test_a_web_page_of_another_origin_changes_nothing() -> None:
    access = Access(Keys(), origins=("https://console.example",))
    path = "/admin/models/x/unload"
    check(access, None, path, origin=b"https://console.example")
    check(access, None, "/predict", origin=b"https://evil.example")
    for origin in (b"https://evil.example", b"null", b"http://127.0.0.1:8000"):
        with pytest.raises(Forbidden):
            check(access, None, path, origin=origin)


def test_the_name_of_a_key_is_for_the_log(file: Path) -> None:
    file.write_text(f"{ONE} name=acme\n", encoding="utf-8")
    grant = check(Access(Keys(file=file)), ONE)
    assert grant is not None
    assert grant.name == "acme"


# The file


def test_a_file_of_keys() -> None:
    text = f"# keys\n\n  {ONE}\n{TWO} rate=2.5 name=acme\n{BOSS} admin\r\nkey-of-the-scraper metrics\n"
    assert parse(text) == {
        digest(ONE.encode()): Grant(),
        digest(TWO.encode()): Grant(rate=2.5, name="acme"),
        digest(BOSS.encode()): Grant("admin"),
        digest(b"key-of-the-scraper"): Grant("metrics"),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no key"),
        ("# nothing\n\n", "no key"),
        ("clé-secrète\n", "line 1"),
        ("a\nb\na\n", "line 3: the key stands there twice"),
        *[
            (f"{ONE}\nhush-hush {options}\n", "line 2: after the key")
            for options in (
                *("root", "admin metrics", "admin admin", "rate=0", "rate=-1", "rate=nan", "rate=inf", "rate=x"),
                *("rate=", "rate", "name=", "name=é", f"name={'a' * 65}", "rate=1 rate=2", "=", "rate=1e7"),
            )
        ],
    ],
)
def test_a_line_that_is_wrong_is_named_and_not_shown(text: str, words: str, file: Path) -> None:
    with pytest.raises(ValueError, match=words) as error:
        parse(text)
    assert "hush" not in str(error.value)
    file.write_text(text, encoding="utf-8")
    with capture_logs(), pytest.raises(StartupError, match=words):
        Keys(file=file)


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"a" * (MAX_FILE + 1), None])
def test_a_file_that_cannot_be_used_stops_the_start(content: bytes | None, file: Path) -> None:
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StartupError, match="api_keys_file"):
        Keys(file=file)


def test_keys_are_rotated_while_the_service_runs(file: Path, clock: Clock) -> None:
    access = Access(Keys((BOSS,), file=file, clock=clock))
    next_tick(file)  # the new key is as long as the old one
    file.write_text(f"{TWO}\n", encoding="utf-8")
    check(access, ONE)  # not yet: the file is looked at once in a while
    clock.now += LOOK_EVERY
    with capture_logs() as logs:
        check(access, TWO)
    assert [log["event"] for log in logs] == ["API keys read"]
    with pytest.raises(Unauthorized):
        check(access, ONE)
    check(access, BOSS)


def test_a_secret_that_is_swapped_by_its_link_is_read_anew(tmp_path: Path, clock: Clock) -> None:
    for name, key in (("old", ONE), ("new", TWO)):
        (tmp_path / name).write_text(f"{key}\n", encoding="utf-8")
    link = tmp_path / "keys"
    link.symlink_to("old")
    access = Access(Keys(file=link, clock=clock))
    check(access, ONE)
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").rename(link)
    clock.now += LOOK_EVERY
    with capture_logs():
        check(access, TWO)


@pytest.mark.parametrize("content", [b"", b"# all gone\n", b"\xff", b"a b c\n", None])
def test_a_file_that_is_broken_later_changes_nothing_and_is_told_of_once(
    content: bytes | None, file: Path, clock: Clock
) -> None:
    access = Access(Keys(file=file, clock=clock))
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with capture_logs() as logs:
        for _ in range(3):
            clock.now += LOOK_EVERY
            check(access, ONE)
            with pytest.raises(Unauthorized):
                check(access, None)
    assert [log["event"] for log in logs] == ["the API keys stay as they were"]
    file.write_text(f"{TWO}\n", encoding="utf-8")
    clock.now += LOOK_EVERY
    with capture_logs():
        check(access, TWO)


def test_no_key_stays_in_memory(file: Path) -> None:
    keys = Keys((TWO,), (BOSS,), file)
    assert not any(key in repr(vars(keys)) for key in (ONE, TWO, BOSS))
    assert all(isinstance(key, bytes) and len(key) == 32 for key in keys.current())


def test_short_keys_are_warned_of(file: Path) -> None:
    file.write_text("short\n", encoding="utf-8")
    with capture_logs() as logs:
        Keys(("also-short", ONE), file=file)
    assert [(log["log_level"], log["keys"]) for log in logs] == [("warning", 1), ("warning", 1)]
    assert "short" not in str([log.get("reason") for log in logs])


# What the log says of a key


def test_a_refusal_names_the_key_and_never_shows_it(file: Path, clock: Clock) -> None:
    file.write_text(f"# keys\n{ONE} rate=1\n{TWO} rate=1 name=acme\n\nkey-of-the-scraper metrics\n", encoding="utf-8")
    access = Access(Keys(("key-of-settings",), (BOSS,), file), 1, clock=clock)
    labels = {
        ONE: "api_keys_file line 2",
        TWO: "acme",
        "key-of-settings": "api_keys 1",
        BOSS: "admin_keys 1",
    }
    for key, label in labels.items():
        check(access, key)
        with pytest.raises(RateLimited) as limited:
            check(access, key)
        assert limited.value.key == label
        assert key not in limited.value.detail
    with pytest.raises(Forbidden) as forbidden:
        check(access, "key-of-the-scraper")
    assert forbidden.value.key == "api_keys_file line 5"
