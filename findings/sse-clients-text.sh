#!/usr/bin/env bash
# requests-sse 0.5.3, aiohttp-sse-client2 0.3.0 and aiosseclient 0.1.8 change the text of server-sent events.
# By the standard one space after the colon goes, and one line feed at the end. requests-sse and aiohttp-sse-client2 take away
# all of them: the words of a text sent one by one as " film", " is" stick together, and a line feed at the end is lost.
# requests-sse makes two events of one, in the middle of it, when its lines end in CR LF and a chunk of the answer ends between
# the two. aiosseclient cuts a line at U+2028, U+0085 and others, which JSON may hold as they are: the end of the JSON is gone;
# and it leaves out an empty first line. A logged line at most, no error. httpx-sse 0.4.3 reads all of it as the standard says.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet requests-sse==0.5.3 aiohttp-sse-client2==0.3.0 aiosseclient==0.1.8 httpx-sse==0.4.3 httpx==0.28.1
venv/bin/python -W ignore - <<'PY'
import asyncio
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
import aiosseclient
import httpx
import httpx_sse
import requests_sse
from aiohttp_sse_client2 import client as aiohttp_sse

logging.disable(logging.CRITICAL)
TOKEN = {"token": "a\u2028b"}
CASES = {  # chunks of the answer, the data of its events by the standard
    "plain": ([b"data: The\n\n", b"data: film\ndata: is\n\n"], ["The", "film\nis"]),
    "words": ([b"data: The\n\n", b"data:  film\n\n", b"data:  is\n\n"], ["The", " film", " is"]),
    "last line feed": ([b"data: over\ndata:\ndata:\n\n"], ["over\n\n"]),
    "CR LF in two chunks": ([b"data: one\r", b"\ndata: two\r\n\r\n"], ["one\ntwo"]),
    "U+2028 in JSON": ([b"data: " + json.dumps(TOKEN, ensure_ascii=False).encode() + b"\n\n"], [json.dumps(TOKEN, ensure_ascii=False)]),
    "first line empty": ([b"data:\ndata: text\n\n"], ["\ntext"]),
}
END = b"event: end\ndata: end\n\n"


class Stream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in [*list(CASES.values())[int(self.path[1:])][0], END, b""]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    def log_message(self, *_):
        pass


def with_httpx(url):
    with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
        return [event.data for event in source.iter_sse()]


def with_requests(url):
    found = []
    with requests_sse.EventSource(url) as source:
        for event in source:
            found.append(event.data)
            if event.type == "end":
                return found


async def with_aiohttp(url):
    found = []
    async with aiohttp_sse.EventSource(url) as source:
        async for event in source:
            found.append(event.data)
            if event.type == "end":
                return found


async def with_aiosseclient(url):
    return [event.data async for event in aiosseclient.aiosseclient(url)]


CLIENTS = {  # what each client reads otherwise than the standard says
    "httpx-sse": (with_httpx, {}),
    "requests-sse": (
        with_requests,
        {"words": ["The", "film", "is"], "last line feed": ["over"], "CR LF in two chunks": ["one", "two"]},
    ),
    "aiohttp-sse-client2": (with_aiohttp, {"words": ["The", "film", "is"], "last line feed": ["over"]}),
    "aiosseclient": (with_aiosseclient, {"U+2028 in JSON": ['{"token": "a'], "first line empty": ["text"]}),
}
server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
threading.Thread(target=server.serve_forever, daemon=True).start()
for client, (read, otherwise) in CLIENTS.items():
    print(f"{client} {version(client)}: " + ("" if otherwise else "all as the standard says"))
    for place, (case, (_, standard)) in enumerate(CASES.items()):
        url = f"http://127.0.0.1:{server.server_address[1]}/{place}"
        found = asyncio.run(read(url)) if asyncio.iscoroutinefunction(read) else read(url)
        assert found.pop() == "end", found
        if found != standard:
            print(f"    {case}: {found}, not {standard}")
        assert found == otherwise.get(case, standard), (client, case, found)
server.shutdown()
print("Send each event as one line of JSON without raw U+2028 or U+0085: all four read that alike.")
PY
