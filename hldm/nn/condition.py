"""The condition of a denoiser: its input beside the noisy latent and the time."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Either labels or features of a text, one row per latent; a network takes whichever it was built for.

    Attributes:
        labels: int64 (B,), in [0, classes]; the index `classes` means "no label".
        hidden: (B, L, D) features of L tokens to attend to, tangent vectors also where the conditioning is hyperbolic.
        mask: bool (B, L), which of the tokens are there and which are padding.
    """

    labels: Tensor | None = None
    hidden: Tensor | None = None
    mask: Tensor | None = None
