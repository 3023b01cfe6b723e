"""`hldm convert`: what others have saved becomes folders in safetensors, and what became of each part is said."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from hldm import commands
from hldm.commands import convert
from hldm.errors import UserError
from hldm.interchange import load_component, sizes
from hldm.paths import import_path

PATHS = {**os.environ, **import_path()}


def vq_model() -> diffusers.VQModel:
    torch.manual_seed(0)
    return diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 16),
        norm_num_groups=8,
        num_vq_embeddings=16,
        sample_size=16,
        scaling_factor=1.0,
    )


def test_a_folder_of_older_files_becomes_safetensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = vq_model()
    model.save_pretrained(tmp_path / "old" / "vqvae", safe_serialization=False)
    text = tmp_path / "old" / "text_encoder"
    text.mkdir()
    (text / "config.json").write_text('{"architectures": ["CLIPTextModel"]}')
    (tmp_path / "old" / "tokenizer").mkdir()
    index = {"vqvae": ["diffusers", "VQModel"], "tokenizer": ["transformers", "CLIPTokenizer"], "unet": [None, None]}
    (tmp_path / "old" / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pictures" / "one.png")
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    assert not list((tmp_path / "old").rglob("*.safetensors"))
    words = [f"source={tmp_path / 'old'}", f"out={tmp_path / 'new'}", f"images={tmp_path / 'pictures'}"]
    assert commands.main(["convert", *words]) is None
    said = " ".join(capsys.readouterr().out.split())
    assert f"vqvae/: VQModel: {len(model.state_dict())} tensors." in said
    assert "Left out: text_encoder/" in said
    assert "Left out: tokenizer/" in said
    assert "Left out: model_index.json, which names tokenizer too." in said
    assert not (tmp_path / "new" / "model_index.json").exists()
    assert "1 pictures there and back: PSNR" in said
    again = load_component(tmp_path / "new" / "vqvae")
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in model.state_dict().items())


def test_what_no_tensor_tells_is_read_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    unet, first = "unet_config: {params: {num_head_channels: 48}}", "ddconfig: {resolution: 128}"
    file.write_text(f"model: {{params: {{{unet}, first_stage_config: {{params: {{{first}}}}}}}}}")
    assert sizes(file) == {"head_channels": 48, "image_side": 128}
    file.write_text(f"model: {{params: {{{first}}}}}")
    assert sizes(file) == {"head_channels": 32, "image_side": 128}
    file.write_text("model: {params: {}}")
    assert sizes(file) == {"head_channels": 32, "image_side": 256}
    file.write_text("{")
    with pytest.raises(UserError, match="no configuration of latent diffusion"):
        sizes(file)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("unet_config: {params: {num_heads: 8}}", "num_heads=8 without num_head_channels"),
        ("unet_config: {params: {num_heads: 8, num_head_channels: -1}}", "num_heads=8"),
        ("unet_config: {params: {use_new_attention_order: true}}", "use_new_attention_order=True"),
        ("unet_config: {params: {use_scale_shift_norm: true}}", "use_scale_shift_norm=True"),
        ("unet_config: {params: {resblock_updown: true}}", "resblock_updown=True"),
        ("parameterization: x0", "parameterization=x0"),
    ],
)
def test_settings_with_which_tensors_mean_something_else_are_refused(tmp_path: Path, model: str, said: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"model: {{params: {{{model}}}}}")
    with pytest.raises(UserError, match=said):
        sizes(file)


def test_the_scale_of_the_configuration_is_passed_on(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("model: {params: {scale_factor: 0.25, unet_config: {params: {num_heads: -1}}}}")
    assert sizes(file) == {"head_channels": 32, "image_side": 256, "scale": 0.25}


def test_images_without_a_first_stage_are_said_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(UserError, match="has none"):
        convert.main([f"source={tmp_path / 'unet'}", f"out={tmp_path / 'new'}", f"images={tmp_path}"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_part_is_said(tmp_path: Path, file: str, content: str) -> None:
    vq_model().save_pretrained(tmp_path / "source" / "a_first_part")
    (tmp_path / "source" / file).parent.mkdir()
    (tmp_path / "source" / file).write_text(content)
    with pytest.raises(UserError, match=r"cannot be read|holds no settings"):
        convert.main([f"source={tmp_path / 'source'}", f"out={tmp_path / 'new'}"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["source=nowhere", "out=new"], "does not exist"),
        (["source=.", "out=."], "is there already"),
        (["source=.", "out=new", "weights=best"], "average or last"),
        (["out=new"], "Usage: hldm convert|source"),
    ],
)
def test_wrong_arguments_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    with pytest.raises(UserError, match=said):
        convert.main(words)


def test_what_holds_no_weights_is_said_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("text.ckpt", "text.safetensors", "text"):
        (tmp_path / name).write_text("root:x:0:0:root:/root:/bin/bash")
    zipfile.ZipFile(tmp_path / "other.pt", "w").close()
    cases = {"folder": "no model of diffusers", "other.pt": "an archive with 0 data.pkl"}
    cases |= dict.fromkeys(("text.ckpt", "text.safetensors", "text"), "cannot be read as a file of weights")
    code = (
        "import json, sys\n"
        "from hldm.commands import convert\n"
        "from hldm.errors import UserError\n"
        "said = {}\n"
        f"for name in {list(cases)!r}:\n"
        "    try:\n"
        "        convert.main([f'source={name}', 'out=new'])\n"
        "    except UserError as error:\n"
        "        said[name] = str(error)\n"
        "print(json.dumps([said, 'torch' in sys.modules]))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=PATHS)
    said, has_torch = json.loads(done.stdout)
    assert not has_torch
    for name, expected in cases.items():
        assert expected in said[name]
    assert not (tmp_path / "new").exists()


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "source" / "tokenizer").mkdir(parents=True)
    (tmp_path / "source" / "tokenizer" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no model of diffusers"):
        convert.main([f"source={tmp_path / 'source'}", f"out={tmp_path / 'new'}"])


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    unet = tmp_path / "source" / "unet"
    schedule = tmp_path / "source" / "scheduler" / "scheduler_config.json"
    schedule.parent.mkdir(parents=True)
    schedule.write_text("{}")
    vq_model().save_pretrained(unet)
    (file := unet / "diffusion_pytorch_model.safetensors").rename(aside := tmp_path / "aside")
    (empty := tmp_path / "empty").mkdir()
    words = [f"source={tmp_path / 'source'}"]
    for out in (tmp_path / "new", empty):
        with pytest.raises(UserError, match="cannot be used"):
            convert.main([*words, f"out={out}"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aside", "empty", "source"]
    aside.rename(file)
    for out in (tmp_path / "new", empty):
        convert.main([*words, f"out={out}"])
        assert sorted(path.name for path in out.iterdir()) == ["scheduler", "unet"]
    with pytest.raises(UserError, match=r"cannot be made: .*Name a folder"):
        convert.main([*words, "out=/proc/x"])
