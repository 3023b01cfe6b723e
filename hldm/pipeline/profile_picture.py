"""The picture of a likelihood profile over curvatures: nats per image against flat space, with twice its error."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hldm.drawing import GREY, MARKERS, PALETTE, band, new_figure, plain, save, styled
from hldm.metrics.curvature_profile import ERRORS, Profile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_profiles(path: Path, profiles: dict[str, Profile], own: float) -> None:
    """Write one line with its band for each family of laws, as PNG and PDF; see `profiles_figure`."""
    save(profiles_figure(profiles, own), path)


@styled()
def profiles_figure(profiles: dict[str, Profile], own: float) -> "Figure":
    """A line for each family of laws; the run's own c is a vertical line.

    Args:
        own: c of the run; 0 draws no line.
    """
    figure = new_figure(122, 82)
    axes = figure.add_subplot(xscale="log", ylim=vertical_range(profiles), xlabel="curvature c")
    axes.set_ylabel("nats per image against flat space")
    axes.axhline(0, color=GREY, linewidth=0.8)
    for i, (name, profile) in enumerate(profiles.items()):
        margins = [ERRORS * error for error in profile.error]
        how = {"color": PALETTE[i], "marker": MARKERS[i], "label": f"{name} normals"}
        band(axes, profile.curvatures, profile.gain, margins, **how)
    grid = next(iter(profiles.values())).curvatures
    axes.set_xlim(grid[0], grid[-1])
    if grid[0] <= own <= grid[-1]:
        axes.axvline(own, color=GREY, linestyle="dashed", label=f"c = {own:.3g}, of this run")
    plain(axes, x=True)
    axes.set_title(f"Likelihood of every curvature, ± {ERRORS:g} standard errors")
    axes.legend(loc="lower left")
    return figure


def vertical_range(profiles: dict[str, Profile]) -> tuple[float, float]:
    """What is shown: the best gain with its band, and three times as much below 0. What is worse lies at the edge."""
    gains = np.array([profile.gain for profile in profiles.values()])
    errors = ERRORS * np.array([profile.error for profile in profiles.values()])
    high = max(float((gains + errors)[gains >= 0].max(initial=0.0)), 2 * float(np.median(errors)), 1e-6)
    return -3 * high, 1.1 * high
