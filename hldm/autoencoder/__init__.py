"""Image ⇄ point on the manifold."""

from hldm.autoencoder.base import Autoencoder, Losses
from hldm.autoencoder.kl import KLAutoencoder

__all__ = ["Autoencoder", "KLAutoencoder", "Losses"]
