"""Every option of every group composes and passes the check."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from hldm.config.compose import compose
from hldm.config.options import PRESETS, Options, description
from hldm.config.schema import RunConfig
from hldm.errors import UserError
from hldm.paths import CHECKOUT, CONF
from tests.published import described

ROOT = CHECKOUT
CHOICES = Options()
OPTIONS = [(group, option) for group, options in CHOICES.of_runs.items() for option in options]
PUBLISHED = described(Path(tempfile.mkdtemp()))
UNET = described(Path(tempfile.mkdtemp()), _class_name="UNet2DModel")

COMPANY = {
    "autoencoder=published": [f"first_stage={PUBLISHED}"],
    "denoiser=published": [f"denoiser.folder={UNET}", "conditioning=none", "autoencoder.latent_channels=3"],
    "autoencoder=mlp": ["diffusion=none"],
    "autoencoder=kl_global": ["latent=global"],
    "autoencoder=kl_map_global": ["latent=map_global"],
    "denoiser=mlp": ["latent=global"],
    "denoiser=cross_attention": ["latent=global"],
    "denoiser=unet_ldm": ["conditioning=none"],
    "denoiser=unet_mlp": ["latent=map_global"],
    "dataset=branching": ["autoencoder=mlp", "diffusion=none", "metrics=vectors"],
    "training=pvae": ["diffusion=none"],
}
"""What an option needs beside it."""


def composed(group: str, option: str) -> RunConfig:
    chosen = f"{group}={option}"
    return compose([chosen, *COMPANY.get(chosen, [])])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_passes_the_check(group: str, option: str) -> None:
    assert composed(group, option).study


@pytest.mark.parametrize(("group", "option"), [pair for pair in OPTIONS if pair[0] not in PRESETS])
def test_an_option_says_all_settings_that_its_section_has(group: str, option: str) -> None:
    """What stands in no option is unknown to "did you mean", and nobody finds it."""
    written = CHOICES.settings(CHOICES.groups[group][option])
    if group not in RunConfig.model_fields or f"{group}._target_" not in written:
        return
    section = getattr(composed(group, option), group)
    assert {f"{group}.{name}" for name in type(section).model_fields} <= written.keys()


@pytest.mark.parametrize("geometry", CHOICES.groups["geometry"])
@pytest.mark.parametrize("curvature", ["0", "0.37", "learnable"])
@pytest.mark.parametrize("channels", [2, 4, 8])
def test_every_geometry_with_every_curvature_and_width(geometry: str, curvature: str, channels: int) -> None:
    config = compose([f"geometry={geometry}", f"curvature={curvature}", f"autoencoder.latent_channels={channels}"])
    assert config.geometry.manifold.dimension == channels
    assert config.curvature.words == curvature


@pytest.mark.parametrize(
    ("typed", "balls"),
    [
        ([], 2),
        (["autoencoder=vq"], 2),
        (["latent=map_global"], 2),
        (["autoencoder.latent_channels=6"], 3),
        (["autoencoder.latent_channels=3"], 1),
        (["latent=global"], 1),
        (["geometry.manifold.balls=1"], 1),
        (["experiment=pvae_mnist", "latent_dim=2"], 1),
    ],
)
def test_balls_of_a_map_are_planes(typed: list[str], balls: int) -> None:
    assert compose(["geometry=poincare", *typed]).geometry.manifold.balls == balls


def test_every_option_describes_itself() -> None:
    for options in CHOICES.of_runs.values():
        for file in options.values():
            assert description(file).endswith((".", "`")), f"{file} starts without a sentence about what it is"


def test_the_defaults_name_every_group() -> None:
    defaults = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    named = {key for entry in defaults if isinstance(entry, dict) for key in entry}
    assert named >= CHOICES.of_runs.keys()


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONF)))
def test_a_list_of_defaults_says_when_the_file_itself_counts(file: Path) -> None:
    """Without _self_ the order is a rule of Hydra's that has changed between its versions."""
    defaults = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("defaults")
    assert defaults is None or defaults.count("_self_") == 1


def test_hardware_holds_nothing_that_can_change_a_result() -> None:
    for file in CHOICES.groups["hardware"].values():
        assert {key.partition(".")[0] for key in CHOICES.settings(file)} == {"hardware"}


def test_compose_checks() -> None:
    with pytest.raises(UserError, match="curvature=-1"):
        compose(["curvature=-1"])
    with pytest.raises(UserError, match="Did you mean"):
        compose(["geometry=poincarre"])


def test_paths_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert compose([]).paths.outputs == str(ROOT / "outputs")
    assert compose(["paths.outputs=here"]).paths.outputs == str(tmp_path / "here")
    (tmp_path / "digits").mkdir()
    assert compose(["dataset.folder=digits"]).dataset.folder == str(tmp_path / "digits")


def test_plugins_leave_room_for_others() -> None:
    """A hydra_plugins/__init__.py would hide the plugins of other packages."""
    assert not (ROOT / "hydra_plugins" / "__init__.py").exists()
    modules = ("hldm_launcher.local", "hldm_sweeper.grid", "hydra_submitit_launcher.config")
    code = "import " + ", ".join(f"hydra_plugins.{module}" for module in modules)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
