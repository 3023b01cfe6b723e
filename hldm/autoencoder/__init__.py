"""Image ⇄ point on the manifold."""

from hldm.autoencoder.base import Autoencoder, Losses
from hldm.autoencoder.kl import KLAutoencoder
from hldm.autoencoder.likelihood import MarginalLikelihood
from hldm.autoencoder.mlp import MLPAutoencoder

__all__ = ["Autoencoder", "KLAutoencoder", "Losses", "MLPAutoencoder", "MarginalLikelihood"]
