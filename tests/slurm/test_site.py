"""The profile of a site: under what is typed, above the project's own values, checked, without secrets."""

from pathlib import Path

import pytest

from hldm.config.compose import compose
from hldm.config.slurm import Slurm
from hldm.errors import UserError
from hldm.paths import CHECKOUT
from tests.slurm.fake_slurm import FakeSlurm

PROFILE = """
account: lab
partition: long
modules: [cuda/12.4, python]
additional_parameters: {mail-type: END}
umask: "0002"
slurm_gpu:
  partition: gpu
  cpus_per_task: 8
"""


def of(*overrides: str) -> Slurm:
    slurm = compose([*overrides]).hardware.slurm
    assert slurm is not None
    return slurm


@pytest.fixture
def site(tmp_path: Path, slurm: FakeSlurm) -> Path:
    file = tmp_path / "config" / "hldm" / "site.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(PROFILE)
    return file


def test_what_is_typed_counts_before_the_profile(site: Path) -> None:
    cpu, gpu = of("hardware=slurm_cpu"), of("hardware=slurm_gpu")
    assert (cpu.account, cpu.partition, cpu.cpus_per_task) == ("lab", "long", 4)
    assert cpu.modules == ("cuda/12.4", "python")
    assert cpu.additional_parameters == {"mail-type": "END"}
    assert (gpu.account, gpu.partition, gpu.cpus_per_task, gpu.gpus_per_node) == ("lab", "gpu", 8, 1)
    typed = of("hardware=slurm_gpu", "hardware.slurm.partition=a100", "hardware.slurm.account=null")
    assert (typed.partition, typed.account, typed.cpus_per_task) == ("a100", None, 8)
    assert compose(["hardware=cpu"]).hardware.slurm is None


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["+{}.hold=true"], {"mail-type": "END", "hold": True}),  # Hydra's spelling keeps what the site says
        (["++{}.hold=true", "{}.mail-type=FAIL"], {"mail-type": "FAIL", "hold": True}),
        (["+{}.begin=now+1hour", "{}.comment='it\\'s {{x}}, \"y\"'"],
         {"mail-type": "END", "begin": "now+1hour", "comment": "it's {x}, \"y\""}),
        (["{}={{nice:5}}", "+{}.hold=true"], {"nice": 5, "hold": True}),
    ],
)  # fmt: skip
def test_entries_of_a_mapping_are_typed_one_by_one(typed: list[str], expected: dict[str, object], site: Path) -> None:
    where = "hardware.slurm.additional_parameters"
    assert of("hardware=slurm_gpu", *(text.format(where) for text in typed)).additional_parameters == expected


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["hardware=cpu", "+{}.hold=true"], r"is a setting of .*slurm_cpu"),
        (["hardware=slurm_cpu", "+{}.a.b=1"], r"Type hardware\.slurm\.additional_parameters\.a="),
        (["hardware=slurm_cpu", "{}.a=1,2"], r"names several values"),
        (["hardware=slurm_cpu", "+{}.a={{b:1}}"], r"is not allowed: it must be a mapping of sbatch's options"),
        (["hardware=slurm_cpu", "+{}.wrap='MY_TOKEN=abc'"], r"MY_TOKEN would be written"),
    ],
)
def test_entries_that_cannot_be_are_refused(typed: list[str], said: str, slurm: FakeSlurm) -> None:
    with pytest.raises(UserError, match=said):
        of(*(text.format("hardware.slurm.additional_parameters") for text in typed))


def test_a_file_may_be_named(site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("partition: fast\n")
    monkeypatch.setenv("HLDM_SITE", str(other))
    assert of("hardware=slurm_cpu").partition == "fast"
    assert of("hardware=slurm_cpu").account is None
    monkeypatch.setenv("HLDM_SITE", str(tmp_path / "no.yaml"))
    with pytest.raises(UserError, match=r"HLDM_SITE=.*no.yaml is not a file"):
        of("hardware=slurm_cpu")
    assert compose(["hardware=cpu"]).hardware.slurm is None  # who needs no profile is not bothered with it


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partitoin: x\n", r"site.yaml.*no setting partitoin\. Did you mean partition"),
        ("slurm_gpu: {gpus: 2}\n", r"no setting slurm_gpu\.gpus"),
        ("slurm_gpu: fast\n", "slurm_gpu must hold settings"),
        ("nodes: none\n", r"nodes=none is not allowed: it must be a whole number ≥ 1"),
        ("umask: 12\n", "umask=12 is not allowed"),
        ("[1]\n", "must hold settings"),
        ("a: {\n", "cannot be read"),
        ("setup: ['export WANDB_API_KEY=12345']\n", "WANDB_API_KEY would be written"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_name(text: str, said: str, site: Path) -> None:
    site.write_text(text)
    with pytest.raises(UserError, match=said):
        of("hardware=slurm_gpu")


@pytest.mark.parametrize(
    ("line", "is_secret"),
    [
        ("export WANDB_API_KEY=12345", True),
        ("export HF_TOKEN='abc'", True),
        ("db_password = x", True),
        ("export WANDB_API_KEY=$(cat ~/.wandb)", False),
        ('export WANDB_API_KEY="$(cat ~/.wandb)"', False),
        ("export HF_TOKEN=$MINE", False),
        ("source ~/.secrets", False),
        ("export OMP_NUM_THREADS=4", False),
    ],
)
def test_secrets_are_not_written(line: str, is_secret: bool) -> None:
    if is_secret:
        with pytest.raises(ValueError, match="would be written"):
            Slurm.model_validate({"setup": [line]})
    else:
        assert Slurm.model_validate({"setup": [line]}).setup == (line,)


def test_every_option_lists_every_setting() -> None:
    text = (CHECKOUT / "conf" / "hardware" / "slurm_cpu.yaml").read_text(encoding="utf-8")
    for name in Slurm.model_fields:
        assert f"    {name}: " in text
        assert name == "option" or f"${{hldm.site:{name}," in text
