"""What a dashboard of a study shows, as plain data, and the panels of Weights & Biases that show it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CELL = ("geometry", "curvature")
"""Config columns that make a cell: panels show means over what is left, which is the seed."""

RUN = (*CELL, "seed")

STAGES = {"first_stage": "first stage", "diffusion": "diffusion"}

PICTURES = ("samples", "reconstructions", "latents", "neighbours")
"""Pictures that runs may have on W&B, in the order of the page."""


@dataclass(frozen=True)
class Measure:
    """A metric of runs.

    Attributes:
        name: in results.json; W&B has it as final/<name>.
        heading: as in "FID ↓".
        controls: metrics it stands beside: what chance, or real images, score.
    """

    name: str
    heading: str
    controls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A table of the report.

    Attributes:
        title: what it shows.
        rows: the first one holds the headings.
    """

    title: str
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Board:
    """What a dashboard shows of a study, as plain data.

    Attributes:
        study: its name, which is the group of its runs on W&B.
        samples: measures of generated images, the leading ones first.
        others: measures of the first stage and of the likelihood.
        hierarchy: measures of the latents, each beside its controls.
        curves: setting → the metrics along it; each run has them as <setting>_curve/<metric>.
        named: settings whose values are names, so that their places on a curve are counted.
        pictures: those of `PICTURES` that runs have.
        tables: means with intervals.
        sentences: verdict, then what cannot be compared and why.
        has_diffusion: whether runs have a second stage.
    """

    study: str
    samples: Sequence[Measure] = ()
    others: Sequence[Measure] = ()
    hierarchy: Sequence[Measure] = ()
    curves: Mapping[str, Sequence[Measure]] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    pictures: Sequence[str] = ()
    tables: Sequence[Grid] = ()
    sentences: Sequence[str] = ()
    has_diffusion: bool = True


@dataclass(frozen=True)
class Section:
    """Panels under one heading, over runs that are grouped by `by`."""

    title: str
    note: str
    by: tuple[str, ...]
    panels: Sequence[Any]


def sections(board: Board) -> list[Section]:
    """The panels of a dashboard, in the order of the local page. A section without panels is left out."""
    import wandb_workspaces.reports.v2 as wr

    mean: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
    seeds = "Means over seeds; the bar is one standard error, as W&B draws it. The intervals are in the tables."
    found = [
        Section("Samples", seeds, CELL, [_bars(one, mean) for one in board.samples]),
        Section(
            "Against curvature",
            "A point for each run. Flat runs stand at 0; a curvature that is learned is a word and has no place here.",
            CELL,
            [
                wr.ScatterPlot(title=f"{one.heading} against curvature", x=wr.Config("curvature"), y=_summary(one.name))
                for one in board.samples
            ],
        ),
        Section(
            "Settings of the sampler",
            "Validation images, the same noise at every value; bands are one standard error over seeds.",
            CELL,
            [_curve(board, setting, one, mean) for setting, along in board.curves.items() for one in along],
        ),
        Section("Precision against recall", "Near real images, and as varied.", CELL, list(_precision(board.samples))),
        Section(
            "Hierarchy beside chance",
            "Each figure beside what a control without a hierarchy, or chance, gives.",
            CELL,
            [_bars(one, mean) for one in board.hierarchy],
        ),
        Section("First stage and likelihood", seeds, CELL, [_bars(one, mean) for one in board.others]),
        Section("Training", "Losses of both stages.", CELL, list(_training(board, mean))),
        Section(
            "Pictures",
            "Runs of one seed drew from the same noise.",
            RUN,
            [wr.MediaBrowser(title=name.capitalize(), media_keys=[name], num_columns=3) for name in board.pictures]
            + [
                wr.MediaBrowser(title="Samples, one by one", media_keys=["samples_table"])
                for name in board.pictures
                if name == "samples"
            ],
        ),
        Section(
            "Seeds",
            "What a change of the seed alone does.",
            RUN,
            [
                wr.ScatterPlot(title=f"{one.heading} by seed", x=wr.Config("seed"), y=_summary(one.name))
                for one in board.samples[:2]
            ],
        ),
        Section("Runs", "Which settings differ; failed and running runs are in the table.", RUN, [*_runs(board)]),
    ]
    return [one for one in found if one.panels]


def _summary(name: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.SummaryMetric(f"final/{name}")


def _bars(one: Measure, mean: Mapping[str, Any]) -> Any:
    import wandb_workspaces.reports.v2 as wr

    names = [f"final/{name}" for name in (one.name, *one.controls)]
    return wr.BarPlot(title=one.heading, metrics=names, max_bars_to_show=60, **mean)


def _curve(board: Board, setting: str, one: Measure, mean: Mapping[str, Any]) -> Any:
    import wandb_workspaces.reports.v2 as wr

    x = "step" if setting in board.named else "value"
    return wr.LinePlot(
        title=f"{one.heading} against {setting}",
        x=f"{setting}_curve/{x}",
        y=[f"{setting}_curve/{one.name}"],
        title_x=f"{setting}, in the order tried" if setting in board.named else setting,
        title_y=one.heading,
        max_runs_to_show=100,
        **mean,
    )


def _precision(samples: Sequence[Measure]) -> Iterator[Any]:
    """One for each way of drawing and each extractor in which there are both."""
    import wandb_workspaces.reports.v2 as wr

    names = {one.name for one in samples}
    for one in samples:
        if one.name.startswith("precision") and (recall := one.name.replace("precision", "recall", 1)) in names:
            way = one.heading.removeprefix("precision").removesuffix(" ↑").strip()
            yield wr.ScatterPlot(
                title=f"Precision against recall {way}".strip(),
                x=_summary(recall),
                y=_summary(one.name),
                range_x=(0.0, 1.0),
                range_y=(0.0, 1.0),
            )


def _training(board: Board, mean: Mapping[str, Any]) -> Iterator[Any]:
    import wandb_workspaces.reports.v2 as wr

    for stage, words in STAGES.items():
        if stage == "first_stage" or board.has_diffusion:
            yield wr.LinePlot(
                title=f"Loss of the {words}",
                x=f"{stage}/step",
                y=[f"{stage}/loss"],
                title_x="step",
                title_y="loss",
                max_runs_to_show=100,
                **mean,
            )


def _runs(board: Board) -> Iterator[Any]:
    import wandb_workspaces.reports.v2 as wr

    column = wr.ParallelCoordinatesPlotColumn
    shown = [column(_summary(one.name), one.heading) for one in board.samples[:2]]
    yield wr.ParallelCoordinatesPlot(title="From settings to figures", columns=[
        *(column(wr.Config(name), name) for name in RUN), *shown])  # fmt: skip
    yield wr.RunComparer(diff_only="split")
