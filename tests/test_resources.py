"""Cores, memory and GPUs, as machines, containers and jobs show them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hldm import resources
from hldm.resources import visible_gpus

Write = Callable[[str], None]

TWO = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-ab12cd)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-cd34ef)
"""

SLICED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-ab12cd)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736)
  MIG 3g.20gb     Device  1: (UUID: MIG-a28ad590)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-cd34ef)
"""


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Write:
    """`smi(text)` makes an nvidia-smi that says so; no variable of this process hides a GPU."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in [name for name in os.environ if name.startswith(("CUDA_", "SLURM_"))]:
        monkeypatch.delenv(name)

    def write(text: str) -> None:
        (tmp_path / "listed").write_text(text)
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\ncat {tmp_path}/listed\n")
        command.chmod(0o755)

    return write


@pytest.mark.parametrize(
    ("listed", "chosen", "expected"),
    [
        (TWO, None, ("0", "1")),
        (TWO, "", ()),
        (TWO, "-1", ()),
        (TWO, "1", ("1",)),
        (TWO, "0,-1,1", ("0",)),
        (TWO, "7", ()),
        (TWO, "GPU-ab,GPU-cd34ef", ("GPU-ab", "GPU-cd34ef")),
        (TWO, "GPU-ff,0", ()),
        (SLICED, None, ("MIG-c7384736", "MIG-a28ad590", "1")),
        (SLICED, "0", ("MIG-c7384736", "MIG-a28ad590")),
        (SLICED, "GPU-ab12cd,1", ("MIG-c7384736", "MIG-a28ad590", "1")),
        (SLICED, "MIG-a28ad590", ("MIG-a28ad590",)),
        (SLICED, "MIG-none", ()),
        (SLICED, "MIG-GPU-ab12cd/1/0", ("MIG-GPU-ab12cd/1/0",)),
    ],
)
def test_gpus_and_slices_as_cuda_sees_them(
    listed: str, chosen: str | None, expected: tuple[str, ...], smi: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(listed)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == expected


def test_a_job_gets_no_more_gpus_than_it_has(smi: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(TWO)
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "1")
    assert visible_gpus() == ("0", "1")  # a variable that is left over outside a job
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert visible_gpus() == ("0",)


def test_nvidia_smi_that_fails_is_missing_or_never_answers(
    smi: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert visible_gpus() == ()
    smi(TWO)
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\nexit 9\n")
    assert visible_gpus() == ()
    monkeypatch.setattr(resources, "SMI_SECONDS", 0.3)
    command.write_text("#!/bin/sh\nsleep 60\n")  # the sleep is a process of its own, which holds the output open
    start = time.monotonic()
    assert visible_gpus() == ()
    assert time.monotonic() - start < 5
    assert "does not answer" in capsys.readouterr().out
    command.write_text("not a program")
    assert visible_gpus() == ()


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, dict[str, str]], None]:
    """`groups("0::/job/task", {"job/cpu.max": "150000 100000"})` pretends that there are these control groups."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(resources, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "OWN_GROUPS", tmp_path / "own")

    def write(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / name).write_text(text + "\n")

    return write


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "350000 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/job_1/step_0", {"job_1/cpu.max": "200000 100000", "job_1/step_0/cpu.max": "max 100000"}, 2),
        ("0::/elsewhere", {"cpu.max": "400000 100000"}, 4),  # a container that sees its own group as the root
        ("3:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, 8),
        ("3:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "250000", "cpu/job/cpu.cfs_period_us": "100000"}, 2),
    ],
)
def test_cores_by_control_group(
    own: str, files: dict[str, str], expected: int, groups: Callable[[str, dict[str, str]], None]
) -> None:
    groups(own, files)
    assert resources.cores() == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "2"}, 8),  # left over, outside a job
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "6"}, 2),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "6"}, 6),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "6", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}, 3),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "64"}, 8),
    ],
)
def test_cores_of_a_job(
    variables: dict[str, str],
    expected: int,
    groups: Callable[[str, dict[str, str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups("0::/", {})
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert resources.cores() == expected


def test_memory_by_control_group_and_job(
    groups: Callable[[str, dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mib = 2**20
    groups("0::/", {})
    everything, free = resources.memory(), resources.free_memory()
    assert everything is not None
    assert free is not None
    assert 0 < free <= everything
    groups("0::/job", {"memory.max": "max", "job/memory.max": str(64 * mib), "job/memory.current": str(60 * mib)})
    assert (resources.memory(), resources.free_memory()) == (64 * mib, 4 * mib)
    groups("4:memory:/a", {"memory/a/memory.limit_in_bytes": str(32 * mib), "memory/a/memory.usage_in_bytes": "0"})
    assert (resources.memory(), resources.free_memory()) == (32 * mib, 32 * mib)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "16")
    assert resources.memory() == 32 * mib
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert resources.memory() == 16 * mib
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # all of the node
    assert resources.memory() == 32 * mib


def test_other_systems_have_no_such_files(groups: Callable[[str, dict[str, str]], None]) -> None:
    resources.OWN_GROUPS.unlink(missing_ok=True)
    assert resources.cores() == 8
    assert resources.memory() is not None
