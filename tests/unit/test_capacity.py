"""What there is for jobs: of this machine, less what control groups forbid."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support import PATIENCE, request_for
from support.namespaces import limited
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.runner import capacity
from taskapi_jupyter.runner.capacity import Limits
from taskapi_jupyter.service.service import Service

MIB, GIB = 1 << 20, 1 << 30
UNLIMITED = "9223372036854771712"  # what version 1 says of a group without a limit

#: Mounts of version 1 as Docker and systemd have them, and of version 2.
V1 = {
    "cpu": "33 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct",
    "cpuset": "34 31 0:31 {root} /sys/fs/cgroup/cpuset rw,relatime master:7 - cgroup cgroup rw,cpuset",
    "memory": "35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime shared:3 master:8 - cgroup cgroup rw,memory",
}
HYBRID = "41 31 0:38 {root} /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
V2 = "31 23 0:28 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1_GROUP = "9:name=systemd:/other\n4:memory:{path}\n3:cpuset:{path}\n2:cpu,cpuacct:{path}\n0::/\n"


def stand_in(root: Path, mounts: list[str], groups: str, files: dict[str, str], seen: str = "/") -> str:
    """Make folders that stand for /proc and /sys; ``seen`` is which of its folders each hierarchy has mounted."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n" + "".join(f"{one.format(root=seen)}\n" for one in mounts)
    )
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return str(root)


