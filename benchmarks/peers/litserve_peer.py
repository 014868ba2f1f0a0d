"""LitServe with its batching: requests that come within 5 ms of each other, at most 32, in two workers."""

# No `from __future__ import annotations` here: LitServe reads the annotation of `decode_request` as it stands.
import argparse
from typing import Any

import litserve

from benchmarks.peers.common import MAX_BATCH, WORKERS, Predictor, bundle_folder


class Sentiment(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.predictor = Predictor(bundle_folder(), threads=1)

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["inputs"])

    def batch(self, inputs: list[str]) -> list[str]:
        return inputs

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        return self.predictor(texts)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return {"predictions": [output]}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    server = litserve.LitServer(
        Sentiment(max_batch_size=MAX_BATCH, batch_timeout=0.005), accelerator="cpu", workers_per_device=WORKERS
    )
    server.run(host="127.0.0.1", port=arguments.parse_args().port, generate_client_file=False, log_level="warning")
