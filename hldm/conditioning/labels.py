"""Conditioning by class labels, or by nothing. The denoiser has the embeddings; the last of them is "no label"."""

import torch
from torch import Generator, Tensor, nn

from hldm.conditioning.base import Conditioning, Guidance, Subjects
from hldm.conditioning.hyperbolic import point_table
from hldm.config import conditioning as config
from hldm.geometry import Curvature
from hldm.nn import Condition


class Unconditional(Conditioning):
    """No labels: what is asked for does not change what is drawn.

    Args:
        settings: the section `conditioning`, which has none.
        class_names: of the data set.
        curvature: not read, since nothing is embedded.
    """

    uses_labels = False

    def __init__(
        self, settings: config.Unconditional, *, class_names: tuple[str, ...], curvature: Curvature | None = None
    ) -> None:
        super().__init__()
        self.curvature = None
        self.classes = len(class_names)

    def for_training(self, labels: Tensor, generator: Generator) -> Condition:
        return Condition(torch.full_like(labels, self.classes))

    def for_sampling(self, subjects: Subjects) -> Guidance:
        assert isinstance(subjects, Tensor), "prompts are for text"
        condition = Condition(torch.full_like(subjects, self.classes))
        return Guidance(condition, condition, 1)


class ClassConditioning(Conditioning):
    """Class labels with guidance. In training some are replaced by "no label".

    Args:
        settings: the section `conditioning`.
        class_names: of the data set.
        curvature: of the balls that embeddings lie on with `settings.hyperbolic`.
    """

    uses_labels = True

    def __init__(
        self, settings: config.ClassConditioning, *, class_names: tuple[str, ...], curvature: Curvature | None = None
    ) -> None:
        super().__init__()
        self.curvature = curvature if settings.hyperbolic else None
        self.dropout = settings.dropout
        self.guidance_scale = settings.guidance_scale
        self.classes = len(class_names)

    def label_embedding(self, table: nn.Embedding) -> nn.Module:
        return table if self.curvature is None else point_table(table, self.curvature)

    def for_training(self, labels: Tensor, generator: Generator) -> Condition:
        dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < self.dropout
        return Condition(torch.where(dropped, self.classes, labels))

    def for_sampling(self, subjects: Subjects) -> Guidance:
        assert isinstance(subjects, Tensor), "prompts are for text"
        return Guidance(Condition(subjects), Condition(torch.full_like(subjects, self.classes)), self.guidance_scale)
