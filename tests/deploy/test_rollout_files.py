"""What compose and KServe show of versions, canary and shadow: true to the service, and valid."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from docs.interface import whole_document
from service.settings import Settings, variable
from tests.deploy.kustomize import render
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
KSERVE = ROOT / "deploy" / "kserve" / "inferenceservice.yaml"
SERVICE: dict[str, Any] = yaml.safe_load(KSERVE.read_text(encoding="utf-8"))
CLIENTS = ROOT / ".venv-clients" / "bin" / "python"
COMPONENTS = ("predictor", "explainer")
OWN = ("minReplicas",)
"""Of a component, what is KServe's own; all else is a pod's."""

components = pytest.mark.parametrize("component", COMPONENTS)


def pod(component: str) -> dict[str, Any]:
    return {name: value for name, value in SERVICE["spec"][component].items() if name not in OWN}


def container(component: str) -> dict[str, Any]:
    (found,) = pod(component)["containers"]
    return dict(found)


def test_compose_passes_versions_canary_and_shadow_on() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    passed = compose["services"]["service"]["environment"]
    for name in ("VERSIONS", "CANARY", "SHADOW"):
        (default,) = re.findall(rf"^\$\{{{name}:-(.*)\}}$", passed[f"SERVICE_{name}"])
        assert default == Settings.model_fields[name.lower()].default


@components
def test_the_pods_are_valid(component: str) -> None:
    wrapped = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": component}, "spec": pod(component)}
    kubernetes_validate.validate(wrapped, kubernetes_validate.latest_version(), strict=True)


@components
def test_the_pods_are_hardened_as_those_of_the_deployment_are(component: str) -> None:
    (deployment,) = (each for each in render(ROOT / "deploy" / "kubernetes" / "base") if each["kind"] == "Deployment")
    base = deployment["spec"]["template"]["spec"]
    own, other = container(component), base["containers"][0]
    assert pod(component)["securityContext"] == base["securityContext"]
    assert pod(component)["volumes"] == base["volumes"]
    for name in ("image", "securityContext", "resources", "volumeMounts"):
        assert own[name] == other[name]
    assert own["name"] == "kserve-container"
    assert own["ports"][0]["containerPort"] == Settings.model_fields["port"].default


@components
def test_probes_and_variables_are_the_service_s(component: str) -> None:
    paths, one = whole_document()["paths"], container(component)
    assert one["livenessProbe"]["httpGet"]["path"] in paths
    name = one["readinessProbe"]["httpGet"]["path"].removeprefix("/v1/models/")
    assert "/v1/models/{name}" in paths
    assert (ROOT / "models" / name).is_dir()
    known = {variable(name) for name in Settings.model_fields}
    assert {each["name"] for each in one["env"]} <= known


CONTROLLER = {
    "predictor": (),
    "explainer": (
        "--model_name",
        "gatelight",
        "--predictor_host",
        "gatelight.space",
        "--http_port",
        "8080",
        "--workers",
        "4",
    ),
}
"""Arguments that KServe's controller adds to a container of one's own, the last two if `containerConcurrency` is set
(`GetContainer` in its `pkg/apis/serving/v1beta1`)."""


@components
@pytest.mark.parametrize("added", [True, False])
def test_the_container_starts_the_service_with_the_controller_s_arguments(
    component: str, added: bool, tmp_path: Path
) -> None:
    image = re.search(r"^FROM common AS serving\n(?:.*\n)*?CMD (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert image is not None
    own, one = json.loads(image[1]), container(component)
    args = [*one.get("args", ()), *(CONTROLLER[component] if added else ())]
    # Kubernetes: a command replaces the image's entry point (there is none) and its CMD, arguments replace its CMD.
    line = [*one["command"], *args] if "command" in one else args or own
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$$"\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    started = subprocess.Popen(line, env=path, stdout=subprocess.PIPE, text=True)
    said, _ = started.communicate(timeout=PATIENCE)
    assert said.split() == [str(started.pid), *own[1:]], "the first process is the service, so that signals reach it"
    assert own[0] == stub.name


@pytest.mark.skipif(not CLIENTS.exists(), reason="kserve is not installed: make clients")
def test_kserve_s_own_models_know_every_field() -> None:
    script = (
        "import json, sys\n"
        "from kserve import V1beta1InferenceServiceSpec, V1beta1PredictorSpec, V1beta1ExplainerSpec\n"
        "spec = json.load(sys.stdin)\n"
        "kinds = {'predictor': V1beta1PredictorSpec, 'explainer': V1beta1ExplainerSpec}\n"
        "assert set(spec) <= set(V1beta1InferenceServiceSpec.attribute_map.values())\n"
        "for name, component in spec.items():\n"
        "    unknown = set(component) - set(kinds[name].attribute_map.values())\n"
        "    assert not unknown, unknown\n"
    )
    done = subprocess.run(
        [str(CLIENTS), "-c", script], input=json.dumps(SERVICE["spec"]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
