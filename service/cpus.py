"""How many CPUs this process may really use: its affinity, and the quota of its control groups (Linux).

ONNX Runtime and `os.cpu_count` see every CPU of the machine, in a container too: threads beyond the quota only make
the kernel hold all of them back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V2_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
_V1_MOUNTS = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct")


def usable_cpus() -> int:
    """CPUs for this process: affinity, cut to the quota rounded down; at least 1."""
    quota = cpu_quota()
    affinity = _affinity()
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The tightest CPU quota, in CPUs, of this process's control groups, version 1 or 2; None if there is none."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    quotas = [quota for line in lines for quota in _quotas(root, line)]
    return min(quotas, default=None)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path, line: str) -> Iterator[float]:
    """The quotas of one line of ``/proc/self/cgroup``: the group's own and those of the groups above it."""
    number, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if number == "0" and not controllers:
        mounts, read = _V2_MOUNTS, _v2_quota
    elif "cpu" in controllers.split(","):
        mounts, read = _V1_MOUNTS, _v1_quota
    else:
        return
    # Inside a container the path may be the host's while the mount shows only the container's own group: a group
    # that is not there is passed over, and the mount's root is looked at in every case.
    group = PurePosixPath(path)
    for mount in mounts:
        for ancestor in (group, *group.parents):
            quota = read(root / mount / ancestor.relative_to("/"))
            if quota is not None:
                yield quota


def _v2_quota(group: Path) -> float | None:
    fields = _read(group / "cpu.max").split()
    return _ratio(*fields) if len(fields) == 2 else None


def _v1_quota(group: Path) -> float | None:
    return _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """Quota over period; None for no quota: ``max`` in version 2, -1 in version 1."""
    if not (quota.isdigit() and period.isdigit() and int(period) > 0):
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
