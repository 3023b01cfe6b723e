"""Sections of the latent space → curvature and manifolds. A curvature is built once, and all balls share it."""

from importlib import import_module
from typing import Any

from hldm.config import geometry as config
from hldm.config.base import Section
from hldm.geometry import Curvature, Manifold, ProductManifold


def described(section: Section) -> Any:
    """The class or function that a section describes. Only those that the schema knows can be named there."""
    assert section.target is not None
    module, _, name = section.target.rpartition(".")
    # not pkgutil.resolve_name, which takes the module hldm.data.branching for the function of that name
    return getattr(import_module(module), name)


def curvature_of(section: config.Curvature) -> Curvature:
    """The curvature that a section describes: a number, or a parameter that starts at it."""
    curvature: Curvature = described(section)(section.value)
    return curvature


def manifold_of(section: config.Manifold, curvature: Curvature) -> Manifold:
    """The manifold that a section describes; all its balls share the curvature."""
    if isinstance(section, config.ProductManifold):
        return ProductManifold([manifold_of(factor, curvature) for factor in section.factors])
    settings = {name: value for name, value, _ in section.fields()}
    if section.is_curved:
        settings["curvature"] = curvature
    manifold: Manifold = described(section)(**settings)
    return manifold
