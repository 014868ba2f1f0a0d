#!/usr/bin/env bash
# kserve 0.21.0: InferenceRESTClient loses a server's error text unless its media type is exactly "application/json".
# The type is compared as text. "application/json; charset=utf-8", which aiohttp and many frameworks send, and
# "application/problem+json" (RFC 9457) hold the same member "error", and the exception's message begins with nothing.
# The same happens in both protocols, v1 and v2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet kserve==0.21.0
venv/bin/python -W ignore - <<'PY'
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

import httpx
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

TYPES = ["application/json", "application/json; charset=utf-8", "application/problem+json"]
TEXT = "there is no model of this name"


class Server(BaseHTTPRequestHandler):
    kind = ""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"error": TEXT}).encode()
        self.send_response(404)
        self.send_header("Content-Type", Server.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


async def ask(url, protocol):
    client = InferenceRESTClient(RESTConfig(protocol=protocol, retries=0))
    words = InferInput("text", [1], "BYTES", data=["a film"])
    data = {"instances": ["a film"]} if protocol == "v1" else InferRequest("none", [words])
    try:
        await client.infer(url, data, model_name="none")
    except httpx.HTTPStatusError as error:
        return str(error)
    raise AssertionError("no error")


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
print("kserve", version("kserve"))
for protocol in ("v1", "v2"):
    for Server.kind in TYPES:
        said = asyncio.run(ask(url, protocol))
        print(f"{protocol}, {Server.kind}: {said.split(' for url')[0]}")
        assert (TEXT in said) is (Server.kind == "application/json"), said
print("Only the bare media type keeps the text; with a charset, or as a problem, it is lost.")
PY
