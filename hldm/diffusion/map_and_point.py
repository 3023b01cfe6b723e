"""A map and a point, denoised together."""

from torch import Tensor

from hldm.config import diffusion as config
from hldm.diffusion.denoiser import Denoiser, LabelEmbedding, plain_table
from hldm.diffusion.point import MLPDenoiser
from hldm.diffusion.unet import UNetDenoiser
from hldm.geometry import Curvature
from hldm.layout import LatentLayout
from hldm.nn import Condition


class MapGlobalDenoiser(Denoiser):
    """The U-Net on the map sees the point, and the MLP on the point sees what the U-Net saw.

    The point steers the U-Net through its time embedding. The U-Net puts out features beside its prediction, and their
    means over all positions steer the MLP, which predicts the point.

    Args:
        settings: the section `denoiser`.
        layout: a map beside a point.
        classes, context_channels, label_embedding: as for `UNetDenoiser`; each network has a table of its own.
    """

    def __init__(
        self,
        settings: config.MapGlobal,
        *,
        layout: LatentLayout,
        classes: int,
        context_channels: int | None = None,
        label_embedding: LabelEmbedding = plain_table,
    ) -> None:
        super().__init__()
        of_map, of_point = layout.parts
        channels, *_ = of_map.shape
        (point_channels,) = of_point.shape
        features = settings.block_channels[0]
        self.layout = layout
        self.map = UNetDenoiser(
            settings,
            layout=of_map,
            classes=classes,
            context_channels=context_channels,
            label_embedding=label_embedding,
            feature_channels=features,
            point_channels=point_channels,
        )
        self.point = MLPDenoiser(
            config.MLPDenoiser(width=settings.width, blocks=settings.blocks),
            layout=of_point,
            classes=classes,
            context_channels=context_channels,
            label_embedding=label_embedding,
            feature_channels=features,
        )
        self.outputs = (channels, features)

    @property
    def curvature(self) -> Curvature | None:
        """c of the U-Net's hyperbolic layers."""
        return self.map.curvature

    def forward(self, v: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Prediction shaped like v, (B, D)."""
        of_map, of_point = self.layout.unpack(v)
        prediction, features = self.map(of_map, t, condition, of_point).split(self.outputs, 1)
        return self.layout.pack(prediction, self.point(of_point, t, condition, features.mean((2, 3))))
