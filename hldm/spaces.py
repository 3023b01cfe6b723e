"""Sections of the latent space → curvature and manifolds. A curvature is built once, and all balls share it."""

from hldm.config import geometry as config
from hldm.geometry import Curvature, Manifold, ProductManifold


def curvature_of(section: config.Curvature) -> Curvature:
    """The curvature that a section describes: a number, or a parameter that starts at it."""
    curvature: Curvature = section.described()(**{name: value for name, value, _ in section.fields()})
    return curvature


def manifold_of(section: config.Manifold, curvature: Curvature) -> Manifold:
    """The manifold that a section describes; all its balls share the curvature."""
    if isinstance(section, config.ProductManifold):
        return ProductManifold([manifold_of(factor, curvature) for factor in section.factors])
    settings = {name: value for name, value, _ in section.fields()}
    if section.is_curved:
        settings["curvature"] = curvature
    manifold: Manifold = section.described()(**settings)
    return manifold
