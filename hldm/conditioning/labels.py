"""Conditioning by class labels, or by nothing. The denoiser has the embeddings; the last of them is "no label"."""

import torch
from torch import Generator, Tensor, nn

from hldm.conditioning.base import Conditioning, Guidance, Subjects
from hldm.conditioning.hyperbolic import point_table
from hldm.geometry import Curvature
from hldm.nn import Condition


class Unconditional(Conditioning):
    """No labels: what is drawn is whatever the model draws.

    Args:
        class_names: of the data set.
        curvature: not read, since nothing is embedded.
    """

    uses_labels = False

    def __init__(self, *, class_names: tuple[str, ...], curvature: Curvature | None = None) -> None:
        super().__init__()
        self.classes = len(class_names)

    def for_training(self, labels: Tensor, generator: Generator) -> Condition:
        return Condition(torch.full_like(labels, self.classes))

    def for_sampling(self, subjects: Subjects) -> Guidance:
        assert isinstance(subjects, Tensor), "prompts are for text"
        condition = Condition(torch.full_like(subjects, self.classes))
        return Guidance(condition, condition, 1)


class ClassConditioning(Conditioning):
    """Class labels with guidance.

    Args:
        dropout: share of the training labels that are replaced by "no label", in [0, 1].
        guidance_scale: see `Guidance`.
        hyperbolic: the label embeddings are points of balls and enter the network by log_0, see `hyperbolic`.
        class_names: of the data set.
        curvature: of those balls.
    """

    uses_labels = True

    def __init__(
        self,
        dropout: float,
        guidance_scale: float,
        hyperbolic: bool = False,
        *,
        class_names: tuple[str, ...],
        curvature: Curvature | None = None,
    ) -> None:
        super().__init__()
        self.curvature = curvature if hyperbolic else None
        self.dropout = dropout
        self.guidance_scale = guidance_scale
        self.classes = len(class_names)

    def label_embedding(self, table: nn.Embedding) -> nn.Module:
        return table if self.curvature is None else point_table(table, self.curvature)

    def for_training(self, labels: Tensor, generator: Generator) -> Condition:
        dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < self.dropout
        return Condition(torch.where(dropped, self.classes, labels))

    def for_sampling(self, subjects: Subjects) -> Guidance:
        assert isinstance(subjects, Tensor), "prompts are for text"
        return Guidance(Condition(subjects), Condition(torch.full_like(subjects, self.classes)), self.guidance_scale)
