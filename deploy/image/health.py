"""Whether the service of this container is ready: what Docker asks every ten seconds.

It imports as little as possible, from the standard library alone: it takes some 50 ms of one core. Over TLS the
certificate is not checked: it names another host than this one, and nothing else can answer here.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import sys

SECONDS = 4


def ready(port: int, *, tls: bool) -> bool:
    """Ask once; an answer that does not come raises `OSError`."""
    connection = _encrypted(port) if tls else http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200


def _encrypted(port: int) -> http.client.HTTPConnection:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=context)


if __name__ == "__main__":
    found = ready(int(os.environ.get("SERVICE_PORT") or 8000), tls=bool(os.environ.get("SERVICE_TLS_CERTIFICATE")))
    sys.exit(not found)
