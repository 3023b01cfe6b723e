"""Image ⇄ point on the manifold."""

from hldm.autoencoder.kl import KLAutoencoder, Losses

__all__ = ["KLAutoencoder", "Losses"]