V1_CASES: dict[str, tuple[str, str, dict[str, str], Limits]] = {
    "no limit": (
        "/a",
        "/",
        {
            "memory/a/memory.limit_in_bytes": UNLIMITED,
            "cpu,cpuacct/a/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        },
        Limits(None, int(UNLIMITED)),
    ),
    "its own": (
        "/a",
        "/",
        {
            "memory/a/memory.limit_in_bytes": str(2 * GIB),
            "memory/memory.limit_in_bytes": UNLIMITED,
            "cpu,cpuacct/a/cpu.cfs_quota_us": "650000",
            "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        },
        Limits(6500, 2 * GIB),
    ),
    "of a group above": (
        "/slurm/job_1/step_0/task_0",
        "/",
        {
            "memory/slurm/job_1/step_0/task_0/memory.limit_in_bytes": UNLIMITED,
            "memory/slurm/job_1/memory.limit_in_bytes": str(4 * GIB),
            "memory/slurm/memory.limit_in_bytes": str(64 * GIB),
            "cpu,cpuacct/slurm/job_1/cpu.cfs_quota_us": "300000",
            "cpu,cpuacct/slurm/job_1/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/slurm/job_1/step_0/cpu.cfs_quota_us": "800000",
            "cpu,cpuacct/slurm/job_1/step_0/cpu.cfs_period_us": "100000",
            "cpuset/slurm/job_1/cpuset.cpus": "0-1,4,6-7",
        },
        Limits(3000, 4 * GIB),
    ),
    "a cpuset": (
        "/a",
        "/",
        {"cpuset/a/cpuset.cpus": "0-7", "cpuset/a/cpuset.effective_cpus": "0-2,5", "cpuset/cpuset.cpus": "0-63"},
        Limits(4000, None),
    ),
    "a container, whose group is mounted": (
        "/docker/abc",
        "/docker/abc",
        {
            "memory/memory.limit_in_bytes": str(512 * MIB),
            "cpu,cpuacct/cpu.cfs_quota_us": "50000",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
        },
        Limits(500, 512 * MIB),
    ),
    "a group below a container's": (
        "/docker/abc/inner",
        "/docker/abc",
        {"memory/inner/memory.limit_in_bytes": str(256 * MIB), "memory/memory.limit_in_bytes": str(512 * MIB)},
        Limits(None, 256 * MIB),
    ),
    "a path that is not there": (
        "/kubepods/burstable/pod1/c1",
        "/",
        {"memory/memory.limit_in_bytes": str(3 * GIB)},
        Limits(None, 3 * GIB),
    ),
    "a path that leads out": ("/../../x", "/", {"memory/memory.limit_in_bytes": str(GIB)}, Limits(None, GIB)),
    "a limit above what a container sees": (
        "/",
        "/",
        {
            "memory/memory.limit_in_bytes": UNLIMITED,
            "memory/memory.stat": f"cache 12\nhierarchical_memory_limit {GIB}\nhierarchical_memsw_limit {UNLIMITED}",
        },
        Limits(None, GIB),
    ),
    "less than a thousandth": (
        "/a",
        "/",
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "1000", "cpu,cpuacct/a/cpu.cfs_period_us": "10000000"},
        Limits(1, None),
    ),
    "what nobody would write": (
        "/a",
        "/",
        {
            "memory/a/memory.limit_in_bytes": "many",
            "cpu,cpuacct/a/cpu.cfs_quota_us": "100000",
            "cpu,cpuacct/a/cpu.cfs_period_us": "0",
            "cpuset/a/cpuset.cpus": "",
        },
        Limits(None, None),
    ),
}


@pytest.mark.parametrize("case", V1_CASES)
def test_limits_of_version_1(tmp_path: Path, case: str) -> None:
    path, seen, files, wanted = V1_CASES[case]
    root = stand_in(tmp_path / "root", [*V1.values(), HYBRID], V1_GROUP.format(path=path), files, seen)
    assert capacity.limits(root) == wanted


V2_CASES: dict[str, tuple[str, dict[str, str], Limits]] = {
    "no limit": ("/user.slice", {"user.slice/cpu.max": "max 100000", "user.slice/memory.max": "max"}, Limits(None, None)),
    "its own": ("/a", {"a/cpu.max": "150000 100000", "a/memory.max": str(GIB)}, Limits(1500, GIB)),
    "the smallest on the way up": (
        "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0",
        {
            "system.slice/slurmstepd.scope/job_7/step_0/user/task_0/cpu.max": "max 100000",
            "system.slice/slurmstepd.scope/job_7/step_0/user/task_0/memory.max": "max",
            "system.slice/slurmstepd.scope/job_7/step_0/cpu.max": "800000 100000",
            "system.slice/slurmstepd.scope/job_7/step_0/memory.max": str(8 * GIB),
            "system.slice/slurmstepd.scope/job_7/cpu.max": "400000 100000",
            "system.slice/slurmstepd.scope/job_7/memory.max": str(16 * GIB),
            "system.slice/slurmstepd.scope/job_7/cpuset.cpus.effective": "2-7",
            "system.slice/memory.high": str(6 * GIB),
        },
        Limits(4000, 6 * GIB),
    ),
    "a cpuset": ("/a", {"a/cpuset.cpus.effective": "3", "cpuset.cpus.effective": "0-15"}, Limits(1000, None)),
    "a container with a namespace of its own": ("/", {"cpu.max": "200000 100000", "memory.max": str(GIB)}, Limits(2000, GIB)),
    "a group above what is seen": ("/../../outer", {"cpu.max": "200000 100000"}, Limits(2000, None)),
}  # fmt: skip


@pytest.mark.parametrize("case", V2_CASES)
def test_limits_of_version_2(tmp_path: Path, case: str) -> None:
    path, files, wanted = V2_CASES[case]
    assert capacity.limits(stand_in(tmp_path / "root", [V2], f"0::{path}\n", files)) == wanted


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    mount = V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/a\\040b")
    root = stand_in(tmp_path / "root", [mount], "0::/x\n", {"a b/x/memory.max": "4096"})
    assert capacity.limits(root) == Limits(None, 4096)


def test_where_there_are_no_control_groups(tmp_path: Path) -> None:
    assert capacity.limits(str(tmp_path)) == Limits(None, None)
    assert list(capacity.groups("memory", 2**22 + 1)) == []


def test_this_machine() -> None:
    has = capacity.count()
    assert 1 <= has.cores <= (os.cpu_count() or 1) * 1000
    assert 64 * MIB < has.memory <= psutil.virtual_memory().total + MIB
    assert capacity.here() == has


# Real groups


def counted_in(group: Path) -> list[int]:
    """Return the cores and the memory that a process in a group counts."""
    code = "input(); from taskapi_jupyter.runner import capacity; print(*capacity.count())"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        (group / "cgroup.procs").write_text(str(process.pid))
        return [int(text) for text in process.communicate("\n", PATIENCE)[0].split()]


def test_memory_of_a_real_group() -> None:
    version = next((version for version, _ in capacity.groups("memory")), 2)
    name = "memory__limit_in_bytes" if version == 1 else "memory__max"
    with limited("memory", **{name: str(300 * MIB)}) as group:
        assert counted_in(group) == [capacity.count().cores, 300 * MIB]
    assert capacity.count().memory > 300 * MIB


def test_cores_of_a_real_group() -> None:
    version = next((version for version, _ in capacity.groups("cpu")), 2)
    files = (
        {"cpu__cfs_quota_us": "70000", "cpu__cfs_period_us": "100000"} if version == 1 else {"cpu__max": "70000 100000"}
    )
    with limited("cpu", **files) as group:
        assert counted_in(group) == [700, capacity.count().memory]


def test_a_deploy_is_held_against_what_is_left(service: Service, name: str) -> None:
    """The same figure at a deploy, in the supervisor, and in what a pending job waits for."""
    cores = capacity.here().cores / 1000
    service.deploy_request(request_for(name, "def task(config):\n    return 1\n", compute={"cpu": cores}))
    assert service.submit(name).result(PATIENCE) == 1
    with pytest.raises(BadRequest, match=f"this machine has {cores:.10g} for jobs"):
        service.deploy_request(request_for(name, "def task(config):\n    pass\n", compute={"cpu": cores + 1}))


def test_without_a_descriptor_it_is_what_it_was() -> None:
    code = """
import os, resource
from taskapi_jupyter.runner import capacity
def without(call):
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        return call()
    except OSError as error:
        return error.strerror
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
print(without(capacity.here))
print(capacity.here() == without(lambda: capacity.here(0)))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert told.stdout.splitlines() == ["Too many open files", "True"]
