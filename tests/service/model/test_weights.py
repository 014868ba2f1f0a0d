"""The reader of weights in memory: what the library writes, it reads; what does not fit its header, it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from safetensors.numpy import save

from service.errors import BundleError
from service.model.weights import read

KINDS = ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "i1", "u1")
ARRAYS = st.sampled_from(KINDS).flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0)))


@given(st.dictionaries(st.text(min_size=1), ARRAYS, max_size=4))
def test_it_reads_what_the_library_writes(written: dict[str, NDArray[Any]]) -> None:
    written.pop("__metadata__", None)
    content = save({name: np.ascontiguousarray(array) for name, array in written.items()}, {"format": "np"})
    found = read(memoryview(content))
    assert found.keys() == written.keys()
    for name, each in found.items():
        assert each.array.dtype == written[name].dtype
        np.testing.assert_array_equal(each.array, written[name])
        assert content[each.start : each.stop] == written[name].tobytes()
        assert not each.array.flags.writeable


def encoded(header: object, numbers: bytes) -> memoryview:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return memoryview(len(text).to_bytes(8, "little") + text + numbers)


def tensor(start: int, stop: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (memoryview(b""), "shorter than its header"),
        (memoryview(b"\xff" * 12), "shorter than its header"),
        (encoded(b"{", b""), "its header is not one of safetensors"),
        (encoded([], b""), "its header is not one of safetensors"),
        (encoded({"a": {"dtype": "F32"}}, b""), "its header is not one of safetensors"),
        (encoded({"a": tensor(0, 4, [-1])}, bytes(4)), "its header is not one of safetensors"),
        (encoded({"a": tensor(0, 4, [2])}, bytes(4)), "'a' lies at [0, 4], by its shape at [0, 8]"),
        (encoded({"a": tensor(4, 8, [1])}, bytes(8)), "'a' lies at [4, 8], by its shape at [0, 4]"),
        (encoded({"a": tensor(0, 4, [1]), "b": tensor(0, 4, [1])}, bytes(4)), "'b' lies at [0, 4]"),
        (encoded({"a": tensor(0, 4, [1])}, bytes(3)), "'a' lies at"),
        (encoded({"a": tensor(0, 4, [1])}, bytes(5)), "it has 5 bytes of numbers, by its header 4"),
        (encoded({"a": tensor(0, 2, [1], "BF16")}, bytes(2)), "numbers of the type 'BF16'"),
    ],
)
def test_what_does_not_fit_its_header_is_refused(content: memoryview, reason: str) -> None:
    with pytest.raises(BundleError) as caught:
        read(content)
    assert reason in str(caught.value)


@given(st.binary(max_size=80))
def test_noise_raises_nothing_else(noise: bytes) -> None:
    for content in (memoryview(noise), encoded(noise, b"")):
        try:
            read(content)
        except BundleError:
            continue
