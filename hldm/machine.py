"""How many runs share this machine, with how many threads, on which GPUs. Without torch: asking takes no seconds."""

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
from hldm.resources import cores, free_memory, visible_gpus

MOST_THREADS = 4  # the models are small: more threads on one run gain less than another run beside it

SPINS = 4000
"""How often a thread of GNU OpenMP looks for work before it sleeps.

A step of the denoiser on two threads of two cores (2026-11-26, AMD EPYC): .14 s quiet, .50 beside two busy processes.
Threads that never spin take .22 and .48; threads that spin as long as they do by default take .14, and many seconds
beside others."""

SERIAL = 0.24
"""Share of a run that more threads do not shorten: a step takes .226 s on one thread and .140 s on two (2026-11-26)."""


def of_threads(threads: int) -> dict[str, str]:
    """Variables of a process with so many threads, before torch is imported."""
    return {"OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": str(SPINS)}


@dataclass(frozen=True)
class Allotment:
    """`slots` runs at the same time, each of `ranks` processes with `threads` threads and, where there are any, a GPU.

    Attributes:
        gpus: as CUDA_VISIBLE_DEVICES names them.
        limit: what else decided about the slots, in words.
    """

    slots: int
    threads: int
    gpus: tuple[str, ...] = ()
    ranks: int = 1
    limit: str = ""

    def environment(self, slot: int, threads: int | None = None) -> dict[str, str]:
        """Variables that a run in this slot needs before torch is imported.

        Args:
            threads: of a run that was begun with another number.
        """
        variables = of_threads(threads or self.threads)
        if self.gpus:
            own = (self.gpus[(slot * self.ranks + rank) % len(self.gpus)] for rank in range(self.ranks))
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(own)
        return variables

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        where = "the processor" if not self.gpus else "a GPU" if self.ranks == 1 else f"{self.ranks} GPUs"
        many = f"{self.slots} at a time{self.limit}, each " if self.slots > 1 or self.limit else ""
        ranks = f"{self.ranks} processes of " if self.ranks > 1 else ""
        return f"{many}on {where} with {ranks}{threads}"


def allot(hardware: Hardware, runs: int, each: int = 0) -> Allotment:
    """Slots and threads with slots × ranks × threads ≤ cores. What is left to "auto" is never refused.

    Args:
        hardware: the section of the configuration.
        runs: how many runs wait; more slots than that are of no use.
        each: bytes of memory that a run takes, as far as it is known.
    """
    gpus, n_cores, ranks = usable_gpus(hardware), cores(), hardware.ranks
    if gpus and ranks > len(gpus):
        raise UserError(
            f"hardware.ranks={ranks}, and every rank needs a GPU of its own, but there are {len(gpus)}. Type "
            f"hardware.ranks={len(gpus)}, or hardware=cpu."
        )
    most_threads = MOST_THREADS
    if (chosen := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(chosen) >= 1:
        most_threads = int(chosen)

    def threads_of(slots: int) -> int:
        if hardware.threads != "auto":
            return hardware.threads
        return max(1, min(most_threads, n_cores // (slots * ranks)))

    slots, most, limit = 1, 1, ""
    if hardware.slots != "auto":
        slots = hardware.slots
    else:
        fixed = 1 if hardware.threads == "auto" else hardware.threads
        most = min(runs, n_cores // (ranks * fixed), len(gpus) * hardware.runs_per_gpu // ranks if gpus else runs)
        if each and (free := free_memory()) is not None and free // each < most:
            most = max(1, free // each)
            limit = f" (memory for {most})"
        if most > 1:
            # the quickest; of equals the most, as runs differ
            slots = most if gpus else min(range(most, 0, -1), key=lambda n: -(-runs // n) * _time(threads_of(n)))
    threads = threads_of(slots)
    if slots * ranks * threads > n_cores and (hardware.slots, hardware.threads, ranks) != ("auto", "auto", 1):
        of_ranks = f" × hardware.ranks={ranks}" if ranks > 1 else ""
        fits = min(slots, max(1, n_cores // ranks))
        raise UserError(
            f"hardware.slots={slots} × hardware.threads={threads}{of_ranks} are more than the {n_cores} cores there "
            f"are, and threads that wait for each other slow every run down. Try hardware.slots={fits} "
            f"hardware.threads={max(1, n_cores // (fits * ranks))}"
            + (f" hardware.ranks={n_cores}." if ranks > n_cores else ".")
        )
    return Allotment(slots, threads, gpus, ranks, limit if slots == most else "")


def _time(threads: int) -> float:
    """How long a run takes, with one thread 1 (Amdahl's law)."""
    return SERIAL + (1 - SERIAL) / threads


def usable_gpus(hardware: Hardware) -> tuple[str, ...]:
    """The GPUs that runs get; none where the section asks for the processor, or finds none that works with "auto".

    Raises:
        UserError: a GPU is asked for and none works.
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
    return gpus


def check_machine(outputs: Path, hardware: Hardware, runs: int = 1, each: int = 0) -> Allotment:
    """How many runs at once with how many threads; a UserError where this machine has not what is asked for.

    Nothing is made: a command may only plan.
    """
    try:
        with tempfile.TemporaryFile(dir=_nearest(outputs)):
            pass
    except OSError as error:
        raise UserError(
            f"paths.outputs={outputs} cannot be written ({error.strerror}). "
            "Name a folder that you may write, as in paths.outputs=outputs."
        ) from error
    if hardware.compile:
        check_compiler()
    return allot(hardware, runs, each)


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there; a link to nothing is there too.

    Raises:
        OSError: none can be made there.
    """
    try:
        folder.lstat()
    except FileNotFoundError:
        return _nearest(folder.absolute().parent)
    return folder


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
