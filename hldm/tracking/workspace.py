"""A study on Weights & Biases: a report and a saved workspace with the panels of the local page.

Both are views of the runs that W&B has: panels name summary keys and config columns, and W&B draws them from whatever
runs carry the study's name, also of those that finish later. Tables and sentences of the report alone are fixed: they
are the comparison's own, whose intervals W&B cannot compute.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

from hldm.errors import UserError
from hldm.tracking.wandb import choose_mode, in_one_line, set_up

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
class Links:
    """Where a dashboard is.

    Attributes:
        report, workspace: addresses.
        ids: what `publish` needs to write the same report and workspace again.
    """

    report: str
    workspace: str
    ids: Mapping[str, str]


@dataclass(frozen=True)
class Section:
    """Panels under one heading, over runs that are grouped by `by`."""

    title: str
    note: str
    by: tuple[str, ...]
    panels: Sequence[Any]


def check_dashboard() -> None:
    """Whether a dashboard can be written from here. Connects to nothing.

    Raises:
        UserError: the package that writes it is missing, there is no key, or W&B is told to stay offline.
    """
    if find_spec("wandb_workspaces") is None:
        raise UserError("wandb=true needs the package wandb-workspaces: type `pip install wandb-workspaces`.")
    try:
        chosen, reason = choose_mode("auto")
    except Exception as error:  # whatever wandb raises about its settings
        raise UserError(f"wandb=true cannot be done: Weights & Biases says {in_one_line(error)}.") from error
    if chosen != "online":
        why = reason or f"mode is {chosen}"
        raise UserError(
            f"wandb=true writes to the server, and Weights & Biases is not online: {why}. With a key and without "
            "WANDB_MODE=offline it is; runs that were kept offline are uploaded by `wandb sync`."
        )


def publish(board: Board, project: str, entity: str | None = None, ids: Mapping[str, str] | None = None) -> Links:
    """Write the report and the workspace of a study, anew or in place of those with these `ids`.

    Args:
        board: what they show.
        project, entity: where the runs are; None: the key's own entity.
        ids: of the `Links` that an earlier call gave. What has been deleted on the server since is written anew.

    Raises:
        UserError: as `check_dashboard`; the server knows no such project, or refuses what it is sent.
    """
    check_dashboard()
    set_up()
    try:
        import wandb

        owner = entity or wandb.Api().default_entity
        if _project_id(owner, project) is None:
            raise UserError(
                f"Weights & Biases has no project {owner}/{project}: a run that is tracked makes it, and "
                "`wandb sync outputs/<study>/<run>/wandb/offline-run-*` uploads those that were kept offline."
            )
        try:
            return _publish(board, owner, project, ids or {})
        except Exception:
            if not ids:
                raise
            return _publish(board, owner, project, {})
    except UserError:
        raise
    except Exception as error:  # wandb raises many kinds, and none of them is ours
        raise UserError(
            f"Weights & Biases did not take the dashboard of {board.study}: {in_one_line(error)}. What is compared is "
            "in the table above, and the same command tries again."
        ) from error


def _project_id(entity: str, project: str) -> str | None:
    import wandb
    from wandb_workspaces._graphql import execute_graphql
    from wandb_workspaces.reports.v2 import gql

    found = execute_graphql(wandb.Api(), gql.projectInternalId, {"entityName": entity, "projectName": project})
    return (found.get("project") or {}).get("internalId")


def _publish(board: Board, entity: str, project: str, ids: Mapping[str, str]) -> Links:
    report, workspace = report_of(board, entity, project), workspace_of(board, entity, project)
    report.id = ids.get("report", "")
    workspace._internal_id = ids.get("workspace", "")
    workspace._internal_name = ids.get("view", "")
    report.save()
    workspace.save()
    own = {"report": report.id, "workspace": workspace._internal_id, "view": workspace._internal_name}
    return Links(report.url, workspace.url, own)


# -------------------------------------------------------------------------------------------------------------- panels


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


# -------------------------------------------------------------------------------------------------- report, workspace


def _filters(board: Board) -> Any:
    """The runs of a study: its first stages have runs of their own, which no panel is about."""
    from wandb_workspaces import expr

    return expr.And(expr.Metric("Group") == board.study, expr.Metric("JobType") == "train")


def _columns(board: Board) -> list[str]:
    leading = [f"summary:final/{one.name}" for one in (*board.samples[:4], *board.hierarchy[:1])]
    return [*(f"config:{name}.value" for name in RUN), "run:state", "config:first_stage.value", *leading]


def report_of(board: Board, entity: str, project: str) -> Any:
    """The report, not yet saved: what was found in words and tables, then a grid of panels for each section."""
    import wandb_workspaces.reports.v2 as wr

    runs = partial(
        wr.Runset,
        entity=entity,
        project=project,
        name=board.study,
        filters=_filters(board),
        pinned_columns=_columns(board),
        order=[wr.OrderBy("Name", ascending=True)],  # which begins with geometry, curvature and seed
    )
    blocks: list[Any] = [wr.TableOfContents()]
    if board.sentences:
        blocks += [wr.H2("What was found"), wr.UnorderedList(items=list(board.sentences))]
    for table in board.tables:
        blocks += [wr.H2(table.title), wr.MarkdownBlock(text=_markdown(table.rows))]
    for section in sections(board):
        runset = runs(groupby=[f"config.{name}" for name in section.by])
        blocks += [
            wr.H2(section.title),
            wr.P(section.note),
            wr.PanelGrid(runsets=[runset], panels=_laid_out(section.panels), hide_run_sets=section.title != "Runs"),
        ]
    return wr.Report(
        entity=entity,
        project=project,
        title=f"Comparison of {board.study}"[:128],
        description="Written by `hldm compare … wandb=true`, which writes it again in place.",
        blocks=blocks,
        width="fluid",
    )


def workspace_of(board: Board, entity: str, project: str) -> Any:
    """The workspace, not yet saved: the same panels over the same runs, for looking around."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Comparison of {board.study}",
        sections=[
            ws.Section(name=section.title, panels=list(section.panels), is_open=True) for section in sections(board)
        ],
        settings=ws.WorkspaceSettings(max_runs=100, tooltip_number_of_runs="all_runs"),
        runset_settings=ws.RunsetSettings(
            filters=_filters(board),
            groupby=[expr.Config(name) for name in CELL],
            order=[expr.Ordering(expr.Metric("Name"))],
            pinned_columns=_columns(board),
        ),
    )


def _laid_out(panels: Sequence[Any]) -> list[Any]:
    """Three beside each other on W&B's 24 columns; two where there are two, as pictures want room."""
    import wandb_workspaces.reports.v2 as wr

    across = min(3, max(1, len(panels)))
    width = 24 // across
    for i, panel in enumerate(panels):
        panel.layout = wr.Layout(x=width * (i % across), y=8 * (i // across), w=width, h=8)
    return list(panels)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown: the first row its headings, the first column to the left."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    heading, *others = cells
    lines = [heading, [":--", *("--:" for _ in heading[1:])], *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
