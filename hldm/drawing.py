"""The style of all figures and how they are written, on matplotlib without its global state.

matplotlib takes a third of a second to import, so it is imported when something is drawn: `--help` and what starts runs
do without. A function that makes a figure is decorated with `styled()`, whatever a user's own matplotlibrc says.
"""

import logging
import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hldm.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#000000")
"""Okabe and Ito (2008), "Color universal design", without their yellow, which is too light for a line on white."""

MARKERS = ("o", "s", "^", "D", "v")
"""As many as share no divisor with the colours: 35 pairs of colour and marker differ."""

GREY = "0.45"
"""Of what frames the data: boundaries, edges of trees, references."""

SEQUENCE = "viridis"
"""Colour map of what is ordered, such as depth: its lightness grows, whichever colours one sees."""

HALO = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
"""Behind words on a picture."""

GRID, COLUMNS = "Grid", "Columns"
"""Facts that a PNG of a grid holds: "left top width height scale" in pixels, and a name per column in lines."""

INCH = 25.4
"""Millimetres."""

STYLE: dict[str, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called "$"
    "pdf.fonttype": 42,  # text stays text: type 3 fonts are refused by some publishers
    "svg.hashsalt": "hldm",
}

METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}
"""What would make the bytes of one figure differ from day to day, or from version to version."""


@contextmanager
def styled() -> Iterator[None]:
    """What is drawn within, or in the function that this decorates, has the style of this module."""
    # a folder for its fonts that cannot be written, and other things that are no matter to anybody
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # names in a script that it lacks
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams  # whose type lists each name
        settings.update(STYLE)
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many millimetres whose axes leave room for their labels. A page's text is 180 mm wide."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / INCH, height / INCH), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@styled()
def save(figure: "Figure", path: Path, kinds: Sequence[str] = ("png", "pdf")) -> list[Path]:
    """Write a figure in each of these formats, whole or not at all; the same figure gives the same bytes.

    Args:
        path: the ending is put in place of its own.
        kinds: png, pdf and svg.

    Returns:
        the files.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the same in all formats, and laid out once
    files = {kind: path.with_suffix(f".{kind}") for kind in kinds}
    for kind, file in files.items():
        write_atomically(file, partial(figure.savefig, format=kind, metadata=METADATA[kind]))
    return list(files.values())


def font_file() -> str:
    """The font of figures, which comes with matplotlib, for what is drawn pixel by pixel."""
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


def look(i: int) -> dict[str, Any]:
    """Colour and marker of the i-th class or series."""
    return {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]}


def in_sequence(n: int) -> list[str]:
    """n colours of an ordered series, dark to light, none so light that a line of it would vanish on white."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[SEQUENCE](0.85 * i / max(n - 1, 1))) for i in range(n)]


def nice(number: float) -> float:
    """The next of …, .1, .15, .2, .3, .4, .5, .7, 1, … above a number, so that similar data share a scale; 1 for 0."""
    if not number > 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(number))
    steps = (1, 1.5, 2, 3, 4, 5, 7, 10)
    return float(next((step * unit for step in steps if number <= step * unit * (1 + 1e-9)), 10 * unit))


def plain(axes: "Axes", *, x: bool = False, y: bool = False, at: Sequence[float] = ()) -> None:
    """Ticks of a logarithmic axis as plain numbers: .1, 1, 10; or at these places."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    for axis in [axes.xaxis] * x + [axes.yaxis] * y:
        if at:
            axis.set_major_locator(FixedLocator(at))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def band(axes: "Axes", xs: Sequence[float], means: Sequence[float], margins: Sequence[float | None], **how: Any) -> Any:
    """A line through means with a band of ± margin where there is one; returns the line.

    Args:
        how: colour, marker, label and the like, of the line.
    """
    (line,) = axes.plot(xs, means, **how)
    known = [(x, m - e, m + e) for x, m, e in zip(xs, means, margins, strict=True) if e is not None]
    at, low, high = ([of[i] for of in known] for i in range(3))
    if len(known) > 1:
        axes.fill_between(at, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    else:
        axes.vlines(at, low, high, color=line.get_color(), alpha=0.5, linewidth=2)
    return line


def extent(
    values: Sequence[float], ends: Sequence[float] = (), bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float, bool]:
    """Both ends of an axis, and whether intervals are cut at them.

    The values decide: intervals of two or three seeds can be many times as wide as all that was measured lies apart.
    They have half of its range on either side, and nothing outside of what the measure can be.

    Args:
        values: means and runs.
        ends: of intervals.
        bounds: what the measure can be.
    """
    if not values:
        return 0.0, 1.0, False
    low, high = min(values), max(values)
    room = (high - low) / 2 or math.inf
    bottom = max(min([low, *ends]), low - room, min(bounds[0], low))
    top = min(max([high, *ends]), high + room, max(bounds[1], high))
    if bottom == top:  # one value: all that it can be, or as much as is not nothing
        bottom, top = bounds if all(map(math.isfinite, bounds)) else (bottom, top)
    edge = 0.05 * (top - bottom) or 0.1 * abs(top) or 1.0
    return bottom - edge, top + edge, any(not bottom - edge <= end <= top + edge for end in ends)


def circles(axes: "Axes", rings: Iterable[tuple[float, str]], boundary: float | None = None) -> None:
    """Circles about the origin with their names, and the edge of a disk, which is infinitely far away.

    Args:
        rings: radius in the picture, and what stands on the circle.
        boundary: radius of the edge; None: there is none.
    """
    from matplotlib.patches import Circle

    shown = [(radius, words, {"linewidth": 0.5, "linestyle": (0, (4, 3))}) for radius, words in rings]
    if boundary is not None:
        shown.append((boundary, "unit circle: infinitely far", {"linewidth": 1.0}))
    for radius, words, how in shown:
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=GREY, zorder=0, **how))
        if words:
            axes.annotate(words, (0, -radius), color=GREY, fontsize=6, ha="center", va="center", bbox=HALO, zorder=3)


def distances(furthest: float) -> list[tuple[float, str]]:
    """Circles at two or three round distances, for a picture of normal coordinates: their radius is the distance."""
    step = nice(furthest / 3)
    return [(step * k, f"r = {step * k:g}") for k in (1, 2, 3)]


def caption(figure: "Figure", text: str) -> None:
    """A line above all panels, or as many as it needs, which are equally long as far as words allow."""
    most = int(figure.get_size_inches()[0] * INCH / 1.45)
    lines = len(textwrap.wrap(text, most))
    letters = next((n for n in range(most // 2, most) if len(textwrap.wrap(text, n)) == lines), most)
    figure.suptitle(textwrap.fill(text, letters), color=GREY, fontsize=7)


def beside(axes: "Axes", name: str, points: float = 36) -> None:
    """The name of a row, to the left of its first panel."""
    axes.annotate(
        name, (0, 0.5), (-points, 0), xycoords="axes fraction", textcoords="offset points", rotation=90,
        ha="center", va="center", fontweight="bold", annotation_clip=False,
    )  # fmt: skip


def legend(figure: "Figure") -> None:
    """One legend below all panels, each name once."""
    found = {
        word: handle for axes in figure.axes for handle, word in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    room = figure.get_size_inches()[0] * INCH
    across = int(room / (14 + 1.5 * max(map(len, found), default=0)))
    lines = math.ceil(len(found) / min(max(across, 1), 10))
    figure.legend(
        found.values(), found.keys(), loc="outside lower center", ncols=math.ceil(len(found) / max(lines, 1)) or 1
    )
