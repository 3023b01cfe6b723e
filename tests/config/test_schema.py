"""The schema: frozen defaults, words made from types, facts that hold for every section."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hldm.config.autoencoder import Published
from hldm.config.base import Section, Shared
from hldm.config.compose import compose
from hldm.config.explain import example, must_be, sentences
from hldm.config.metrics import Hierarchy, Metric, Metrics
from hldm.config.options import Options
from hldm.config.schema import Hardware, NoTracker, Paths, RunConfig, Tracking
from hldm.config.search import Search
from hldm.errors import UserError
from hldm.paths import CHECKOUT

SNAPSHOT = Path(__file__).with_name("defaults.json")


def sections(root: type[Section] = Section) -> Iterator[type[Section]]:
    """Every section of this project, not those that tests add."""
    for section in root.__subclasses__():
        if section.__module__.startswith("hldm."):
            yield section
        yield from sections(section)


SECTIONS = sorted(set(sections()), key=lambda section: section.__qualname__)
FIELDS = [(section, name) for section in SECTIONS for name in section.__annotations__ if name in section.model_fields]
"""(section, setting) where a setting is written."""


def default(section: type[Section], name: str) -> Any:
    value = section.model_fields[name].get_default(call_default_factory=True)
    if isinstance(value, Section):
        return value.dump()
    if isinstance(value, tuple):
        return [item.dump() if isinstance(item, Section) else item for item in value]
    return "(required)" if "PydanticUndefined" in repr(value) else value


def test_defaults_never_change() -> None:
    """A default is the behaviour before the setting existed: identities of runs are differences from it.

    A new setting adds a line to defaults.json. A line that is there stays as it is: recommend other values in conf/.
    """
    found = {f"{s.__name__}.{name}": default(s, name) for s in SECTIONS for name in s.model_fields}
    assert json.loads(json.dumps(found)) == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("section", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_every_setting_says_what_it_is(section: type[Section], name: str) -> None:
    field = section.model_fields[name]
    assert field.description or section.is_family or "value" in name
    first = (field.description or "").split(" ")[0]
    assert first not in {"of", "from", "to", "towards", "with", "per", "at", "on", "by", "in"}, "a fragment, no noun"
    words = must_be(field)
    assert words
    assert "typing" not in words


@pytest.mark.parametrize(("section", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_the_example_of_a_setting_is_allowed(section: type[Section], name: str) -> None:
    shown = example(section.model_fields[name])
    if shown is None or shown.startswith(("'", "<", "[", "outputs/")) or section.is_family:
        return
    is_json = re.fullmatch(r"(0|[1-9]\d*)([.e].*)?|true|false", shown)  # 0002 is a text of digits
    value = json.loads(shown) if is_json else shown
    usual = {key: default(section, key) for key in section.model_fields}
    known = {key: item if item != "(required)" else {"outputs": "here"} for key, item in usual.items()}
    assert getattr(section.model_validate({**known, name: value}), name) is not None


@pytest.mark.parametrize("section", [s for s in SECTIONS if s.target], ids=lambda s: s.__name__)
def test_a_target_is_there_and_takes_the_settings(section: type[Section]) -> None:
    assert section.target is not None
    signature = inspect.signature(section.described())
    if section.takes_section:
        assert next(iter(signature.parameters)) == "settings"
    else:
        names = {"lr", "params"} if section.target.startswith("torch.") else set()
        signature.bind_partial(**{name: None for name in section.model_fields if name not in names})


def test_a_section_comes_back_from_its_dump() -> None:
    config = RunConfig.model_validate({"paths": {"outputs": "outputs"}})
    assert RunConfig.model_validate(json.loads(json.dumps(config.dump()))) == config


def test_all_problems_are_said_at_once() -> None:
    data = {
        "seed": True,
        "paths": {"outputs": "x", "y": 1},
        "geometry": {"manifold": {"_target_": "pathlib.Path.touch"}},
        "training": 5,
        "denoiser": {"_target_": "hldm.diffusion.UNetDenoiser", "block_channels": [64, 70]},
    }
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(data)
    said = sentences(caught.value, RunConfig, data, Options())
    for part in ("seed=true", "paths.y", "pathlib.Path.touch is not one of", "training=5", "Try 64"):
        assert any(part in sentence for sentence in said), part


def test_the_schema_is_quick_to_import() -> None:
    """0.2 s, of which pydantic is a fourth; torch alone would take ten times as long."""

    def seconds(module: str) -> float:
        code = f"import time; t = time.process_time(); import {module}; print(time.process_time() - t)"
        command = [sys.executable, "-c", code]
        return float(subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True).stdout)

    pairs = [(seconds("hldm.config.schema"), seconds("pydantic")) for _ in range(3)]
    assert min(ours / theirs for ours, theirs in pairs) < 8


def test_two_sections_cannot_describe_one_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracking, "options", dict(Tracking.options))

    def define(module: str) -> None:
        type(Tracking)("Mine", (Tracking,), {"__module__": module, "__qualname__": "Mine"}, target="mylab.parts.Mine")

    define("mylab.sections")
    define("mylab.sections")  # a module that is loaded anew
    with pytest.raises(UserError, match=r"theirlab\.sections and mylab\.sections both describe mylab\.parts\.Mine"):
        define("theirlab.sections")
    assert Tracking.options["mylab.parts.Mine"].__module__ == "mylab.sections"


def test_a_family_names_its_members() -> None:
    assert Tracking.is_family
    assert Tracking.members()["hldm.tracking.NoTracker"] is NoTracker
    assert Metric.is_family
    assert RunConfig.members() == NoTracker.members() == {}
    assert not NoTracker.is_family


@pytest.mark.parametrize("value", [10.0, "10", 10])
def test_a_number_of_images_is_read_as_any_whole_number_is(value: Any) -> None:
    assert Metrics.model_validate({"likelihood_images": value}).likelihood_images == 10


@pytest.mark.parametrize("value", [1, "1", 1.0, -1, 2.5, True, "x"])
def test_a_bound_comes_with_its_standard_error(value: Any) -> None:
    with pytest.raises(ValidationError):
        Metrics.model_validate({"likelihood_images": value})


@pytest.mark.parametrize("value", [["digits"], "digits", [{"_target_": "hldm.metrics.DigitFeatures"}]])
def test_a_name_stands_for_an_extractor_with_its_defaults(value: Any) -> None:
    """So the same run is meant, however it is written."""
    metrics = Metrics.model_validate({"extractors": value})
    assert metrics == Metrics()
    assert metrics.delta() == {}
    assert [extractor.name for extractor in metrics.extractors] == ["digits"]


def test_a_folder_in_another_encoding_is_refused_where_it_is_typed() -> None:
    with pytest.raises(ValidationError, match="is not in UTF-8: rename the folder"):
        Paths.model_validate({"outputs": "caf\udce9"})
    assert Paths.model_validate({"outputs": "/café"}).outputs == "/café"


def test_extractors_keep_their_order() -> None:
    names = [["digits", "inception"], ["inception", "digits"]]
    first, second = (Metrics.model_validate({"extractors": value}) for value in names)
    assert [extractor.name for extractor in first.extractors] == names[0]
    assert first.delta() != second.delta() != {}


def test_equal_sections_are_one_object() -> None:
    shared = Shared()
    one, other, unlike = (compose(typed) for typed in (["seed=0"], ["seed=1"], ["training.diffusion.steps=7"]))
    first, *rest = (shared(config) for config in (one, other, unlike))
    assert [first, *rest] == [one, other, unlike]
    assert [config.dump() for config in rest] == [other.dump(), unlike.dump()]
    for config in rest:
        assert config.autoencoder is first.autoencoder
    assert rest[0].training is first.training
    assert rest[1].training is not first.training


def test_a_section_that_holds_a_mapping_stays_its_own() -> None:
    config = compose([]).model_copy(update={"autoencoder": Published.model_construct(architecture={"a": 4})})
    assert Shared()(config).autoencoder is config.autoencoder


@pytest.mark.parametrize(
    ("section", "name"),
    [(Hierarchy, "tries"), (Hierarchy, "base_points"), (Hierarchy, "draws"), (Metrics, "likelihood_steps"),
     (Search, "trials"), (Search, "at_once"), (Hardware, "readers")],
)  # fmt: skip
def test_what_would_never_end_is_refused(section: type[Section], name: str) -> None:
    assert section.model_validate({name: 100})
    with pytest.raises(ValidationError):
        section.model_validate({name: 10**6})
