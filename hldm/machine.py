"""What this machine has, and how many runs share it. Without torch: asking must not take seconds."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hldm.config.schema import Hardware
from hldm.errors import UserError

MOST_THREADS = 4  # the models are small: more threads on one run gain less than another run beside it


@dataclass(frozen=True)
class Allotment:
    """`slots` runs at the same time, each with `threads` threads and, where there are any, one of `gpus`."""

    slots: int
    threads: int
    gpus: tuple[str, ...] = ()

    def environment(self, slot: int) -> dict[str, str]:
        """Variables that a run in this slot needs before torch is imported."""
        # two spinning OpenMP threads collapse when anything else wants a core: passive ones lose nothing when quiet
        variables = {"OMP_NUM_THREADS": str(self.threads), "OMP_WAIT_POLICY": "PASSIVE"}
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        return variables

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        where = "a GPU" if self.gpus else "the processor"
        many = f"{self.slots} at a time, each " if self.slots > 1 else ""
        return f"{many}on {where} with {threads}"


def allot(hardware: Hardware, runs: int) -> Allotment:
    """Slots and threads with slots × threads ≤ cores.

    Args:
        hardware: the section of the configuration.
        runs: how many runs wait; more slots than that are of no use.
    """
    gpus = () if hardware.device == "cpu" else visible_gpus()
    if gpus and (why_not := why_torch_has_no_gpu()):
        if hardware.device == "cuda":
            raise UserError(
                f"hardware asks for a GPU, and this machine has {len(gpus)}, but PyTorch cannot use them: {why_not}. "
                "Install a build of PyTorch for this driver, or type hardware=cpu."
            )
        print(f"This machine has {len(gpus)} GPUs that PyTorch cannot use ({why_not}): runs work on the processor.")
        gpus = ()
    if hardware.device == "cuda" and not gpus:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f"CUDA_VISIBLE_DEVICES={hidden!r} hides them" if hidden is not None else "nvidia-smi lists none"
        raise UserError(
            f"hardware asks for a GPU, but this machine shows none ({why}). "
            "Type hardware=cpu, or hardware=auto, which takes a GPU where there is one."
        )
    n_cores = cores()
    threads = None if hardware.threads == "auto" else hardware.threads
    if threads is None and (chosen := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(chosen) >= 1:
        threads = min(int(chosen), n_cores)
    most = len(gpus) or max(1, n_cores // (threads or MOST_THREADS))
    slots = max(1, min(runs, most)) if hardware.slots == "auto" else hardware.slots
    if threads is None:
        threads = max(1, min(MOST_THREADS, n_cores // slots))
    if slots * threads > n_cores:
        raise UserError(
            f"hardware.slots={slots} × hardware.threads={threads} are more than the {n_cores} cores there are, and "
            f"threads that wait for each other slow every run down. Try hardware.slots={min(slots, n_cores)} "
            f"hardware.threads={max(1, n_cores // slots)}."
        )
    return Allotment(slots, threads, gpus)


def check_machine(outputs: Path, hardware: Hardware, runs: int = 1) -> Allotment:
    """How many runs at once with how many threads; a UserError where this machine has not what is asked for."""
    try:
        outputs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=outputs):
            pass
    except OSError as error:
        raise UserError(
            f"paths.outputs={outputs} cannot be written ({error.strerror}). "
            "Name a folder that you may write, as in paths.outputs=outputs."
        ) from error
    if hardware.compile:
        check_compiler()
    return allot(hardware, runs)


def why_torch_has_no_gpu() -> str | None:
    """Why PyTorch cannot work on a GPU here, None where it can; asked in a process of its own, which takes seconds."""
    question = "import torch; torch.zeros(1, device='cuda'); print('works')"
    try:
        asked = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        return type(error).__name__
    if asked.returncode == 0:
        return None
    return (asked.stderr.strip().splitlines() or ["it gives no reason"])[-1][:200]


def check_compiler() -> None:
    """Raise where torch.compile has no C++ compiler, or no headers of Python, to work with."""
    compiler = os.environ.get("CXX", "g++")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if shutil.which(compiler) and header.is_file():
        return
    what = f"there is no {compiler} on the path" if header.is_file() else f"{header} is missing"
    raise UserError(
        f"hardware.compile=true needs a C++ compiler and the headers of Python, but {what}. On Debian or Ubuntu: "
        "apt-get install g++ python3-dev. Or leave hardware.compile=false, which computes the same in more time."
    )


def cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return count


def memory() -> int | None:
    """Bytes of memory that this process may ever have: the machine's, or its control group's; None: not known."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        return None
    try:
        return min(pages, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such file, or "max"
        return pages


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that a run may use, as CUDA_VISIBLE_DEVICES names them."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    try:
        listed = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    present = [str(i) for i, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(present)
    visible = []
    for name in (part.strip() for part in chosen.split(",")):
        if name not in present and not name.startswith(("GPU-", "MIG-")):
            break  # as CUDA does: the first one that does not exist ends the list
        visible.append(name)
    return tuple(visible)
