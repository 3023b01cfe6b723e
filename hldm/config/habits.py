"""What other tools call the settings that there are here."""

from hldm.console import closest

HABITS = {
    "training.diffusion.learning_rate and training.first_stage.learning_rate": (
        "lr", "learning_rate", "optimizer.lr", "training.lr", "training.learning_rate", "optim.lr", "model.lr",
    ),
    "training.diffusion.batch_size and training.first_stage.batch_size": (
        "batch_size", "bs", "batch", "training.batch_size", "data.batch_size", "train_batch_size",
    ),
    "training.diffusion.steps and training.first_stage.steps (steps of one batch, not epochs)": (
        "epochs", "max_epochs", "trainer.max_epochs", "num_epochs", "steps", "max_steps", "trainer.max_steps",
        "iterations", "n_epochs", "num_train_epochs", "train_steps", "training.steps", "training.epochs",
    ),
    "training.optimizer (training=pvae has Adam, training=standard AdamW)": (
        "optimizer", "optim", "optimizer.name", "training/optimizer", "opt",
    ),
    "training.optimizer.weight_decay": ("weight_decay", "optimizer.weight_decay", "wd"),
    "training.diffusion.ema_decay": ("ema", "ema_decay", "use_ema", "ema_rate"),
    "training.diffusion.clip_norm and training.first_stage.clip_norm": (
        "clip", "grad_clip", "clip_norm", "max_grad_norm", "gradient_clip_val", "trainer.gradient_clip_val",
    ),
    "tracking (tracking=wandb, tracking=none)": ("logger", "wandb", "log", "use_wandb", "report_to"),
    "tracking.project": ("wandb.project", "project", "logger.project", "wandb_project"),
    "tracking.entity": ("wandb.entity", "entity", "logger.entity", "wandb_entity"),
    "tracking.mode": ("wandb.mode", "logger.mode", "wandb_mode"),
    "curvature": ("c", "k", "curv", "manifold.c", "geometry.c", "geometry.curvature", "geometry.manifold.curvature"),
    "denoiser.curvature (denoiser.curvature=learnable)": ("denoiser.learnable_curvature",),
    "geometry": ("manifold", "space"),
    "dataset": ("data", "datamodule"),
    "dataset.folder": ("data_dir", "data_path", "data_root", "datadir", "dataset.root", "dataset.path", "data.root",
                       "dataset.dir", "paths.data_dir"),
    "autoencoder and denoiser": ("model", "net"),
    "hardware (hardware=gpu, hardware=cpu)": (
        "device", "gpus", "gpu", "accelerator", "trainer.accelerator", "trainer.devices", "cuda", "devices",
    ),
    "hardware=slurm_gpu or slurm_cpu, with hardware.slurm.partition and the like": (
        "slurm", "partition", "account", "qos", "constraint", "timeout_min", "gpus_per_node", "tasks_per_node",
        "cpus_per_task", "mem_gb", "array_parallelism", "launcher", "hardware.partition", "hardware.account",
        "hardware.timeout_min", "hardware.gpus_per_node", "hardware.mem_gb", "hardware.qos", "trainer.num_nodes",
        "num_nodes", "nodes", "cluster",
    ),
    "hardware.threads": ("threads", "num_workers", "workers", "data.num_workers"),
    "hardware.compile": ("compile", "torch_compile", "model.compile"),
    "study": ("name", "run_name", "exp_name", "experiment_name", "task_name", "tags"),
    "paths.outputs": (
        "output_dir", "out", "outdir", "save_dir", "logdir", "outputs", "log_dir", "work_dir", "results_dir",
    ),
    "autoencoder.latent_channels": ("latent_dim", "z_dim", "latent_channels", "model.latent_dim", "embed_dim"),
    "conditioning.dropout": ("dropout", "cond_drop_prob", "p_uncond"),
    "conditioning.guidance_scale": ("guidance", "cfg_scale", "guidance_scale"),
    "diffusion.sampler.method and diffusion.sampler.steps": (
        "sampler", "sampling_steps", "n_steps", "num_inference_steps", "nfe",
    ),
    "metrics.samples": ("n_samples", "num_samples", "samples"),
    "experiment (a file of conf/experiment/, or of a folder that --config-dir names)": ("config", "config_name"),
}  # fmt: skip
"""What a setting is here → what other tools call it."""

NOT_NEEDED = ("resume", "resume_from_checkpoint", "ckpt_path", "checkpoint", "resume_from", "auto_resume", "ckpt")
"""Settings of other tools for what happens here by itself."""

NOT_THERE = ("fp16", "bf16", "amp", "precision", "trainer.precision", "mixed_precision", "half")
"""Settings of other tools for the number format."""

OPTIONS = {
    ("geometry", "hyperbolic"): "poincare",
    ("geometry", "flat"): "euclidean",
    ("geometry", "product"): "hybrid",
    ("hardware", "cuda"): "gpu",
    ("hardware", "slurm"): "slurm_gpu",
    ("hardware", "submitit_slurm"): "slurm_gpu",
    ("hardware", "submitit"): "slurm_gpu",
    ("hardware", "cluster"): "slurm_gpu",
    ("hardware", "ddp"): "slurm_ddp",
    ("tracking", "online"): "wandb",
    ("conditioning", "label"): "class",
    ("autoencoder", "vae"): "kl",
    ("autoencoder", "vqvae"): "vq",
    ("autoencoder", "vqgan"): "vq",
    ("diffusion", "ddim"): "ddpm",
    ("diffusion", "flow_matching"): "flow",
}
"""(group, what else it is called) → option."""

SWITCHED_OFF = ("false", "null", "no", "off", "disabled", "0")
"""How other tools write what an option called none is here."""


def habit(key: str) -> str | None:
    """A sentence about a setting that is called otherwise here, or not needed; None where no other tool has it."""
    name = key.lower().replace("-", "_")
    for here, names in HABITS.items():
        if name in names:
            return f"There is no setting {key}. Here it is called {here}. `python train.py --cfg job` shows all."
    if name in NOT_NEEDED:
        return (
            f"There is no setting {key}, and none is needed: a repeated command goes on where the run was stopped, and "
            "does not run again what is finished."
        )
    if name in NOT_THERE:
        return f"There is no setting {key}: runs compute in float32. On a GPU hardware.compile=true is what saves time."
    return None


def meant(group: str, option: str, options: list[str]) -> str | None:
    """The option that somebody probably meant; None where nothing is near."""
    name = option.lower()
    if (other := OPTIONS.get((group, name))) in options:
        return other
    if name in SWITCHED_OFF and "none" in options:
        return "none"
    return closest(name, options)
