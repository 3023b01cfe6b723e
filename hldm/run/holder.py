"""A process that holds something, told from every other one: machine, number, start, and the job it is part of."""

import json
import os
import secrets
import socket
import subprocess
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hldm.run import jobs


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        token: of this one time that it was taken.
        machine: boot and process namespace. Numbers of processes mean something only where both are equal: two
            containers may have the name of one host.
        began: when the process started, in the system's own words; numbers of processes are given out again.
        job: of SLURM, `<array>_<task>` or `<id>`; None outside one.
        restart: how often the job was requeued before.
        taken: local time with its offset.
    """

    token: str
    host: str
    machine: str
    pid: int
    began: str
    job: str | None
    cluster: str | None
    restart: int
    taken: str

    @classmethod
    def this_process(cls) -> "Holder":
        """This process, with a token of its own."""
        taken = datetime.now().astimezone().isoformat(timespec="seconds")
        restart = os.environ.get("SLURM_RESTART_COUNT", "")
        return cls(
            secrets.token_hex(8),
            socket.gethostname(),
            this_machine(),
            os.getpid(),
            began(os.getpid()) or "",
            _this_job(),
            os.environ.get("SLURM_CLUSTER_NAME"),
            int(restart) if restart.isdigit() else 0,
            taken,
        )

    @classmethod
    def read(cls, text: str) -> "Holder":
        """What a lease says of its holder; "?" where it is not whole, as a disk without links shows it for a moment."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError:
            return cls("?", "another machine", "?", 0, "", None, None, 0, "?")

    @property
    def text(self) -> str:
        """What `read` reads."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def __str__(self) -> str:
        job = f" (job {self.job})" if self.job else ""
        return f"process {self.pid or '?'} on {self.host}{job}"

    @property
    def is_here(self) -> bool:
        """Whether its number says something on this machine."""
        return (self.host, self.machine) == (socket.gethostname(), this_machine())

    @property
    def is_gone(self) -> bool:
        """Whether it surely no longer works: its process has ended here, or this is a later start of its job."""
        if self.is_here and began(self.pid) != self.began:
            return True
        mine = (_this_job(), os.environ.get("SLURM_CLUSTER_NAME"))
        restart = os.environ.get("SLURM_RESTART_COUNT", "")
        return self.job is not None and mine == (self.job, self.cluster) and self.restart < int(restart or 0)

    @property
    def job_is_gone(self) -> bool:
        """Whether the scheduler says so of its job; False where there is none that could be asked. Takes seconds."""
        return self.job is not None and jobs.states([self.job])[self.job] not in (*jobs.AT_WORK, jobs.UNKNOWN)


_ADAPTER = TypeAdapter(Holder)


def _this_job() -> str | None:
    return None if (job := jobs.current()) is None else str(job["id"])


@lru_cache
def this_machine() -> str:
    """Boot and process namespace of this machine; "" where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def began(pid: int) -> str | None:
    """When the process of this number started; None where there is none, or one that has ended and was not waited for.

    On Linux, ticks since the machine started; elsewhere what `ps` says.
    """
    try:
        # after the name, which may hold anything: state is the 3rd field, start the 22nd
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists() or pid <= 0:
        return None
    asked = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, start = asked.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else start.strip()
