"""The U-Net of Stable Diffusion, with layers that can be hyperbolic."""

from functools import partial
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D
from torch import Tensor, nn

from hldm.config import diffusion as config
from hldm.diffusion.attention import DistanceAttention
from hldm.diffusion.denoiser import EMBEDDED_STEPS, Denoiser, LabelEmbedding, plain_table
from hldm.geometry import Curvature, Euclidean, FixedCurvature, PoincareBall, largest_balls
from hldm.layout import LatentLayout
from hldm.nn import Condition, PoincareConv2d
from hldm.spaces import curvature_of


class UNetDenoiser(Denoiser):
    """The U-Net of latent diffusion: ResNet blocks at every level, attention at those that the settings name.

    With labels that is self-attention, the label's embedding is added to that of the time, and the middle of the
    network is one ResNet block, or attention between two of them. With text there is Stable Diffusion's transformer
    block, which attends to the text too, at these levels and in the middle.

    A level halves an odd side to the larger half, 7 to 4, and on the way back it becomes 7 again. Blocks of diffusers
    with text do so by themselves; those with self-attention forget the side, so all are told here.

    Without a class embedding, and with attention in the middle, it is UNet2DModel of diffusers, which latent diffusion
    without a condition has (Rombach et al. 2022), under the same names of tensors.

    Time and label reach every ResNet block between its two convolutions: with `modulation="shift"` they are added to
    the features, h + b, as in Stable Diffusion; with "scale_shift" they scale and shift what is normalised,
    GroupNorm(h)·(1 + a) + b (Dhariwal & Nichol 2021, adaptive group normalisation).

    With `stem="gyroplane"` the first layer is the signed distances from each patch of latents, joined to one point, to
    gyroplanes (Shimizu et al. 2021, section 3.3). Attention by distance is that of `DistanceAttention`. These layers
    have the usual initial weights and, up to a number per attention head, as many parameters. They share a curvature of
    their own, so they can be tried on flat latents too. With c = 0 they *are* the linear stem and Euclidean distance
    attention, and they tend to them at the rate O(c).

    Args:
        settings: the section `denoiser`.
        layout: a map of points.
        classes: number of labels; one more embedding stands for "no label".
        context_channels: D of the features of a text that the network attends to; None for labels.
        label_embedding: is given the table of label embeddings and returns the module to use in its place.
        feature_channels: so many channels come out beside the prediction, for whoever else predicts something.
        point_channels: coordinates of a point that steers the network through its time embedding; 0 for none.
    """

    def __init__(
        self,
        settings: config.UNet,
        *,
        layout: LatentLayout,
        classes: int,
        context_channels: int | None = None,
        label_embedding: LabelEmbedding = plain_table,
        feature_channels: int = 0,
        point_channels: int = 0,
    ) -> None:
        super().__init__()
        channels, side, _ = layout.shape
        widths = settings.block_channels
        sides = [-(-side // 2**level) for level in range(len(widths))]
        has_text = context_channels is not None
        attending = "CrossAttn" if has_text else "Attn"
        kinds = [attending if has_attention else "" for has_attention in settings.attention_levels]
        self.embeds_classes = settings.class_embedding and not has_text
        # UNet2DConditionModel, not UNet2DModel: only this one takes attention processors
        self.unet = UNet2DConditionModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels + feature_channels,
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            mid_block_type="UNetMidBlock2DCrossAttn" if has_text else "UNetMidBlock2D",
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            block_out_channels=widths,
            layers_per_block=settings.layers_per_block,
            norm_num_groups=settings.groups,
            # diffusers takes this for the number of heads in a transformer block, in others for their width
            attention_head_dim=tuple(max(1, width // settings.head_channels) for width in widths)
            if has_text
            else settings.head_channels,
            cross_attention_dim=context_channels or settings.head_channels,
            num_class_embeds=classes + 1 if self.embeds_classes else None,
            time_cond_proj_dim=point_channels or None,
            resnet_time_scale_shift="scale_shift" if settings.modulation == "scale_shift" else "default",
        )
        if settings.middle == "attention" and not has_text:
            # which UNet2DConditionModel makes without attention
            self.unet.mid_block = UNetMidBlock2D(
                in_channels=widths[-1],
                temb_channels=4 * widths[0],
                resnet_eps=self.unet.config.norm_eps,
                resnet_groups=settings.groups,
                attn_groups=settings.groups,
                attention_head_dim=settings.head_channels,
                resnet_time_scale_shift=self.unet.config.resnet_time_scale_shift,
            )
        for block, target in zip(self.unet.up_blocks, sides[-2::-1], strict=False):  # the last makes nothing larger
            if target % 2:
                block.upsamplers[0].register_forward_pre_hook(partial(_to_side, target), with_kwargs=True)
        if self.embeds_classes:
            self.unet.class_embedding = label_embedding(self.unet.class_embedding)
        own = curvature_of(settings.curvature)
        # in a tuple, and so no submodule: the layers have it under their names
        self._curvature = (own if settings.is_hyperbolic else None,)
        if settings.stem == "gyroplane" and not own.is_zero:
            self.unet.conv_in = gyroplane_stem(self.unet.conv_in, own)
        if settings.attention != "dot_product":
            c = own if settings.attention == "hyperbolic_distance" else FixedCurvature(0.0)
            for layer in [module for module in self.unet.modules() if isinstance(module, Attention)]:
                layer.set_processor(DistanceAttention(largest_balls(layer.inner_dim // layer.heads, c), layer.heads))

    @property
    def curvature(self) -> Curvature | None:
        """c of stem and attention; None where neither is hyperbolic."""
        return self._curvature[0]

    def forward(self, v: Tensor, t: Tensor, condition: Condition, point: Tensor | None = None) -> Tensor:
        """Prediction shaped like v, (B, channels, h, w), and the other features behind it along axis 1.

        Args:
            point: (B, point_channels), where there are any.
        """
        return self.unet(
            v,
            EMBEDDED_STEPS * t,
            encoder_hidden_states=condition.hidden,
            encoder_attention_mask=condition.mask,
            class_labels=condition.labels if self.embeds_classes else None,
            timestep_cond=point,
        ).sample


def _to_side(side: int, _: nn.Module, args: tuple[Any, ...], __: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What a layer that doubles the side of its map is asked for: its map, at an odd side. 7 is halved to 4."""
    return args[:1], {"output_size": (side, side)}


def gyroplane_stem(linear: nn.Conv2d, c: Curvature) -> PoincareConv2d:
    """The convolution's parameters as gyroplanes of patches: (B, C, h, w) normal coordinates → signed distances."""
    stem = PoincareConv2d(PoincareBall(linear.in_channels, c), Euclidean(linear.out_channels), 3, padding=1)
    stem.conv = linear
    return stem
