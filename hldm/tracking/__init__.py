"""Where the numbers of a run go: always `metrics.jsonl`, and what `tracking=` names."""

from hldm.tracking.jsonlines import JsonLines
from hldm.tracking.none import NoTracker
from hldm.tracking.tracker import FirstStageRun, Tracker, run_labels
from hldm.tracking.wandb import WandbTracker, check_tracking

__all__ = ["FirstStageRun", "JsonLines", "NoTracker", "Tracker", "WandbTracker", "check_tracking", "run_labels"]
