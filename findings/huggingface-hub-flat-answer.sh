#!/usr/bin/env bash
# huggingface_hub 2.4.0: InferenceClient.text_classification returns one element instead of a list for a flat answer.
# The published schema of the task's output is a flat list of label and score. The client takes item 0 of it.
# With top_k=2 the second class is lost, and code that loops over the result fails. A list inside a list comes back whole.
# token_classification has no such step: it returns the flat list, and a nested one nested.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet huggingface_hub==2.4.0
venv/bin/python -W ignore - <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from huggingface_hub import InferenceClient, TextClassificationOutputElement, __version__

CLASSES = [{"label": "positive", "score": 0.9}, {"label": "negative", "score": 0.1}]


class Server(BaseHTTPRequestHandler):
    answer: object = None

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(Server.answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = InferenceClient(model=f"http://127.0.0.1:{server.server_port}")
Server.answer = CLASSES
flat = client.text_classification("a good film", top_k=2)
Server.answer = [CLASSES]
nested = client.text_classification("a good film", top_k=2)
Server.answer = [{"entity_group": "PER", "score": 0.9, "word": "Ada", "start": 0, "end": 3}]
entities = client.token_classification("Ada")
server.shutdown()
print(f"huggingface_hub {__version__}, top_k=2: flat answer gives {flat}, nested answer gives {nested}")
assert isinstance(flat, TextClassificationOutputElement) and flat.label == "positive", flat
assert isinstance(nested, list) and [one.label for one in nested] == ["positive", "negative"], nested
assert isinstance(entities, list) and len(entities) == 1, entities
print("The flat list, the form of the schema, lost its second class; token_classification keeps a flat list.")
PY
