"""Prometheus' rules and Grafana's dashboard: right in themselves, and about metrics that the service really exposes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.serving import free_port
from service.observability.metrics import DERIVED, FAMILIES, PREFIX
from tests.integration.conftest import Process
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "gatelight.json").read_text(encoding="utf-8"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
MODEL = "sentiment-bilstm"

EXPOSED = {
    PREFIX + family.name + suffix
    for family in (*FAMILIES, *DERIVED)
    for suffix in (("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",))
}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def tool(name: str) -> str:
    """A program of Debian's package prometheus."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} here (Debian's package prometheus)")
    return found


def promtool(*arguments: str, folder: Path) -> None:
    result = subprocess.run([tool("promtool"), *arguments], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_configuration_and_the_rules_are_valid() -> None:
    promtool("check", "config", "--syntax-only", "prometheus.yml", folder=RULES.parent)
    promtool("check", "rules", "--lint-fatal", "rules.yml", folder=RULES.parent)


def test_the_rules_do_what_they_should(tmp_path: Path) -> None:
    for file in (RULES, Path(__file__).parent / "rules_test.yml"):
        shutil.copy(file, tmp_path)
    promtool("test", "rules", "rules_test.yml", folder=tmp_path)


def test_every_alert_is_tested() -> None:
    tests = yaml.safe_load((Path(__file__).parent / "rules_test.yml").read_text(encoding="utf-8"))["tests"]
    raised = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case.get("exp_alerts")}
    assert raised == {rule["alert"] for rule in rules() if "alert" in rule}
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"].keys() == {"summary", "description"}


def test_only_metrics_that_there_are_are_asked_for() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    files = [RULES, DEPLOY / "grafana" / "gatelight.json", *(DEPLOY / "kubernetes").rglob("*.yaml")]
    names = {
        name
        for file in files
        for name in re.findall(r"\b(?:\w+:)?gatelight_\w+(?::\w+)*", file.read_text(encoding="utf-8"))
    }
    assert names
    assert names <= EXPOSED | recorded


def test_the_dashboard_is_provisioned() -> None:
    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["services"]["grafana"]["volumes"])
    for source in mounts:
        assert not source.startswith("./") or (ROOT / source).is_file()
    provider = yaml.safe_load((DEPLOY / "grafana" / "provider.yml").read_text(encoding="utf-8"))["providers"][0]
    assert Path(mounts["./deploy/grafana/gatelight.json"]).parent == Path(provider["options"]["path"])
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yml").read_text(encoding="utf-8"))["datasources"]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])}
    assert used == {source["uid"]}
    host, port = source["url"].removeprefix("http://").split(":")
    assert COMPOSE["services"][host]["ports"][0].endswith(f":{port}")
    scraped = yaml.safe_load((RULES.parent / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"][0]
    assert scraped["dns_sd_configs"][0]["names"] == [name for name in COMPOSE["services"] if name.startswith("service")]


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Any]]]:
    """A Prometheus with the rules, beside a service that is used and sometimes refuses: a query's results."""
    program, folder = tool("prometheus"), tmp_path_factory.mktemp("prometheus")
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "models" / MODEL, models / MODEL)
    service = Process(folder, models, "--queue-tokens", "40", "--gate-sample", "1", "--full-metrics").until_ready()
    address = f"127.0.0.1:{free_port()}"
    target = service.url.removeprefix("http://")
    configuration = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "gatelight", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration), encoding="utf-8")
    flags = ("--config.file=prometheus.yml", f"--web.listen-address={address}", "--storage.tsdb.path=data")
    with (folder / "prometheus.log").open("wb") as log:
        prometheus = subprocess.Popen([program, *flags], cwd=folder, stdout=log, stderr=log)

    def ask(query: str) -> list[Any]:
        """The results of a query, as soon as there are any, while the service goes on being used."""
        limit = time.monotonic() + PATIENCE
        while True:
            service.client.post("/predict", json={"inputs": "a good film"})
            service.client.post("/predict", json={"inputs": ["word " * 30] * 3})
            service.client.post("/gates", json={"inputs": "a good film"})
            try:
                answer = httpx.get(f"http://{address}/api/v1/query", params={"query": query}, timeout=PATIENCE)
                starting = answer.status_code == 503
                assert starting or answer.status_code == 200, answer.text
                found: list[Any] = [] if starting else answer.json()["data"]["result"]
            except httpx.TransportError:
                found = []  # it does not listen yet
            if found:
                return found
            assert time.monotonic() < limit, f"no answer to {query}\n{(folder / 'prometheus.log').read_text()[-2000:]}"
            time.sleep(0.2)

    try:
        yield ask
    finally:
        prometheus.terminate()
        prometheus.wait(PATIENCE)
        service.close()


@pytest.mark.slow
def test_every_panel_has_something_to_show(ask: Callable[[str], list[Any]]) -> None:
    for query in dashboard_queries():
        values = [result["value"][1] for result in ask(query.replace("$__rate_interval", "30s"))]
        assert any(value != "NaN" for value in values), query


@pytest.mark.slow
def test_every_recording_rule_records(ask: Callable[[str], list[Any]]) -> None:
    for rule in rules():
        if "record" in rule:
            assert ask(rule["record"])
