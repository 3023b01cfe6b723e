"""The processes that share one run, its ranks: which of them this one is. Without torch."""

import os
import re
import socket
from dataclasses import dataclass
from functools import lru_cache

from hldm.errors import UserError

RENDEZVOUS = "HLDM_RENDEZVOUS"
"""Holds where ranks that we started ourselves meet, as torch.distributed takes it."""

FOLDER = "HLDM_RANK_FOLDER"
"""Holds a folder in which a rank other than the first leaves what it would have written."""

GONE = "another process of this run is gone"
"""How the reason of a rank begins that another one has the reason for."""

OURS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", RENDEZVOUS, FOLDER)
"""Variables that make a process a rank."""


@dataclass(frozen=True)
class Place:
    """One of the processes of a run.

    Attributes:
        rank: in [0, size).
        local: rank on this machine, by which it has its GPU.
        rendezvous: where they meet, as torch.distributed takes it.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    rendezvous: str = "env://"

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0


def place() -> Place:
    """By the variables of torchrun, or by those of srun, which says nothing of where ranks meet; else alone.

    Raises:
        UserError: those of torchrun name no place, or say of several processes not where they meet.
    """
    if os.environ.get("RANK") and os.environ.get("WORLD_SIZE"):
        return _place_of_torchrun()
    # a batch script is no step: what it starts by itself is alone, whatever the job has room for
    size, rank = _number("SLURM_STEP_NUM_TASKS"), _number("SLURM_PROCID")
    if size is None or rank is None or size < 2:
        return Place()
    step = _number("SLURM_STEP_ID") or 0
    port = 20000 + ((_number("SLURM_JOB_ID") or 0) + 7919 * step) % 20000
    host = _meeting_host(
        os.environ.get("SLURM_STEP_NODELIST", "localhost"),
        _number("SLURM_STEP_NUM_NODES") or 1,
        os.environ.get("SLURM_LAUNCH_NODE_IPADDR", ""),
    )
    return Place(rank, size, _number("SLURM_LOCALID") or 0, f"tcp://{host}:{port}")


def _place_of_torchrun() -> Place:
    rank, size, local = (_number(name) for name in OURS[:3])
    given = f"RANK={os.environ['RANK']} WORLD_SIZE={os.environ['WORLD_SIZE']}"
    remedy = (
        "Start the processes of a run by `torchrun --nproc-per-node 2 train.py …`, which sets these variables, or type "
        "`unset RANK WORLD_SIZE` to work with one."
    )
    if rank is None or size is None or rank >= size:
        raise UserError(
            f"The variables {given} are no place among the processes of a run: both are whole numbers, and RANK is "
            f"less than WORLD_SIZE. {remedy}"
        )
    meeting = os.environ.get(RENDEZVOUS, "env://")
    has_address = os.environ.get("MASTER_ADDR") and 0 < (_number("MASTER_PORT") or 0) < 2**16
    if size > 1 and meeting == "env://" and not has_address:
        raise UserError(
            f"The variables {given} make this process one of {size}, and where they meet is not said: MASTER_ADDR is "
            f"the name of a machine, and MASTER_PORT a whole number from 1 to {2**16 - 1}. {remedy}"
        )
    return Place(rank, size, local or 0, meeting)


def alone() -> dict[str, str]:
    """Variables of a process that is no rank, whatever started this one."""
    return {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


@lru_cache
def _meeting_host(nodes: str, count: int, launched_from: str) -> str:
    """Where the first rank is found: this machine, or the first of several nodes by a name that means something here.

    Names of nodes are SLURM's and need not be known to the network; `srun` in a job is called on its first node.
    """
    if count == 1:
        return "127.0.0.1"
    host = _first_host(nodes)
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return launched_from or host
    return host


def _first_host(nodes: str) -> str:
    """ "gpu[01-04,07],cpu1" → "gpu01"."""
    found = re.match(r"([^\[,]+)(?:\[(\d+))?([^\],\[-]*)", nodes)
    return found[1] + (found[2] or "") if found else nodes


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else None
