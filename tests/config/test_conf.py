"""Every option of every group composes, passes the check and fits the class or function that it names."""

import inspect
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from hldm.errors import UserError
from hldm.study.config import ADDED, CONF, ROOT, compose, description, get, groups, settings
from hldm.study.overrides import known_keys
from hldm.study.rules import RULES
from tests.published import described

WHEN_BUILDING = {
    "autoencoder": {"manifold", "decoder_stem", "image_shape"},
    "conditioning": {"class_names", "curvature"},
    "denoiser": {"latent_shape", "classes", "context_channels", "label_embedding"},
}
"""Section → parameters that hldm/pipeline passes, since they depend on other sections or on the data."""

OPTIONS = [(group, option) for group, options in groups().items() for option in options]


PUBLISHED = described(Path(tempfile.mkdtemp()))

COMPANY = {
    "autoencoder=published": [f"first_stage={PUBLISHED}"],
    "autoencoder=mlp": ["diffusion=none"],
    "autoencoder=kl_global": ["latent=global"],
    "autoencoder=kl_global_scaled": ["latent=global"],
    "autoencoder=kl_map_global": ["latent=map_global"],
    "denoiser=mlp": ["latent=global"],
    "denoiser=cross_attention": ["latent=global"],
    "denoiser=unet_mlp": ["latent=map_global"],
    "dataset=branching": ["autoencoder=mlp", "diffusion=none", "metrics=vectors"],
    "metrics=inception": [f"metrics.weights={__file__}"],  # any file that is there
    "training=pvae": ["diffusion=none"],
}
"""What an option needs beside it."""


def composed(group: str, option: str) -> dict[str, Any]:
    chosen = f"{group}={option}"
    return compose([f"+{chosen}" if group in ADDED else chosen, *COMPANY.get(chosen, [])])


def targets(node: Any) -> Iterator[dict[str, Any]]:
    """Every node below that names what to call."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for item in node:
            yield from targets(item)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_its_targets_bind(group: str, option: str) -> None:
    config = composed(group, option)
    for section, content in config.items():
        for node in targets(content):
            arguments = {key: None for key in node if not (key.startswith("_") and key.endswith("_"))}
            if node is content:
                arguments |= dict.fromkeys(WHEN_BUILDING.get(section, ()))
            signature = inspect.signature(get_object(node["_target_"]))
            (signature.bind_partial if node.get("_partial_") else signature.bind)(**arguments)


@pytest.mark.parametrize("geometry", groups()["geometry"])
@pytest.mark.parametrize("curvature", ["0", "0.37", "learnable"])
@pytest.mark.parametrize("channels", [2, 4, 8])
def test_every_geometry_with_every_curvature_and_width(geometry: str, curvature: str, channels: int) -> None:
    flat = ["geometry.flat_channels=1"] if geometry == "hybrid" and channels == 2 else []
    config = compose(
        [f"geometry={geometry}", f"curvature={curvature}", f"autoencoder.latent_channels={channels}", *flat]
    )
    manifold = config["geometry"]["manifold"]
    factors = manifold.get("factors", [manifold])
    assert sum(factor["channels"] for factor in factors) == channels
    for factor in factors:
        assert factor.get("curvature", config["curvature"]) == config["curvature"]


def test_every_option_describes_itself() -> None:
    for options in groups().values():
        for file in options.values():
            assert description(file).endswith((".", "`")), f"{file} starts without a sentence about what it is"


def test_the_defaults_name_every_group() -> None:
    defaults = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))["defaults"]  # type: ignore[index, call-overload]
    named = {key for entry in defaults if isinstance(entry, dict) for key in entry}
    assert named >= groups().keys() - set(ADDED)


def test_hardware_holds_nothing_that_can_change_a_result() -> None:
    for file in groups()["hardware"].values():
        assert {key.partition(".")[0] for key in settings(file)} == {"hardware"}


def test_every_rule_is_about_a_setting_and_allows_its_default() -> None:
    assert RULES.keys() <= known_keys().keys()
    for group, option in OPTIONS:
        config = composed(group, option)
        assert all(rule.holds(get(config, key)) for key, rule in RULES.items() if get(config, key) is not None)


def test_compose_checks() -> None:
    with pytest.raises(UserError, match="curvature=-1"):
        compose(["curvature=-1"])
    with pytest.raises(UserError, match="Did you mean"):
        compose(["geometry=poincarre"])


def test_paths_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert compose([])["paths"]["outputs"] == str(ROOT / "outputs")
    assert compose(["paths.outputs=here"])["paths"]["outputs"] == str(tmp_path / "here")
    (tmp_path / "digits").mkdir()
    assert compose(["dataset.folder=digits"])["dataset"]["folder"] == str(tmp_path / "digits")


def test_plugins_leave_room_for_others() -> None:
    """A hydra_plugins/__init__.py would hide the plugins of other packages."""
    assert not (ROOT / "hydra_plugins" / "__init__.py").exists()
    code = "import hydra_plugins.hldm_launcher.local, hydra_plugins.hydra_submitit_launcher.config"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
