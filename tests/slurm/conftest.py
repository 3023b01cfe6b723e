"""A fake SLURM on the path, and no profile of a site."""

from pathlib import Path

import pytest

from tests.slurm.fake_slurm import FakeSlurm


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", fake.path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("HLDM_SITE", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CONF"):
        monkeypatch.delenv(name, raising=False)
    return fake
