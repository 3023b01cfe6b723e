"""The denoiser, the processes it is trained on, and the samplers that run them backwards."""

from hldm.diffusion.cross_attention import CrossAttentionDenoiser
from hldm.diffusion.denoiser import Denoiser
from hldm.diffusion.flow import FlowMatching, FlowSampler
from hldm.diffusion.likelihood import log_density
from hldm.diffusion.point_denoiser import MapGlobalDenoiser, MLPDenoiser
from hldm.diffusion.process import Process, Sampler
from hldm.diffusion.tangent_ddpm import DiffusionSampler, TangentDDPM

__all__ = [
    "CrossAttentionDenoiser",
    "Denoiser",
    "DiffusionSampler",
    "FlowMatching",
    "FlowSampler",
    "MLPDenoiser",
    "MapGlobalDenoiser",
    "Process",
    "Sampler",
    "TangentDDPM",
    "log_density",
]
