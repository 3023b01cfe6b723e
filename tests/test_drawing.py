"""The style of figures: colours that everybody can tell apart, the same bytes each time, scales that data share."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from hldm.drawing import MARKERS, PALETTE, band, extent, in_sequence, look, new_figure, nice, plain, save, styled
from hldm.paths import CHECKOUT

SIMULATED = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Linear RGB as the colour blind see it: Machado, Oliveira and Fernandes (2009), severity 1."""


def seen(colours: list[str], by: str) -> np.ndarray:
    """CIELAB (N, 3) of colours as "#rrggbb"."""
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(SIMULATED[by]).T, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = linear @ np.array(to_xyz).T / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("by", SIMULATED)
def test_colours_differ_for_everybody(by: str) -> None:
    """A difference of 2.3 is just to be seen; on small marks it takes several times as much. Least here: 16."""
    lab = seen(list(PALETTE), by)
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)) > 15
    assert lab[:, 0].max() < 80  # dark enough for a line on white


@pytest.mark.parametrize("by", SIMULATED)
def test_an_ordered_series_grows_lighter_for_everybody(by: str) -> None:
    lightness = seen(in_sequence(5), by)[:, 0]
    assert (np.diff(lightness) > 8).all()
    assert lightness[-1] < 87


ANY = (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("values", "ends", "bounds", "expected"),
    [
        ([1.0, 2.0], [], ANY, (0.95, 2.05, False)),
        ([1.0, 2.0], [0.8, 2.2], ANY, (0.73, 2.27, False)),  # intervals have room
        ([330.0, 340.0], [-329.0, 1001.0], ANY, (324.0, 346.0, True)),  # and do not decide
        ([1.0, 2.0], [-0.2, 2.2], (0.0, math.inf), (0.415, 2.285, True)),
        (
            [0.1, 0.3],
            [-0.1, 0.5],
            (0.0, 1.0),
            (-0.02, 0.42, True),
        ),  # what cannot be is not shown, but for a mark's half
        ([0.0, 0.0], [0.0, 0.0], (0.0, 1.0), (-0.05, 1.05, False)),  # a share of nothing: all that it can be
        ([0.9, 0.92], [], (0.0, 1.0), (0.899, 0.921, False)),
        ([5.0], [], ANY, (4.5, 5.5, False)),
        ([5.0], [3.0, 7.0], ANY, (2.8, 7.2, False)),  # one value has no range
        ([0.0], [], ANY, (-1.0, 1.0, False)),
        ([], [], ANY, (0.0, 1.0, False)),
    ],
)
def test_the_values_decide_how_far_an_axis_goes(
    values: list[float], ends: list[float], bounds: tuple[float, float], expected: tuple[float, float, bool]
) -> None:
    assert extent(values, ends, bounds) == pytest.approx(expected)


def test_marker_and_colour_tell_35_classes_apart() -> None:
    looks = {tuple(look(i).values()) for i in range(len(PALETTE) * len(MARKERS))}
    assert len(looks) == 35


@pytest.mark.parametrize(
    ("number", "expected"), [(0, 1), (1, 1), (1.01, 1.5), (0.0261, 0.03), (6.0, 7), (8, 10), (1e-7, 1e-7), (9990, 1e4)]
)
def test_scales_are_round(number: float, expected: float) -> None:
    assert nice(number) == pytest.approx(expected)


@styled()
def drawn() -> Figure:
    figure = new_figure(60, 40)
    axes = figure.add_subplot(xscale="log", xlabel="√c · rms")
    band(axes, [0.1, 1.0, 10.0], [1.0, 2.0, 3.0], [0.5, None, 0.1], label="$name 名", **look(0))
    plain(axes, x=True)
    axes.legend()
    return figure


def test_a_figure_is_written_whole_in_every_format_with_the_same_bytes(tmp_path: Path) -> None:
    first, again = (
        [file.read_bytes() for file in save(drawn(), tmp_path / name, ("png", "pdf", "svg"))] for name in "ab"
    )
    assert first == again
    assert [content[:4] for content in first] == [b"\x89PNG", b"%PDF", b"<?xm"]
    assert b"CreationDate" not in first[1]
    assert b"Type3" not in first[1]  # some publishers refuse such fonts
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{a}.{b}" for a in "ab" for b in ("pdf", "png", "svg")]


def test_the_bytes_are_no_matter_of_the_users_own_settings(tmp_path: Path) -> None:
    import matplotlib

    [file] = save(drawn(), tmp_path / "a", ("png",))
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.dpi": 40}):
        [other] = save(drawn(), tmp_path / "b", ("png",))
        assert matplotlib.rcParams["font.size"] == 30  # and theirs are left alone
    assert file.read_bytes() == other.read_bytes()


def test_a_band_goes_as_far_as_margins_are_known() -> None:
    [axes] = drawn().axes
    [polygon] = axes.collections
    corners = {(round(x, 3), round(y, 3)) for x, y in polygon.get_paths()[0].vertices.tolist()}
    assert corners == {(0.1, 0.5), (0.1, 1.5), (10.0, 2.9), (10.0, 3.1)}
    with styled():
        axes.figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels() if label.get_text()][1:-1] == ["0.1", "1", "10"]


def test_matplotlib_is_imported_when_something_is_drawn() -> None:
    modules = "hldm.drawing, hldm.study.figures, hldm.study.compare, hldm.commands.train"
    code = f"import sys, {modules}; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True)
