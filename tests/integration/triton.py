"""tritonclient's own HTTP client at the service, and requests of the Open Inference Protocol over plain HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.integration.conftest import Process

triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
utils = pytest.importorskip("tritonclient.utils", reason="tritonclient[http] is not installed")
InferenceServerException = utils.InferenceServerException

TEXTS = ["A great film.", "Ada Lovelace lived in London. 🎉 naïve", "bad"]


def connect(service: Process) -> Any:
    return triton.InferenceServerClient(service.url.removeprefix("http://"))


def texts(values: list[str] = TEXTS, *, binary: bool = True, column: bool = False) -> Any:
    array = np.array([value.encode() for value in values], np.object_)
    array = array.reshape(-1, 1) if column else array
    tensor = triton.InferInput("text", list(array.shape), "BYTES")
    return tensor.set_data_from_numpy(array, binary_data=binary)


def wanted(*names: str, binary: bool = True) -> list[Any]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def decoded(array: NDArray[Any]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in array.reshape(-1)]


def infer(client: httpx.Client, body: Any, model: str = "sentiment-bilstm") -> httpx.Response:
    return client.post(f"/v2/models/{model}/infer", json=body)


def body(**more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"], **more}]}


def binary(data: bytes, size: int, header: str | None = None, count: int = 1) -> dict[str, Any]:
    """A request whose text is binary, as httpx takes it."""
    tensor = {"name": "text", "shape": [count], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = httpx.Request("POST", "http://x", json={"inputs": [tensor]}).content
    return {
        "content": head + data,
        "headers": {"Inference-Header-Content-Length": str(len(head)) if header is None else header},
    }
