"""Rules between sections about training, and where it runs."""

from collections.abc import Iterator

from hldm.config.schema import RunConfig
from hldm.config.training import AdamW, Muon


def decay(c: RunConfig) -> Iterator[str]:
    """A step of decoupled weight decay takes a part of every weight away, not more than all of it."""
    optimizer = c.training.optimizer
    if not isinstance(optimizer, AdamW | Muon):
        return
    stages = (c.training.first_stage, c.training.diffusion)
    rate = max(stage.learning_rate for stage in stages if stage is not None)
    if rate * optimizer.weight_decay >= 1:
        yield (
            f"training.optimizer.weight_decay={optimizer.weight_decay:g} times a learning rate of {rate:g} takes more "
            "than all of a weight away in one step. Type training.optimizer.weight_decay=0, or a lower learning "
            "rate, such as training.diffusion.learning_rate=0.001 training.first_stage.learning_rate=0.001."
        )


def first_stage_losses(c: RunConfig) -> Iterator[str]:
    """An adversary that starts is there to be trained."""
    stage = c.training.first_stage
    if c.first_stage is None and stage.adversarial_weight and stage.adversarial_start >= stage.steps:
        yield (
            f"training.first_stage.adversarial_start={stage.adversarial_start} is not before the end of the "
            f"{stage.steps} steps, so the adversary would never be trained. Type "
            f"training.first_stage.adversarial_start={stage.steps // 2}, or "
            "training.first_stage.adversarial_weight=0."
        )


def best_weights(c: RunConfig) -> Iterator[str]:
    """The best weights are those of a look."""
    if c.training.keep == "best" and c.training.validate_every is None:
        yield (
            "training.keep=best takes the best weights that a look at validation images found, and there are no looks. "
            "Type training.validate_every=500 with it, or training.keep=last."
        )
    elif c.training.keep == "best" and c.dataset.has_validation is False:
        yield (
            "training.keep=best chooses weights on validation images, and this data set has none. Type "
            "training.keep=last."
        )


def cluster_jobs(c: RunConfig) -> Iterator[str]:
    """A job has a core for each of its threads, and several processes only where they share a run."""
    slurm, threads = c.hardware.slurm, c.hardware.threads
    if slurm is None:
        return
    if threads != "auto" and threads > slurm.cpus_per_task:
        yield (
            f"hardware.threads={threads} are more than the {slurm.cpus_per_task} cores of a process. Type "
            f"hardware.slurm.cpus_per_task={threads} with it, or leave hardware.threads away."
        )
    if c.hardware.ranks not in (1, slurm.processes):
        yield (
            f"hardware.ranks={c.hardware.ranks} is for one machine. With SLURM type hardware=slurm_ddp "
            f"hardware.slurm.tasks_per_node={c.hardware.ranks}, and hardware.slurm.nodes=… for several nodes."
        )
    if slurm.processes > 1 and slurm.option != "slurm_ddp":
        key = "nodes" if slurm.nodes > 1 else "tasks_per_node"
        yield (
            f"hardware.slurm.{key}={getattr(slurm, key)} with hardware={slurm.option} would start one run several "
            "times. Type hardware=slurm_ddp, whose processes share a run, or leave it away."
        )


def ranks(c: RunConfig) -> Iterator[str]:
    """Ranks talk to each other in the middle of the networks, which a compiled graph does not."""
    asked = c.hardware.processes
    if c.hardware.compile and asked > 1:
        yield (
            f"hardware.compile=true works for one process, and {asked} share this run. Type hardware.compile=false, or "
            "one process."
        )
