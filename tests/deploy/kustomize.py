"""The part of kustomize that deploy/kubernetes uses: resources, labels, images, and patches as JSON operations.

Anything else in a kustomization is an error here. Where kubectl is installed, a test holds this against it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


def render(folder: Path) -> list[Object]:
    """The objects that ``kubectl apply --kustomize FOLDER`` would send."""
    kustomization = read(folder / "kustomization.yaml")
    assert kustomization.keys() <= {"apiVersion", "kind", "resources", "labels", "images", "patches"}
    objects: list[Object] = []
    for resource in kustomization["resources"]:
        path = folder / resource
        objects += render(path) if path.is_dir() else [read(path)]
    for labels in kustomization.get("labels", []):
        assert labels.keys() == {"pairs"}
        for each in objects:
            each["metadata"].setdefault("labels", {}).update(labels["pairs"])
    for patch in kustomization.get("patches", []):
        assert patch.keys() == {"target", "patch"}
        (target,) = (each for each in objects if _is(each, **patch["target"]))
        for operation in yaml.safe_load(patch["patch"]):
            _apply(target, **operation)
    for image in kustomization.get("images", []):
        assert image.keys() == {"name", "newTag"}
        for container in _containers(objects):
            if container["image"].split(":")[0] == image["name"]:
                container["image"] = f"{image['name']}:{image['newTag']}"
    return objects


def read(path: Path) -> Object:
    """The one object of a file."""
    found: Object = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def _is(each: Object, kind: str, name: str) -> bool:
    return bool(each["kind"] == kind and each["metadata"]["name"] == name)


def _apply(target: Any, op: str, path: str, value: Any) -> None:
    *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in path.removeprefix("/").split("/"))
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target[part]
    if op == "add" and last == "-":
        target.append(value)
        return
    assert op == "add" or (op == "replace" and last in target), f"{op} {path}"
    target[last] = value


def _containers(objects: list[Object]) -> list[Object]:
    pods = (each["spec"]["template"]["spec"] for each in objects if each["kind"] == "Deployment")
    return [container for pod in pods for container in pod["containers"]]
