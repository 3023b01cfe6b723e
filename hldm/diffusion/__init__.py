"""The denoiser, the processes it is trained on, and the samplers that run them backwards."""

from hldm.diffusion.denoiser import Denoiser
from hldm.diffusion.density import log_density
from hldm.diffusion.flow import FlowMatching, FlowSampler
from hldm.diffusion.map_and_point import MapGlobalDenoiser
from hldm.diffusion.point import CrossAttentionDenoiser, MLPDenoiser
from hldm.diffusion.process import Process, Sampler
from hldm.diffusion.tangent_ddpm import DiffusionSampler, TangentDDPM
from hldm.diffusion.unet import UNetDenoiser
from hldm.diffusion.unet_published import PublishedUNet

__all__ = [
    "CrossAttentionDenoiser",
    "Denoiser",
    "DiffusionSampler",
    "FlowMatching",
    "FlowSampler",
    "MLPDenoiser",
    "MapGlobalDenoiser",
    "Process",
    "PublishedUNet",
    "Sampler",
    "TangentDDPM",
    "UNetDenoiser",
    "log_density",
]
