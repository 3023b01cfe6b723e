"""A U-Net of diffusers as it was published, which training starts from."""

from pathlib import Path

import torch
from torch import Tensor

from hldm.config import diffusion as config
from hldm.diffusion.denoiser import EMBEDDED_STEPS, Denoiser, LabelEmbedding, plain_table
from hldm.interchange import build, load_component
from hldm.layout import LatentLayout
from hldm.nn import Condition


class PublishedUNet(Denoiser):
    """UNet2DModel, which is told nothing, or UNet2DConditionModel, which attends to a text.

    Args:
        settings: the section `denoiser`, with the architecture read from config.json of its folder.
        layout: a map of points.
        classes, label_embedding: not read, as nothing here embeds a class.
        context_channels: D of the features of a text; None without.
    """

    def __init__(
        self,
        settings: config.PublishedUNet,
        *,
        layout: LatentLayout,
        classes: int,
        context_channels: int | None = None,
        label_embedding: LabelEmbedding = plain_table,
    ) -> None:
        super().__init__()
        architecture = settings.architecture
        assert architecture is not None, "the check refuses a folder without one"
        self.folder = settings.folder
        self.has_text = context_channels is not None
        self.unet = build({**architecture, "sample_size": layout.sides[0]})

    def start(self) -> None:
        assert self.folder is not None
        self.unet.load_state_dict(load_component(Path(self.folder)).state_dict())

    def forward(self, v: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Prediction shaped like v, (B, C, h, w)."""
        # the steps of a schedule are whole: float32 has 1000·(t/1000) next to them at times
        steps = torch.round(EMBEDDED_STEPS * t, decimals=3)
        if not self.has_text:
            return self.unet(v, steps).sample
        return self.unet(v, steps, encoder_hidden_states=condition.hidden, encoder_attention_mask=condition.mask).sample
