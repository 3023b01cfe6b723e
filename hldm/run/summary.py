"""The metrics of one run, for a terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table


def print_metrics(metrics: Mapping[str, float], console: Console) -> None:
    """Every metric of one run, with ± its standard deviation over sampling seeds where there are several."""
    cells = []
    for name, value in metrics.items():
        if not name.endswith("_seed_sd"):
            sd = metrics.get(f"{name}_seed_sd")
            cells += [name, f"{value:.4g}" + ("" if sd is None else f" ± {sd:.2g}")]
    table = Table(box=None, show_header=False, pad_edge=False)
    per_row = 6  # three names with their values
    for _ in range(per_row):
        table.add_column(overflow="fold")
    for start in range(0, len(cells), per_row):
        table.add_row(*cells[start : start + per_row])
    console.print(table)
