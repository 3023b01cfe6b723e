"""Files from outside are data: no unknown class is built, nothing is looked up, no path leaves."""

import contextlib
import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from hldm.commands import evaluate
from hldm.config.compose import compose
from hldm.errors import UserError
from hldm.run.directory import RunDirectory
from tests.conftest import Invoke
from tests.published import described

EVERY_SECTION = [
    "",
    "latent=map_global geometry=hybrid curvature=learnable diffusion=ddpm conditioning=text",
    "experiment=pvae_mnist",
    "autoencoder=vq metrics=likelihood metrics.likelihood=null tracking=none",
    "latent=global denoiser=cross_attention dataset=mnist",
]


@cache
def data_of(overrides: str) -> dict[str, Any]:
    return compose(overrides.split()).dump()


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every node of a configuration and where it stands."""
    yield path, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def put(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(data)
    node: Any = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


def read(folder: Path, data: dict[str, Any]) -> RunDirectory:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return RunDirectory(folder)


def new_places(overrides: str) -> list[tuple[tuple[Any, ...], Any]]:
    """The places of a configuration that no earlier one of EVERY_SECTION has in a section of the same class."""

    def within(data: dict[str, Any], path: tuple[Any, ...]) -> tuple[Any, ...]:
        nodes = [_at(data, path[:depth]) for depth in range(len(path) + 1)]
        return (path, *(node.get("_target_") for node in nodes if isinstance(node, dict)))

    data, earlier = data_of(overrides), map(data_of, EVERY_SECTION[: EVERY_SECTION.index(overrides)])
    known = {within(other, path) for other in earlier for path, _ in places(other)}
    return [(path, node) for path, node in places(data) if within(data, path) not in known]


@pytest.mark.parametrize("overrides", EVERY_SECTION, ids=str)
def test_no_other_class_is_ever_built(overrides: str, tmp_path: Path) -> None:
    data = data_of(overrides)
    assert sum(isinstance(node, dict) for _, node in places(data)) > 15
    sections = [path for path, node in new_places(overrides) if isinstance(node, dict)]
    assert sections
    evil = tmp_path / "evil"
    for path in sections:
        for section in (
            {"_target_": "pathlib.Path.touch", "self": str(evil)},
            {"_target_": "os.system", "_args_": [f"touch {evil}"]},
        ):
            with pytest.raises(UserError, match="is not a configuration of this version"):
                _ = read(tmp_path / "run", put(data, path, section) if path else section).config
            # beside the settings that belong there, too
            changed = put(data, path, {**_at(data, path), **section}) if path else {**data, **section}
            with pytest.raises(UserError, match="is not a configuration of this version"):
                _ = read(tmp_path / "run", changed).config
    assert not evil.exists()


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


@pytest.mark.parametrize("overrides", EVERY_SECTION, ids=str)
def test_nothing_is_looked_up(overrides: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_", "s3cr3t")
    data = data_of(overrides)
    kept = 0
    for path, node in new_places(overrides):
        if isinstance(node, dict):
            continue
        for text in ("${oc.env:SECRET_}", "${seed}", "${hldm.root:}"):
            run = read(tmp_path / "run", put(data, path, text))
            try:
                dumped = json.dumps(run.config.dump())
            except UserError as error:
                dumped = str(error)
            else:
                kept += 1
                assert text in dumped
            assert "s3cr3t" not in dumped
    assert kept or overrides  # what the later ones add takes no text


@pytest.mark.parametrize("name", ["../../evil", "/evil", "..", ".hidden", "a/b", "a\\b", "a\n", "a b", ""])
@pytest.mark.parametrize("path", [("study",), ("geometry", "name")])
def test_names_make_no_path(path: tuple[str, ...], name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a configuration of this version"):
        _ = read(tmp_path / "run", put(compose([]).dump(), path, name)).config


@pytest.mark.parametrize(
    "content", ["", "seed: [", "- 1", "seed", "null", "seed: 3", "geometry: {name: x}", "\x00", "a: *b"]
)
def test_a_damaged_configuration_is_a_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.yaml"):
        evaluate.main([f"run={tmp_path}"])


def test_a_configuration_that_is_cut_off_anywhere_is_a_sentence(tmp_path: Path) -> None:
    text = yaml.safe_dump(compose(["latent=map_global"]).dump(), sort_keys=False)
    for end in range(0, len(text), 37):
        (tmp_path / "config.yaml").write_text(text[:end])
        with contextlib.suppress(UserError):  # nothing else
            _ = RunDirectory(tmp_path).config


WRONG_ARCHITECTURES: list[dict[str, Any]] = [
    {"latent_channels": "x"},
    {"latent_channels": [4]},
    {"latent_channels": -1},
    {"vq_embed_dim": {}},
    {"block_out_channels": 3},
    {"block_out_channels": []},
    {"block_out_channels": ["${oc.env:SECRET_}"]},
    {"down_block_types": "x"},
    {"norm_num_groups": 0},
    {"in_channels": None},
]


@pytest.mark.parametrize("settings", WRONG_ARCHITECTURES, ids=str)
def test_an_architecture_of_no_sense_is_a_sentence(
    settings: dict[str, Any], invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_", "s3cr3t")
    folder = described(tmp_path / "published", **settings)
    status, out, err = invoke("autoencoder=published", f"first_stage={folder}", "tracking=none")
    assert status == 2
    assert "Traceback" not in err
    assert next(iter(settings)) in err
    assert "s3cr3t" not in out + err


def test_an_architecture_is_data(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_", "s3cr3t")
    evil = {"_target_": "pathlib.Path.touch", "self": str(tmp_path / "evil")}
    folder = described(tmp_path / "published", _target_="os.system", own=evil, name="${oc.env:SECRET_}")
    status, _, err = invoke("autoencoder=published", f"first_stage={folder}", "tracking=none")
    assert (status, err) == (0, "")
    assert not (tmp_path / "evil").exists()
    [config] = Path("outputs").glob("*/*/config.yaml")
    assert "s3cr3t" not in config.read_text()
    assert "${oc.env:SECRET_}" in config.read_text()
