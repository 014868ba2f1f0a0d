"""deploy/kubernetes: valid against the cluster's own schemas, hardened, and true to the service that it runs."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service import settings
from service.http.app import create_app
from service.settings import Settings, variable
from tests.deploy.kustomize import Object, render

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml"))
VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())
SELECTOR = {"app.kubernetes.io/name": "gatelight"}

overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def of_kind(overlay: str, kind: str) -> Object:
    (found,) = (each for each in render(KUBERNETES / overlay) if each["kind"] == kind)
    return found


def pod(overlay: str) -> Object:
    found: Object = of_kind(overlay, "Deployment")["spec"]["template"]["spec"]
    return found


def container(overlay: str) -> Object:
    (found,) = pod(overlay)["containers"]
    return dict(found)


def environment(overlay: str) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(overlay)["env"]}


def test_the_overlays_are_these() -> None:
    assert OVERLAYS == ["base", "gpu", "rollout", "volume"]


@overlays
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(overlay: str, version: str) -> None:
    for each in render(KUBERNETES / overlay):
        kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_know_a_mistake() -> None:
    wrong = copy.deepcopy(of_kind("base", "Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@overlays
def test_kubectl_renders_the_same(overlay: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl here to hold the rendering against")
    result = subprocess.run([kubectl, "kustomize", str(KUBERNETES / overlay)], capture_output=True, check=True)

    def by_kind(objects: list[Object]) -> dict[str, Object]:
        return {each["kind"]: each for each in objects}

    assert by_kind(list(yaml.safe_load_all(result.stdout))) == by_kind(render(KUBERNETES / overlay))


def test_every_file_is_used() -> None:
    used = {KUBERNETES / "adapter-rules.yaml"}
    for overlay in OVERLAYS:
        file = KUBERNETES / overlay / "kustomization.yaml"
        resources = yaml.safe_load(file.read_text(encoding="utf-8"))["resources"]
        used |= {file, *((file.parent / each).resolve() for each in resources if each.endswith(".yaml"))}
    assert used == set(KUBERNETES.rglob("*.yaml"))


@overlays
def test_pods_meet_the_restricted_standard(overlay: str) -> None:
    security, own = pod(overlay)["securityContext"], container(overlay)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(overlay)["automountServiceAccountToken"] is False
    kinds = {kind for volume in pod(overlay)["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "persistentVolumeClaim", "secret"}
    (user,) = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert (security["runAsUser"], security["runAsGroup"]) == tuple(map(int, user))


@overlays
def test_only_tmp_can_be_written(overlay: str) -> None:
    volumes = {each["name"]: each for each in pod(overlay)["volumes"]}
    for mount in container(overlay)["volumeMounts"]:
        writable = not mount.get("readOnly", False)
        assert writable == (mount["mountPath"] == "/tmp")
        if writable:
            assert volumes[mount["name"]]["emptyDir"]["medium"] == "Memory"


@overlays
def test_probes_ask_for_routes_that_there_are(overlay: str) -> None:
    paths: Any = create_app(settings.read(_env_file=None)).openapi()["paths"]
    one = container(overlay)
    for probe, path in {"startup": "live", "readiness": "ready", "liveness": "live"}.items():
        get = one[f"{probe}Probe"]["httpGet"]
        assert get == {"path": f"/health/{path}", "port": "http"}
        assert get["path"] in paths
    assert one["ports"] == [{"name": "http", "containerPort": Settings.model_fields["port"].default}]


@overlays
def test_variables_are_settings_and_their_values_are_right(overlay: str) -> None:
    values = environment(overlay)
    names = {variable(name): name for name in Settings.model_fields}
    assert values.keys() <= names.keys()
    settings = Settings.model_validate({names[name]: value for name, value in values.items()})
    assert settings.drain_seconds + settings.grace_seconds < pod(overlay)["terminationGracePeriodSeconds"]
    readiness = container(overlay)["readinessProbe"]
    assert settings.drain_seconds > readiness["periodSeconds"] * readiness["failureThreshold"]


@overlays
def test_everything_is_about_the_same_pods(overlay: str) -> None:
    template = of_kind(overlay, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert template.items() >= SELECTOR.items()
    assert of_kind(overlay, "Deployment")["spec"]["selector"] == {"matchLabels": SELECTOR}
    assert of_kind(overlay, "Service")["spec"]["selector"] == SELECTOR
    assert of_kind(overlay, "NetworkPolicy")["spec"]["podSelector"] == {"matchLabels": SELECTOR}
    assert of_kind(overlay, "PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": SELECTOR}
    target = of_kind(overlay, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", of_kind(overlay, "Deployment")["metadata"]["name"])


@overlays
def test_only_the_autoscaler_says_how_many(overlay: str) -> None:
    assert "replicas" not in of_kind(overlay, "Deployment")["spec"]
    scaler, budget = (
        of_kind(overlay, "HorizontalPodAutoscaler")["spec"],
        of_kind(overlay, "PodDisruptionBudget")["spec"],
    )
    assert scaler["minReplicas"] > budget["maxUnavailable"]  # one can be taken, and there is still one


@overlays
def test_traffic_comes_in_by_the_port_and_none_goes_out(overlay: str) -> None:
    policy = of_kind(overlay, "NetworkPolicy")["spec"]
    assert policy["egress"] == []
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"protocol": "TCP", "port": "http"}]]
    assert of_kind(overlay, "Service")["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]


@overlays
def test_cpus_are_whole_and_limits_are_requested(overlay: str) -> None:
    resources = container(overlay)["resources"]
    assert int(resources["limits"]["cpu"]) == int(resources["requests"]["cpu"])
    assert resources["limits"].keys() >= resources["requests"].keys()


def test_the_adapter_serves_the_autoscalers_metric() -> None:
    rules = yaml.safe_load((KUBERNETES / "adapter-rules.yaml").read_text(encoding="utf-8"))
    metrics = of_kind("base", "HorizontalPodAutoscaler")["spec"]["metrics"]
    wanted = [each["pods"]["metric"]["name"] for each in metrics if each["type"] == "Pods"]
    assert [rule["name"]["as"] for rule in rules] == wanted
    assert all(re.match(rule["name"]["matches"], rule["seriesQuery"].split("{")[0]) for rule in rules)


def test_the_volume_is_where_the_service_looks() -> None:
    mount = next(each for each in container("volume")["volumeMounts"] if each["name"] == "models")
    assert f"SERVICE_MODELS={mount['mountPath']} " in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert float(environment("volume")["SERVICE_RELOAD"]) > 0
    claim = of_kind("volume", "PersistentVolumeClaim")["metadata"]["name"]
    volume = next(each for each in pod("volume")["volumes"] if each["name"] == "models")
    assert volume["persistentVolumeClaim"]["claimName"] == claim


def test_the_rollout_shows_a_canary_and_a_shadow() -> None:
    values = environment("rollout")
    rollout = Settings(canary=values["SERVICE_CANARY"], shadow=values["SERVICE_SHADOW"], _env_file=None).rollout
    assert [plan.canary for plan in rollout.plans.values() if plan.canary] == [{2: 0.1}]
    assert [plan.shadow for plan in rollout.plans.values() if plan.shadow] == [(2, 1.0)]


def test_the_gpu_is_asked_for_and_used() -> None:
    assert environment("gpu")["SERVICE_PROVIDER"] == "cuda"
    assert container("gpu")["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container("gpu")["image"].endswith("-cuda")
    assert {each["key"] for each in pod("gpu")["tolerations"]} == {"nvidia.com/gpu"}
