"""Hyperbolic latent diffusion: the same model, with the geometry of its latent space as a switch."""

__version__ = "0.2.0"
