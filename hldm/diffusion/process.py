"""What a generative process and its sampler have to offer."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Generator, Tensor

from hldm.geometry import Manifold

Predict = Callable[[Tensor, Tensor], Tensor]
"""(normal coordinates (B, C, *positions), time (B,)) → prediction shaped like the coordinates."""


class Process(ABC):
    """A path from noise to latents and the regression target along it.

    Latents arrive as normal coordinates of unit mean square, on the manifold whose curvature was rescaled with them.
    """

    starts_from_posterior_noise = False
    """Whether a latent's path starts from the standard normal numbers that made it a sample of its posterior."""

    @abstractmethod
    def loss(
        self,
        manifold: Manifold,
        predict: Predict,
        v: Tensor,
        generator: Generator,
        labels: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Mean squared error per coordinate, a scalar, at random times, for latents v (B, C, *positions).

        Args:
            noise: N(0, 1) shaped like v, which v was drawn with, where the process starts from it.
            labels: int64 (B,), what the model may be told of each latent; None where it is told nothing. Given its
                label, the noise that a latent is trained with has the law that sampling starts from.
        """

    def fit_pairing(self, noise: Tensor, v: Tensor) -> None:  # noqa: B027  # most measure nothing
        """Measure what the process has to know of latents v (N, C, *positions) and the noise they are drawn with."""

    @abstractmethod
    def velocity(self, manifold: Manifold, predict: Predict, v: Tensor, t: float) -> Tensor:
        """dv/dt in normal coordinates along the deterministic flow from N(0, I) at t = 0 to latents at t = 1."""


class Sampler(ABC):
    """Draws latents with a trained denoiser."""

    evaluations: int
    """Network evaluations for one sample (guidance doubles their cost, not their number).

    Where a sampler chooses its steps: those of its last call, 0 before it.
    """

    @abstractmethod
    def sample(
        self, process: Process, manifold: Manifold, predict: Predict, shape: tuple[int, ...], generator: Generator
    ) -> Tensor:
        """Normal coordinates of the given shape (B, C, *positions)."""
