"""KServe's own REST client with its first protocol: its answers as JSON. Run by `.venv-clients`, never imported.

python kserve_v1_client.py URL MODEL TEXT…
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


async def ask(url: str, model: str, texts: list[str]) -> dict[str, Any]:
    """The calls that the protocol has, but for `is_server_live`, which asks for JSON where the explorer's page is."""
    from httpx import HTTPStatusError
    from kserve import InferenceRESTClient, RESTConfig

    client = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
    body = {"instances": [{"text": text} for text in texts]}
    found: dict[str, Any] = {
        "ready": await client.is_model_ready(url, model),
        "predictions": (await client.infer(url, body, model_name=model))["predictions"],
        "explanations": (await client.explain(url, model, body))["explanations"],
    }
    try:
        await client.infer(url, body, model_name="none")
    except HTTPStatusError as error:
        found["error"] = error.response.json()["error"]
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(sys.argv[1], sys.argv[2], sys.argv[3:]))))
