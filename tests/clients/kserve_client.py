"""KServe's own REST client at a running service: what it answers, as JSON. Run by `.venv-clients`, never imported.

python kserve_client.py URL MODEL TEXT…
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


async def ask(url: str, model: str, texts: list[str]) -> dict[str, Any]:
    """Every call that the client has, with JSON and with binary tensors."""
    import numpy as np
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    found: dict[str, Any] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model": await client.is_model_ready(url, model),
    }
    array = np.array([text.encode() for text in texts], np.object_)
    for binary in (False, True):
        text = InferInput("text", [len(texts)], "BYTES")
        text.set_data_from_numpy(array, binary_data=binary)
        outputs = [RequestedOutput(name, {"binary_data": binary}) for name in ("label", "score", "lengths")]
        request = InferRequest(
            model, [text], "an-id", request_outputs=outputs, parameters={"truncate": True, "mine": "x"}
        )
        answer = await client.infer(url, request, model_name=model)
        found["binary" if binary else "json"] = {
            "id": answer.id,
            "model": answer.model_name,
            "parameters": answer.parameters,
            "outputs": {output.name: [str(value) for value in output.data] for output in answer.outputs},
        }
    bare = InferRequest(model, [InferInput("text", [1], "BYTES", [texts[0]])])
    found["bare"] = [output.name for output in (await client.infer(url, bare, model_name=model)).outputs]
    try:
        await client.infer(url, InferRequest(model, [InferInput("text", [2], "BYTES", [texts[0]])]), model_name=model)
    except Exception as error:
        found["error"] = str(error)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(sys.argv[1], sys.argv[2], sys.argv[3:]))))
