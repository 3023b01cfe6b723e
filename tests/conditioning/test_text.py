"""Captions, tokens and features of text: what training may see, padding that says nothing, a frozen text model."""

import json

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from hldm.conditioning import TextConditioning
from hldm.conditioning.captions import Captions, WordTokenizer
from hldm.config import conditioning as config
from hldm.config.diffusion import UNet
from hldm.diffusion import UNetDenoiser
from hldm.errors import UserError
from hldm.geometry import Euclidean
from hldm.layout import LatentLayout
from hldm.nn import Condition
from hldm.run.requirements import _text_model
from hldm.training import initialised, load_weights, save_weights
from hldm.training.ema import Ema

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SETTINGS = config.TextConditioning()
LABELS = torch.arange(10).repeat(1000)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def conditioning(**changes):
    settings = config.TextConditioning(channels=16, **changes)
    return initialised(0, "conditioning", lambda: TextConditioning(settings, class_names=DIGITS)).eval()


def unet(widths=(16, 16), context_channels=16):
    settings, layout = UNet(block_channels=widths, head_channels=16), LatentLayout.of_map(Euclidean(2), (4, 4))
    build = lambda: UNetDenoiser(settings, layout=layout, classes=10, context_channels=context_channels)  # noqa: E731
    return initialised(0, "denoiser", build).eval()


def test_training_says_every_template_and_never_the_held_out_one():
    captions = Captions(SETTINGS.templates, SETTINGS.held_out, DIGITS)
    drawn = captions.draw(LABELS, 0.2, seeded())
    said = set(drawn)
    assert said == {"", *captions.of_training()}
    assert not said & set(captions.of(torch.arange(10)))
    assert all(not text or DIGITS[label] in text.split() for text, label in zip(drawn, LABELS.tolist(), strict=True))
    assert abs(drawn.count("") / len(drawn) - 0.2) < 0.02
    uses = [sum(text.startswith(template[: template.index("{")]) for text in drawn if text) for template in
            ("a handwritten {}", "the digit {}", "a drawing of the digit {}")]  # fmt: skip
    assert all(abs(count / (0.8 * len(drawn)) - 0.2) < 0.02 for count in uses)


def test_a_model_only_reads_what_was_drawn(monkeypatch):
    """The text transformer itself is asked: nothing but captions of training goes in while training, held-out later."""
    model, read = conditioning(), []
    forward = model.encoder.forward
    monkeypatch.setattr(model.encoder, "forward", lambda captions: read.extend(captions) or forward(captions))
    model.for_training(LABELS, seeded())
    assert set(read) == {"", *model.captions.of_training()}
    read.clear()
    model.for_sampling(torch.tensor([7]))
    assert read == ["a drawing of a handwritten seven", ""]


def test_tokens_start_end_and_are_padded():
    tokenizer = WordTokenizer(["a handwritten three", "a three"])
    assert tokenizer.vocabulary == ["a", "handwritten", "three"]
    ids, mask = tokenizer(["A three.", "", "a handwritten three"])
    assert ids.tolist() == [[0, 3, 5, 1, 2], [0, 1, 2, 2, 2], [0, 3, 4, 5, 1]]
    assert mask.tolist() == [[True] * 4 + [False], [True] * 2 + [False] * 3, [True] * 5]
    with pytest.raises(UserError, match=r"'scribbled'.*a, handwritten, three"):
        tokenizer(["a scribbled three"])
    with pytest.raises(UserError, match=r"4 words.*up to 3"):
        tokenizer(["a handwritten handwritten three"])


def test_padding_says_nothing():
    """A longer tokenizer, and a denoiser that is given the padding, both leave the numbers as they are."""
    model = conditioning()
    one = model.encode(["the digit three"])
    ids, mask = model.encoder.tokenizer(["the digit three"])
    short = model.encoder.transformer(input_ids=ids[:, :5], attention_mask=mask[:, :5]).last_hidden_state
    torch.testing.assert_close(model.stem(short), one.hidden[:, :5])

    denoiser = unet()
    v, t = torch.randn(1, 2, 4, 4, generator=seeded()), torch.full((1,), 0.5)
    seen = denoiser(v, t, one)
    torch.testing.assert_close(denoiser(v, t, Condition(hidden=one.hidden[:, :5])), seen)
    other = one.hidden.clone()
    other[:, 5:] += 100
    torch.testing.assert_close(denoiser(v, t, Condition(hidden=other, mask=one.mask)), seen)
    other[:, 4] += 1
    assert (denoiser(v, t, Condition(hidden=other, mask=one.mask)) - seen).abs().max() > 1e-4


def test_masked_attention_is_the_same_without_the_fused_kernel():
    model = conditioning()
    denoiser = unet()
    v, t = torch.randn(2, 2, 4, 4, generator=seeded()), torch.full((2,), 0.5)
    condition = model.encode(["the digit three", "a picture of a handwritten digit nine"])
    fused = denoiser(v, t, condition)
    denoiser.unet.set_attn_processor(AttnProcessor())
    torch.testing.assert_close(denoiser(v, t, condition), fused)


