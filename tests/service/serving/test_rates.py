"""Buckets of requests by key, in memory that forked processes share."""

from __future__ import annotations

import os

from service.serving.rates import Buckets


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
