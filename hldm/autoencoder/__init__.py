"""Image ⇄ point on the manifold."""

from hldm.autoencoder.base import Autoencoder
from hldm.autoencoder.kl import KLAutoencoder
from hldm.autoencoder.likelihood import MarginalLikelihood
from hldm.autoencoder.mlp import MLPAutoencoder
from hldm.autoencoder.published import PublishedAutoencoder
from hldm.autoencoder.variational import Losses, VariationalAutoencoder
from hldm.autoencoder.vq import VQAutoencoder

__all__ = [
    "Autoencoder",
    "KLAutoencoder",
    "Losses",
    "MLPAutoencoder",
    "MarginalLikelihood",
    "PublishedAutoencoder",
    "VQAutoencoder",
    "VariationalAutoencoder",
]