def test_heads_have_the_width_that_was_asked_for():
    denoiser = unet((16, 64), 8)
    attentions = [m for name, m in denoiser.unet.named_modules() if name.endswith(("attn1", "attn2"))]
    assert attentions
    assert {m.heads for m in attentions} == {4}
    assert {m.to_k.in_features for name, m in denoiser.unet.named_modules() if name.endswith("attn2")} == {8}


def test_equal_captions_have_equal_features_in_the_order_they_came():
    model = conditioning()
    captions = ["the digit nine", "", "the digit one", "the digit nine"]
    condition = model.encode(captions)
    assert torch.equal(condition.hidden[0], condition.hidden[3])
    for k, caption in enumerate(captions):
        alone = model.encode([caption])
        torch.testing.assert_close(condition.hidden[k : k + 1], alone.hidden)
        assert torch.equal(condition.mask[k : k + 1], alone.mask)


def test_guidance_leads_away_from_the_empty_caption():
    model = conditioning(guidance_scale=3.0)
    guided = model.for_sampling(["the digit nine"])(lambda condition: condition.hidden)
    full, empty = model.encode(["the digit nine"]).hidden, model.encode([""]).hidden
    torch.testing.assert_close(guided, empty + 3 * (full - empty))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP text model of the smallest size, letters as its words, as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(k) for k in range(97, 123)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPTextConfig(vocab_size=len(tokens), max_position_embeddings=40, bos_token_id=0, eos_token_id=1,
                            pad_token_id=1, **sizes)  # fmt: skip
    initialised(0, "clip", lambda: CLIPTextModel(config)).save_pretrained(folder)
    return folder


def test_a_pretrained_model_is_read_frozen_and_not_stored(folder):
    model = conditioning(pretrained=str(folder))
    assert [name for name, _ in model.named_parameters()] == ["stem.weight", "stem.bias"]

    condition = model.encode(["the digit nine", "a nine"])
    tokenizer, clip = CLIPTokenizer.from_pretrained(folder), CLIPTextModel.from_pretrained(folder).eval()
    batch = tokenizer(["the digit nine", "a nine"], padding=True, return_tensors="pt")
    expected = model.stem(clip(**batch).last_hidden_state)
    assert torch.equal(condition.mask, batch["attention_mask"].bool())
    torch.testing.assert_close(condition.hidden[condition.mask], expected[condition.mask])
    with pytest.raises(UserError, match=r"40 at most"):
        model.encode(["nine " * 20])


def test_it_is_found_in_a_folder_of_stable_diffusion(folder, tmp_path):
    CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "tokenizer")
    CLIPTextModel.from_pretrained(folder).save_pretrained(tmp_path / "text_encoder")
    alone, within = (conditioning(pretrained=str(place)) for place in (folder, tmp_path))
    assert torch.equal(alone.encode(["a nine"]).hidden, within.encode(["a nine"]).hidden)
    section = config.TextConditioning(pretrained=str(tmp_path))
    assert list(_text_model(str(tmp_path))) == []
    before = section.by_content()
    (tmp_path / "text_encoder" / "model.safetensors").unlink()
    assert section.by_content() != before
    (said,) = _text_model(str(tmp_path))
    assert "lacks *.safetensors" in said


def test_what_the_frozen_model_read_goes_to_where_the_rest_is(folder):
    """It reads on the CPU. "meta" stands for a GPU: there too, tensors of two devices do not meet."""
    model = conditioning(pretrained=str(folder)).to("meta")
    condition = model.encode(["the digit nine", "a nine", "a nine"])
    assert condition.hidden.device.type == condition.mask.device.type == "meta"


def test_the_frozen_model_is_shared_by_the_average_and_left_out_of_the_weights(folder, tmp_path):
    model = conditioning(pretrained=str(folder))
    average = Ema(model, 0.9)
    with torch.no_grad():
        model.stem.weight += 1
    average.update(model)
    assert average.model.encoder is model.encoder
    save_weights(tmp_path / "w.safetensors", average.model)
    assert sorted(load_file(tmp_path / "w.safetensors")) == ["encoder._extra_state", "stem.bias", "stem.weight"]
    fresh = conditioning(pretrained=str(folder))
    load_weights(tmp_path / "w.safetensors", fresh)
    assert torch.equal(fresh.encode(["a nine"]).hidden, average.model.encode(["a nine"]).hidden)


def test_another_pretrained_model_than_that_of_training_is_refused(folder, tmp_path):
    state = conditioning(pretrained=str(folder)).state_dict()
    conditioning(pretrained=str(folder)).load_state_dict(state)
    other = CLIPTextModel.from_pretrained(folder)
    with torch.no_grad():
        other.final_layer_norm.bias[0] += 1e-3
    other.save_pretrained(tmp_path)
    CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"not the one that this run was trained with"):
        conditioning(pretrained=str(tmp_path)).load_state_dict(state)


def test_what_is_no_text_model_is_named(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(UserError, match=r"cannot be read as a CLIP text model"):
        conditioning(pretrained=str(tmp_path))
