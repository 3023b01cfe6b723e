"""A study on Weights & Biases: a report and a saved workspace with the panels of the local page.

Both are views of the runs that W&B has: panels name summary keys and config columns, and W&B draws them from whatever
runs carry the study's name, also of those that finish later. Tables and sentences of the report alone are fixed: they
are the comparison's own, whose intervals W&B cannot compute.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from hldm.errors import UserError
from hldm.tracking.board import CELL, RUN, Board, sections
from hldm.tracking.wandb import choose_mode, in_one_line, set_up


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


def publish(
    board: Board,
    project: str,
    entity: str | None = None,
    ids: Mapping[str, str] | None = None,
    keep: Callable[[Mapping[str, str]], object] = lambda ids: None,
) -> Links:
    """Write the report and the workspace of a study, anew or in place of those with these `ids`.

    Args:
        board: what they show.
        project, entity: where the runs are; None: the key's own entity.
        ids: of the `Links` that an earlier call gave. What the server says is no longer there is written anew.
        keep: gets the ids as soon as there are some: of a report whose workspace the server then did not take, too.

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
        return _publish(board, owner, project, _there(ids or {}), keep)
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


_VIEW = "query ViewIsThere($id: ID!) { view(id: $id) { id } }"


def _there(ids: Mapping[str, str]) -> dict[str, str]:
    """Those of what is still on the server: it is asked, as nothing else tells a deleted report from a lost answer.

    Raises:
        whatever wandb does where the server does not answer: a second report would be written otherwise.
    """
    import wandb
    from wandb_workspaces._graphql import execute_graphql

    def is_there(view: str | None) -> bool:
        return bool(view) and execute_graphql(wandb.Api(), _VIEW, {"id": view}).get("view") is not None

    found = dict(ids)
    if not is_there(ids.get("report")):
        found.pop("report", None)
    if not is_there(ids.get("workspace")):
        found.pop("workspace", None)
        found.pop("view", None)
    return found


def _publish(
    board: Board, entity: str, project: str, ids: Mapping[str, str], keep: Callable[[Mapping[str, str]], object]
) -> Links:
    report, workspace = report_of(board, entity, project), workspace_of(board, entity, project)
    report.id = ids.get("report", "")
    workspace._internal_id = ids.get("workspace", "")
    workspace._internal_name = ids.get("view", "")
    report.save()
    keep({**ids, "report": report.id})
    workspace.save()
    own = {"report": report.id, "workspace": workspace._internal_id, "view": workspace._internal_name}
    keep(own)
    return Links(report.url, workspace.url, own)


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
