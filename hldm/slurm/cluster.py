"""What the cluster allows: the largest array, and the longest job of a partition."""

import re
import shutil
from dataclasses import dataclass

from hldm.config.slurm import Slurm
from hldm.errors import UserError
from hldm.run.jobs import ask

USUAL_ARRAY = 1001
"""MaxArraySize where nothing else is configured."""


@dataclass(frozen=True)
class Cluster:
    """Limits of a cluster.

    Attributes:
        array_size: tasks of one array at most; 1 where there are no arrays.
        minutes: the longest job, None where there is no limit or it is not known.
        is_here: whether jobs can be submitted from this machine.
    """

    array_size: int = USUAL_ARRAY
    minutes: int | None = None
    is_here: bool = False

    @classmethod
    def look(cls, slurm: Slurm) -> "Cluster":
        """The limits as scontrol says them; a look takes a bounded time, and what is not known does not limit.

        Raises:
            UserError: there is no such partition.
        """
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            return cls()
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config") or "", re.MULTILINE)
        size = int(found[1]) if found else USUAL_ARRAY
        return cls(max(1, size), _longest(slurm.partition), is_here=True)

    def refuse_elsewhere(self, option: str) -> None:
        """Raise where nothing can be submitted."""
        if not self.is_here:
            raise UserError(
                f"hardware={option} submits by sbatch and srun, and they are not on the path here. Type the command on "
                "a login node of the cluster, load its module of SLURM, or work on this machine with hardware=auto; "
                "plan=true shows the plan anywhere."
            )


def _longest(partition: str | None) -> int | None:
    """Minutes that every one of these partitions allows; without a name those of the cluster's own."""
    limits: dict[str, int | None] = {}
    default = None
    for line in (ask("scontrol", "show", "partition", "--oneliner") or "").splitlines():
        facts = dict(re.findall(r"(\w+)=(\S*)", line))
        if name := facts.get("PartitionName"):
            limits[name] = minutes(facts.get("MaxTime", ""))
            default = name if facts.get("Default") == "YES" else default
    names = [name.strip() for name in partition.split(",")] if partition else [default] if default else []
    if limits and (unknown := [name for name in names if name not in limits]):
        raise UserError(
            f"hardware.slurm.partition={partition}: there is no partition {', '.join(unknown)} on this cluster. "
            f"Partitions: {', '.join(limits)}."
        )
    known = [limit for name in names if (limit := limits.get(name)) is not None]
    return min(known, default=None)


def minutes(text: str) -> int | None:
    """SLURM's time, [days-]hours:minutes:seconds → minutes; None where there is no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, rest, _ = (int(part or 0) for part in found.groups())
    return (24 * days + hours) * 60 + rest
