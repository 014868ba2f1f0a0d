"""TorchServe with its batching: requests that come within 5 ms of each other, at most 32, in two workers. The file is
its own handler: the archiver packs it, and each worker calls `handle`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.peers.common import MAX_BATCH, WORKERS, Predictor, bundle_folder

MODEL = "sentiment"
_DELAY_MS = 5


@cache
def _predictor() -> Predictor:
    return Predictor(bundle_folder(), threads=1)


def handle(requests: list[dict[str, Any]] | None, context: object) -> list[dict[str, Any]]:
    """A batch of request bodies → a prediction for each. TorchServe calls it once without requests, to load."""
    return _predictor()([request["body"]["inputs"] for request in requests]) if requests else []


def _configured(store: Path, port: int) -> Path:
    """The configuration file. The other two addresses take any free port."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        others = [listener.getsockname()[1] for listener in (one, two)]
    model = {
        "marName": f"{MODEL}.mar",
        "defaultVersion": True,
        "minWorkers": WORKERS,
        "maxWorkers": WORKERS,
        "batchSize": MAX_BATCH,
        "maxBatchDelay": _DELAY_MS,
        "responseTimeout": 120,
    }
    lines = {
        "inference_address": f"http://127.0.0.1:{port}",
        "management_address": f"http://127.0.0.1:{others[0]}",
        "metrics_address": f"http://127.0.0.1:{others[1]}",
        "enable_grpc_service": "false",
        "disable_system_metrics": "true",
        "disable_token_authorization": "true",
        "load_models": f"{MODEL}.mar",
        "models": json.dumps({MODEL: {"1.0": model}}),
    }
    file = store / "config.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    return file


def _serve(port: int) -> int:
    tools = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="torchserve-") as scratch:
        store = Path(scratch)
        pack = [str(tools / "torch-model-archiver"), "--model-name", MODEL, "--version", "1.0", "--handler", __file__]
        subprocess.run([*pack, "--export-path", scratch], check=True)  # noqa: S603 # ours
        config = _configured(store, port)
        start = [str(tools / "torchserve"), "--start", "--foreground", "--ncs", "--model-store", scratch]
        environment = {**os.environ, "TMPDIR": scratch, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
        command = [*start, "--ts-config", str(config), "--disable-token-auth"]
        return subprocess.run(command, cwd=scratch, env=environment, check=False).returncode  # noqa: S603 # ours


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    sys.exit(_serve(arguments.parse_args().port))
