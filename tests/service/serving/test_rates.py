"""Rates of requests and of tokens, counted in memory that processes share."""

from __future__ import annotations

import os

import pytest

from service.serving.rates import Buckets, KeyPace, Pace, waits


def test_forked_processes_see_the_same_buckets() -> None:
    buckets = Buckets()
    child = os.fork()
    if not child:
        buckets.take(b"k" * 32, 0.001, 5.0)
        os._exit(0)
    os.waitpid(child, 0)
    assert buckets.take(b"k" * 32, 0.001, 5.0) > 0


def test_buckets_of_keys_that_have_gone_are_taken_over() -> None:
    buckets = Buckets()
    for number in range(Buckets.TRIES + 20):
        key = (1 + number * 2 * Buckets.SLOTS).to_bytes(8, "little") * 4
        assert buckets.take(key, 1, 100.0 + number) == 0
        assert buckets.take(key, 1, 100.0 + number) == 1


def test_a_pace_allows_a_seconds_tokens_and_grows_back() -> None:
    pace = Pace(10, now=0.0)
    assert pace.take(10, 0.0) == 0
    assert pace.take(5, 0.0) == pytest.approx(0.5)
    assert pace.take(5, 0.5) == pytest.approx(0.5)
    assert pace.take(10, 100.0) == 0  # no more than a second's was saved up
    assert pace.take(1, 100.0) == pytest.approx(0.1)
    assert waits([Pace(10, 0.0), Pace(5, 0.0)], 20, 0.0) == pytest.approx(3.0)
    assert waits([], 20, 0.0) == 0


def test_tokens_are_spent_as_a_pace_does() -> None:
    buckets, pace, key = Buckets(), Pace(10, now=1.0), b"k" * 32
    for tokens, now in ((10, 1.0), (5, 1.0), (5, 1.5), (10, 100.0), (1, 100.0), (0.5, 100.0)):
        assert buckets.spend(key, 10, tokens, now) == pytest.approx(pace.take(tokens, now))  # type: ignore[arg-type]  # half a token is tried too
    assert buckets.spend(b"other" * 8, 10, 1, 100.0) == 0
    assert buckets.spend(b"small" * 8, 0.5, 1, 100.0) == pytest.approx(1)  # half a token is all that is saved up


def test_forked_processes_spend_the_tokens_of_one_key() -> None:
    buckets = Buckets()
    child = os.fork()
    if not child:
        KeyPace("a", 1e-3, buckets).take(7)
        os._exit(0)
    os.waitpid(child, 0)
    assert KeyPace("a", 1e-3, buckets).owed == pytest.approx(7_000 - 1, abs=60)
    assert KeyPace("b", 1e-3, buckets).owed == 0
