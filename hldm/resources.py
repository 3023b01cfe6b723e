"""What this process may use: cores, memory and GPUs, as machine, container and job give them. Without torch."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SMI_SECONDS = 5.0
"""Seconds that nvidia-smi has. Eight GPUs without the persistence daemon take three; a broken driver never answers."""

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def cores() -> int:
    """Cores that this process may use: its affinity, the quota of its control groups, and what its job has."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [float(count), *_quotas()]
    if (of_job := _cores_of_job()) is not None:
        limits.append(float(of_job))
    return max(1, int(min(limits)))


def _quotas() -> Iterator[float]:
    """Cores of each control group that has a quota."""
    for text in _group_files("cpu", "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)
    for quota, period in zip(
        _group_files("cpu", "cpu.cfs_quota_us"), _group_files("cpu", "cpu.cfs_period_us"), strict=False
    ):
        if quota.isdigit() and period.isdigit():  # -1: no quota
            yield int(quota) / int(period)


def _cores_of_job() -> int | None:
    """Cores of a SLURM task, which need not be enforced; None outside a job."""
    if "SLURM_JOB_ID" not in os.environ:
        return None
    if (per_task := _number("SLURM_CPUS_PER_TASK")) is not None:
        return per_task
    on_node = _number("SLURM_CPUS_ON_NODE")
    tasks = re.match(r"\d+", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))  # "2(x2),1": those of the first node
    return None if on_node is None else max(1, on_node // (int(tasks[0]) if tasks else 1))


def memory() -> int | None:
    """Bytes of memory that this process may ever have: the machine's, its control groups' or its job's; None: unknown.

    What a job has is shared by all of it.
    """
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        return None
    return min([pages, *_memory_limits(), *_memory_of_job()])


def _memory_limits() -> Iterator[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):
        yield from (int(text) for text in _group_files("memory", name) if text.isdigit())


def _memory_of_job() -> Iterator[int]:
    """SLURM says megabytes; 0 stands for all of the node."""
    if "SLURM_JOB_ID" in os.environ:
        if on_node := _number("SLURM_MEM_PER_NODE"):
            yield on_node * 2**20
        elif (per_core := _number("SLURM_MEM_PER_CPU")) and (n_cores := _number("SLURM_CPUS_ON_NODE")):
            yield per_core * n_cores * 2**20


def free_memory() -> int | None:
    """Bytes that the system and the control groups still have for this process; None where they cannot be known."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    if found is None:
        return None
    free = [int(found[1]) * 1024]
    for most, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        pairs = zip(_group_files("memory", most), _group_files("memory", used), strict=False)
        free += [max(0, int(limit) - int(now)) for limit, now in pairs if limit.isdigit() and now.isdigit()]
    return min(free)


def _group_files(controller: str, name: str) -> Iterator[str]:
    """What files of this name say in this process's control group and in those around it, versions 1 and 2.

    A container shows its own group as the root, whatever /proc says of the path outside.
    """
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        group = Path(path.lstrip("/"))
        for folder in dict.fromkeys([group, *group.parents, Path()]):
            with suppress(OSError):
                yield (root / folder / name).read_text(encoding="ascii").strip()


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else None


def visible_gpus() -> tuple[str, ...]:
    """GPUs, and slices of GPUs in MIG mode, that a run may use, as CUDA_VISIBLE_DEVICES names them."""
    present = gpus_in(_listed_gpus())
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        found = [name for index, (_, slices) in present.items() for name in slices or [index]]
        most = _number("SLURM_GPUS_ON_NODE") if "SLURM_JOB_ID" in os.environ else None
        return tuple(found if most is None else found[:most])
    visible: list[str] = []
    for name in (part.strip() for part in chosen.split(",")):
        names = _named(name, present)
        if not names:
            break  # as CUDA does: the first one that does not exist ends the list
        visible += [other for other in names if other not in visible]
    return tuple(visible)


def gpus_in(listed: str) -> dict[str, tuple[str, list[str]]]:
    """`nvidia-smi -L` → index of each GPU → its UUID, and the UUIDs of its MIG slices, of which it may have none."""
    gpus: dict[str, tuple[str, list[str]]] = {}
    for line in listed.splitlines():
        uuid = found[1] if (found := re.search(r"\(UUID: ([^)]+)\)", line)) else ""
        if gpu := re.match(r"GPU (\d+):", line):
            gpus[gpu[1]] = (uuid, [])
        elif gpus and uuid.startswith("MIG-"):
            gpus[list(gpus)[-1]][1].append(uuid)
    return gpus


def _named(name: str, gpus: dict[str, tuple[str, list[str]]]) -> list[str]:
    """What an entry of CUDA_VISIBLE_DEVICES stands for: an index, the beginning of a UUID, or a slice."""
    if name.startswith("MIG-GPU-"):  # the names of drivers before 470, which nvidia-smi lists otherwise
        return [name]
    for index, (uuid, slices) in gpus.items():
        if name == index:
            return slices or [index]
        if name.startswith("GPU-") and uuid.startswith(name):
            return slices or [name]
        if name.startswith("MIG-") and any(one.startswith(name) for one in slices):
            return [name]
    return []


def _listed_gpus() -> str:
    """What `nvidia-smi -L` says, "" where there is none or it does not answer."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ""
    with tempfile.TemporaryFile() as answer:  # no pipe: whatever it started may hold that open
        try:
            asked = subprocess.Popen([command, "-L"], stdout=answer, stderr=subprocess.DEVNULL, start_new_session=True)
        except OSError:
            return ""
        deadline = time.monotonic() + SMI_SECONDS
        while asked.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if asked.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(asked.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # a process that waits for a driver cannot even be killed
                asked.wait(0.5)
            print(f"nvidia-smi does not answer within {SMI_SECONDS:.0f} seconds: as if there were no GPU.", flush=True)
            return ""
        answer.seek(0)
        return answer.read().decode(errors="replace") if asked.returncode == 0 else ""
