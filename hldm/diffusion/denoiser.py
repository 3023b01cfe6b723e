"""The U-Net that all processes share. It sees normal coordinates, so it is the same network on every manifold."""

from collections.abc import Callable
from typing import Literal

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from hldm.diffusion.attention import DistanceAttention
from hldm.geometry import Curvature, Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, largest_balls
from hldm.nn import Condition, PoincareConv2d


class Denoiser(nn.Module):
    """Stable Diffusion's U-Net: ResNet blocks at every level, attention at the lowest.

    With labels that is self-attention, and the label's embedding is added to that of the time. With text it is Stable
    Diffusion's transformer block, which attends to the text too, and the middle has one as well.

    The stem and the attention can be hyperbolic, with initial weights and, up to a number per attention head,
    parameters of the usual ones. They have a curvature of their own, so they can be tried on flat latents too.

    Args:
        block_channels: one entry per level; each level but the last halves the side.
        layers_per_block: ResNet blocks per level on the way down (one more on the way up).
        head_channels: channels of one attention head.
        stem: how the map enters: "linear", a convolution, or "gyroplane", the signed distances from each patch of
            latents, joined to one point, to as many gyroplanes (Shimizu et al. 2021, section 3.3).
        attention: "dot_product", or by squared distances of queries and keys, "euclidean_distance" or
            "hyperbolic_distance" (see `DistanceAttention`).
        curvature: c ≥ 0 of the hyperbolic stem and attention. With c = 0 they *are* the linear stem and Euclidean
            distance attention, and they tend to them at the rate O(c).
        learnable_curvature: c is one parameter of them all, positive by construction, that starts at `curvature` > 0.
        latent_shape: (channels, h, w) of the latents.
        classes: number of labels; one more embedding stands for "no label".
        context_channels: of the features of a text, None for labels.
        label_embedding: is given the table of label embeddings and returns the module to use in its place.
        feature_channels: so many channels come out beside the prediction, for whoever else predicts something.
        point_channels: coordinates of a point that steers the network through its time embedding; 0 for none.
    """

    def __init__(
        self,
        block_channels: list[int],
        layers_per_block: int,
        head_channels: int,
        stem: Literal["linear", "gyroplane"] = "linear",
        attention: Literal["dot_product", "euclidean_distance", "hyperbolic_distance"] = "dot_product",
        curvature: float = 1.0,
        learnable_curvature: bool = False,
        *,
        latent_shape: tuple[int, int, int],
        classes: int,
        context_channels: int | None = None,
        label_embedding: Callable[[nn.Embedding], nn.Module] = lambda table: table,
        feature_channels: int = 0,
        point_channels: int = 0,
    ) -> None:
        super().__init__()
        channels, side, _ = latent_shape
        above = len(block_channels) - 1
        has_text = context_channels is not None
        kind = "CrossAttn" if has_text else "Attn"
        # UNet2DConditionModel, not UNet2DModel: only this one takes attention processors
        self.unet = UNet2DConditionModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels + feature_channels,
            down_block_types=("DownBlock2D",) * above + (f"{kind}DownBlock2D",),
            mid_block_type="UNetMidBlock2DCrossAttn" if has_text else "UNetMidBlock2D",
            up_block_types=(f"{kind}UpBlock2D",) + ("UpBlock2D",) * above,
            block_out_channels=tuple(block_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=16,
            # diffusers takes this for the number of heads in a transformer block, in others for their width
            attention_head_dim=tuple(max(1, width // head_channels) for width in block_channels)
            if has_text
            else head_channels,
            cross_attention_dim=context_channels or head_channels,
            num_class_embeds=None if has_text else classes + 1,
            time_cond_proj_dim=point_channels or None,
        )
        if not has_text:
            self.unet.class_embedding = label_embedding(self.unet.class_embedding)
        own = LearnableCurvature(curvature) if learnable_curvature else FixedCurvature(curvature)
        if stem == "gyroplane" and curvature > 0:
            self.unet.conv_in = gyroplane_stem(self.unet.conv_in, own)
        if attention != "dot_product":
            c = own if attention == "hyperbolic_distance" else FixedCurvature(0.0)
            for layer in [module for module in self.unet.modules() if isinstance(module, Attention)]:
                layer.set_processor(DistanceAttention(largest_balls(layer.inner_dim // layer.heads, c), layer.heads))

    def forward(self, v: Tensor, t: Tensor, condition: Condition, point: Tensor | None = None) -> Tensor:
        """Prediction shaped like v, and the other features behind it along axis 1.

        Args:
            v: normal coordinates, (B, channels, h, w).
            t: time of each sample, (B,), in [0, 1].
            condition: labels, or hidden and mask, as the network was built for.
            point: (B, point_channels), where there are any.
        """
        # the sinusoidal embedding was made for 1000 discrete steps
        return self.unet(
            v,
            1000 * t,
            encoder_hidden_states=condition.hidden,
            encoder_attention_mask=condition.mask,
            class_labels=condition.labels,
            timestep_cond=point,
        ).sample


def gyroplane_stem(linear: nn.Conv2d, c: Curvature) -> PoincareConv2d:
    """The convolution's parameters as gyroplanes of patches: (B, C, h, w) normal coordinates → signed distances."""
    stem = PoincareConv2d(PoincareBall(linear.in_channels, c), Euclidean(linear.out_channels), 3, padding=1)
    stem.conv = linear
    return stem
