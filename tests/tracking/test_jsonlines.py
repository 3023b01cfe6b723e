import json
import math
from pathlib import Path

import pytest

from hldm.tracking import JsonLines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_a_line_holds_stage_step_and_metrics(path: Path) -> None:
    JsonLines(path).log(10, {"loss": 0.5}, "first_stage")
    assert json.loads(path.read_text()) == {"stage": "first_stage", "step": 10, "loss": 0.5}


def test_opening_creates_nothing(path: Path) -> None:
    assert JsonLines(path).records() == []
    assert not path.exists()


def test_values_that_json_lacks_are_written_as_strings_and_read_as_floats(path: Path) -> None:
    lines = JsonLines(path)
    lines.log(1, {"a": math.nan, "b": math.inf, "c": -math.inf}, "diffusion")

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse)["b"] == "Infinity"
    (record,) = lines.records()
    assert math.isnan(record["a"])
    assert (record["b"], record["c"]) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    "torn", [b'{"stage": "diffusion", "st', b'{"stage": "diffusion", "step": 3}', b"\0\0\0", b"7\n"]
)
def test_a_torn_last_line_is_dropped(path: Path, torn: bytes) -> None:
    lines = JsonLines(path)
    lines.log(1, {"loss": 1.0}, "diffusion")
    lines.log(2, {"loss": 0.5}, "diffusion")
    with path.open("ab") as file:
        file.write(torn)
    again = JsonLines(path)
    again.log(3, {"loss": 0.25}, "diffusion")
    assert [record["step"] for record in again.records()] == [1, 2, 3]


def test_rewinding_drops_what_comes_after_in_that_stage_only(path: Path) -> None:
    lines = JsonLines(path)
    for stage in ("first_stage", "diffusion"):
        for step in (10, 20, 30):
            lines.log(step, {"loss": math.nan}, stage)
    lines.rewind("diffusion", 20)
    assert [record["step"] for record in lines.records()] == [10, 20, 30, 10, 20]
    assert math.isnan(lines.records()[-1]["loss"])
    assert [file.name for file in path.parent.iterdir()] == ["metrics.jsonl"]


def test_no_flipped_bit_makes_a_log_unreadable(path: Path) -> None:
    """A line that is no line any more is dropped; the others are read, replaced and added to."""
    lines = JsonLines(path)
    lines.log(1, {"loss": 1.5, "other": math.nan}, "first_stage")
    lines.log(2, {"loss": -math.inf}, "diffusion")
    content = path.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        again = JsonLines(path)
        assert len(again.records()) <= 2  # none where the end of the first line is gone
        again.rewind("diffusion", 1)
        again.begin_with("first_stage", [{"stage": "first_stage", "step": 1, "loss": 1.5}])
        assert again.records()[0] == {"stage": "first_stage", "step": 1, "loss": 1.5}


def test_the_first_stage_stands_first_and_replaces_what_was_there(path: Path) -> None:
    lines = JsonLines(path)
    lines.log(1, {"loss": 9.0}, "first_stage")
    lines.log(1, {"loss": math.nan}, "diffusion")
    lines.log(2, {"loss": 8.0}, "first_stage")
    lines.begin_with("first_stage", [{"stage": "first_stage", "step": 1, "loss": 0.1}])
    before = path.stat().st_ino
    assert [(r["stage"], r["step"]) for r in lines.records()] == [("first_stage", 1), ("diffusion", 1)]
    lines.begin_with("first_stage", [{"stage": "first_stage", "step": 1, "loss": 0.1}])
    assert path.stat().st_ino == before  # it is not written again
    lines.begin_with("first_stage", [])
    assert [r["stage"] for r in lines.records()] == ["diffusion"]
    whole = [{"stage": "first_stage", "step": 1, "loss": 0.1}, {"stage": "diffusion", "step": 5, "loss": math.nan}]
    lines.begin_with("first_stage", whole)  # another run's, in place of all
    assert [(r["stage"], r["step"]) for r in lines.records()] == [("first_stage", 1), ("diffusion", 5)]
