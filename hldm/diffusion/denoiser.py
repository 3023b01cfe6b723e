"""The U-Net that all processes share. It sees normal coordinates, so it is the same network on every manifold."""

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from hldm.nn import Condition


class Denoiser(nn.Module):
    """Stable Diffusion's U-Net: ResNet blocks at every level, self-attention at the lowest and in the middle.

    Args:
        block_channels: one entry per level; each level but the last halves the side.
        layers_per_block: ResNet blocks per level on the way down (one more on the way up).
        head_channels: channels of one attention head.
        latent_shape: (channels, h, w) of the latents.
        classes: number of labels; one more embedding stands for "no label".
    """

    def __init__(
        self,
        block_channels: list[int],
        layers_per_block: int,
        head_channels: int,
        *,
        latent_shape: tuple[int, int, int],
        classes: int,
    ) -> None:
        super().__init__()
        channels, side, _ = latent_shape
        above = len(block_channels) - 1
        # UNet2DConditionModel, not UNet2DModel: only this one takes attention processors
        self.unet = UNet2DConditionModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownBlock2D",) * above + ("AttnDownBlock2D",),
            mid_block_type="UNetMidBlock2D",
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * above,
            block_out_channels=tuple(block_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=16,
            attention_head_dim=head_channels,
            cross_attention_dim=head_channels,
            num_class_embeds=classes + 1,
        )

    def forward(self, v: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Prediction shaped like v.

        Args:
            v: normal coordinates, (B, channels, h, w).
            t: time of each sample, (B,), in [0, 1].
            condition: labels.
        """
        # the sinusoidal embedding was made for 1000 discrete steps
        return self.unet(v, 1000 * t, encoder_hidden_states=None, class_labels=condition.labels).sample
