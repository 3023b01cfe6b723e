"""Configuration → objects: a user's mistake that only a constructor can see is still one sentence."""

import pytest

from hldm.errors import UserError
from hldm.pipeline import run
from tests.pipeline.conftest import prepare


def test_a_constructor_that_refuses_a_setting(tmp_path):
    with pytest.raises(UserError, match="padded_side=24"):
        run(prepare(tmp_path, "autoencoder.padded_side=24").path)


def test_a_damaged_text_model(tmp_path):
    for name in ("config.json", "model.safetensors", "vocab.json"):
        (tmp_path / name).write_text("damaged")
    with pytest.raises(UserError, match="cannot be read as a CLIP text model"):
        run(prepare(tmp_path / "outputs", "conditioning=text", f"conditioning.pretrained={tmp_path}").path)
