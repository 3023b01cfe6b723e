"""Weights files are told apart by the names in them, without torch and without running what they hold."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hldm.config.weights import (
    check_digit_weights,
    check_dinov2_weights,
    check_inception_weights,
    check_unlabelled_weights,
    check_vgg_weights,
)
from hldm.errors import UserError
from hldm.metrics.classifier import BUNDLED_WEIGHTS
from tests.weights_files import DINOV2, INCEPTION, VGG, torch_file

CHECKS = {
    "inception": (check_inception_weights, INCEPTION, "fc.weight"),
    "vgg": (check_vgg_weights, VGG, "features.28.weight"),
    "dinov2": (check_dinov2_weights, DINOV2, "pos_embed"),
}
EVERY_CHECK = [
    check_inception_weights, check_vgg_weights, check_digit_weights, check_unlabelled_weights, check_dinov2_weights,
]  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(("check", "names", "needed"), CHECKS.values(), ids=CHECKS.keys())
def test_names_decide(tmp_path: Path, check, names: tuple[str, ...], needed: str, legacy: bool) -> None:
    path = torch_file(tmp_path / "good.pth", names, legacy=legacy)
    assert check(str(path)) == path
    torch_file(path, tuple(name for name in names if name != needed), legacy=legacy)
    with pytest.raises(UserError, match=rf"good\.pth does not hold .* \(it has no {needed}\)"):
        check(str(path))


DAMAGED = {
    "nothing": b"",
    "text": b"hello, world\n" * 100,
    "a page of a web server": b"<!DOCTYPE html><html><body>404</body></html>",
    "another pickle": pickle.dumps({"features.0.weight": 1}),
    "the start of an archive": b"PK\x03\x04" + bytes(200),
    "numbers": bytes(range(256)) * 40,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("check", EVERY_CHECK)
def test_other_files_are_refused(tmp_path: Path, check, content: bytes) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"other\.pth does not hold"):
        check(str(path))


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "cut.pth", INCEPTION)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match="does not hold"):
        check_inception_weights(str(path))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (tmp_path.joinpath("ran").write_text, ("x",))

    for legacy in (False, True):
        torch.save({"x": Payload()}, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError, match="does not hold"):
            check_inception_weights(str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_absent_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for check in EVERY_CHECK:
        with pytest.raises(UserError, match=r"absent\.pth"):
            check(str(tmp_path / "absent.pth"))
    with pytest.raises(UserError, match=r"not bundled.*metrics\.weights=<that file>"):
        check_inception_weights(None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"hub/checkpoints/vgg16-397923af\.pth is not a file"):
        check_vgg_weights(None)
    with pytest.raises(UserError, match=r"reconstruction_lpips needs .* metrics\.perceptual_weights=<that file>"):
        check_vgg_weights(str(tmp_path / "absent.pth"), metric=True)
    assert check_digit_weights(None) is None
    assert check_unlabelled_weights(None) is None


def test_the_bundled_digits_pass_and_what_is_not_whole_does_not(tmp_path: Path) -> None:
    assert check_digit_weights(str(BUNDLED_WEIGHTS)) == BUNDLED_WEIGHTS
    path, content = tmp_path / "digits.safetensors", BUNDLED_WEIGHTS.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="it is cut off"):
        check_digit_weights(str(path))
    state = load_file(BUNDLED_WEIGHTS)
    save_file(state, path)
    with pytest.raises(UserError, match="sha256 is missing"):
        check_digit_weights(str(path))
    state.pop("head.bias")
    save_file(state, path, metadata={"test_accuracy": "0.99", "sha256": "0"})
    with pytest.raises(UserError, match=r"head\.bias is missing"):
        check_digit_weights(str(path))
    for header in ([], {"a": 3}, {"a": {"data_offsets": []}}):
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        with pytest.raises(UserError, match="not a safetensors file"):
            check_digit_weights(str(path))


def test_the_check_needs_no_torch() -> None:
    code = "import sys, hldm.config.weights; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
