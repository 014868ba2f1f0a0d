"""Numbers of a running service, as `/metrics` tells them."""

from __future__ import annotations

from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import Process
from tests.patience import PATIENCE


def value(service: Process, name: str, **labels: str) -> float:
    """One number; 0 where there is none yet. Each time over a new connection, so that any worker may answer."""
    connection = HTTPConnection(service.url.removeprefix("http://"), timeout=PATIENCE)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == 200, text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"gatelight_{name}" and sample.labels == labels:
                return sample.value
    return 0.0
