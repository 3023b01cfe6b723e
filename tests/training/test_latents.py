"""Latents are the same wherever they are kept; what is on a disk is whole, resumed where it was left, and verified."""

from itertools import count

import pytest
import torch

from hldm.config.compose import compose
from hldm.errors import Stopped, UserError
from hldm.pipeline.build import build_model
from hldm.run import stop
from hldm.training import latents
from hldm.training.latents import Anew, Form, InMemory, OnDisk, encode, fill, form_of, images_at_once
from hldm.training.randomness import batch_indices, images_used
from tests.fake_data import noise_digits

DATA = noise_digits(50)
KINDS = {"kl": [], "vq": ["autoencoder=vq", "geometry=euclidean"], "global": ["latent=global"]}


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    small = ["paths.outputs=/nowhere", "autoencoder.block_channels=[8,16]"]
    config = compose([*KINDS[request.param], *small])
    return build_model(config, DATA).eval().requires_grad_(False)


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(latents, "AT_ONCE", 10)
    monkeypatch.setattr(latents, "SHARD_BYTES", 1)


def on_disk(model, folder, kept_as="float32"):
    return OnDisk(folder, form_of(model, DATA.train, kept_as), torch.device("cpu"))


def made(model, folder, kept_as="float32", only=None):
    kept = on_disk(model, folder, kept_as)
    missing = kept.missing()
    fill(kept, missing if only is None else missing[:only], model, DATA.train, lambda done: None, is_writer=True)
    return kept


def same(one, other):
    return torch.equal(one.loc, other.loc) and (
        one.scale is other.scale if one.scale is None else torch.equal(one.scale, other.scale)
    )


@pytest.mark.parametrize("half", [False, True])
def test_latents_are_the_same_wherever_they_are_kept(model, tmp_path, small_files, half):
    whole = latents.rounded(encode(model, DATA.train), half=half)
    kept = made(model, tmp_path, "float16" if half else "float32")
    assert kept.form.shards == 5
    assert same(kept.whole(), whole)
    order = [batch_indices(0, "x", step, 16, len(DATA.train)) for step in range(7)]
    anew = Anew(model, DATA.train, half=half)
    streams = [latents.batches(order) for latents in (InMemory(whole), kept, anew)]
    for chosen, expected, from_disk, again in zip(order, *streams, strict=True):
        assert same(expected, whole.rows(chosen))
        assert same(from_disk, expected)
        assert same(kept.rows(chosen), expected)
        for one, other in (*zip(again, expected, strict=True), *zip(anew.rows(chosen), expected, strict=True)):
            if one is not None:  # batches of another size are rounded otherwise, which a step of float16 may show
                torch.testing.assert_close(one, other, rtol=1e-3 if half else 1e-5, atol=1e-5)
    assert (same(whole, encode(model, DATA.train))) is not half


def test_reading_ahead_goes_on_no_further_than_it_is_asked_for(model, tmp_path, small_files):
    kept, asked = made(model, tmp_path), []
    endless = (asked.append(step) or torch.tensor([step % 50]) for step in count())
    batches = kept.batches(endless)
    assert same(next(batches), encode(model, DATA.train).rows(torch.tensor([0])))
    assert asked == list(range(latents.AHEAD + 1))


def test_work_that_was_broken_off_goes_on_with_what_is_missing(model, tmp_path, small_files, monkeypatch):
    monkeypatch.setattr(stop, "check", raise_after := Calls(8))
    with pytest.raises(Stopped):
        made(model, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(latents, "AT_ONCE", 10)
    monkeypatch.setattr(latents, "SHARD_BYTES", 1)
    assert raise_after.left < 0
    there = {file.name: file.stat().st_ino for file in tmp_path.glob("*.npy")}
    again = on_disk(model, tmp_path)
    assert again.missing()
    assert len(there) + len(again.missing()) == 5
    assert same(made(model, tmp_path).whole(), encode(model, DATA.train))
    assert there.items() <= {file.name: file.stat().st_ino for file in tmp_path.glob("*.npy")}.items()


class Calls:
    """Asks to stop after so many calls."""

    def __init__(self, left):
        self.left = left

    def __call__(self):
        self.left -= 1
        if self.left < 0:
            raise Stopped("enough")


def test_no_flipped_bit_passes(tmp_path, capsys):
    form = Form(rows=6, latent_shape=(2,), parts=1, kept_as="float32", batch=3)
    kept = OnDisk(tmp_path, form, torch.device("cpu"))
    kept.write(0, latents.Encoded(torch.arange(12.0).view(6, 2)))
    assert kept.missing() == []
    content = kept.file(0).read_bytes()
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        kept.file(0).write_bytes(changed)
        assert kept.missing() == [0]
    assert "is not what was written" in capsys.readouterr().out
    kept.file(0).write_bytes(content[:-80])
    assert kept.missing() == [0]


def test_another_form_in_the_folder_is_refused_and_what_the_format_cannot_hold_too(tmp_path):
    form = Form(rows=2, latent_shape=(1,), parts=1, kept_as="float16", batch=2)
    kept = OnDisk(tmp_path, form, torch.device("cpu"))
    kept.missing()
    with pytest.raises(UserError, match=r"float16 cannot hold.*training\.latent_precision=float32"):
        kept.write(0, latents.Encoded(torch.full((2, 1), 7e4)))
    with pytest.raises(UserError, match="another form"):
        OnDisk(tmp_path, Form(3, (1,), 1, "float16", 2), torch.device("cpu")).missing()


def test_sizes_are_those_of_the_published_model():
    """3,033,042 bedrooms of 3 × 64 × 64: 74.5 GB in float16, see Rombach et al. (2022)."""
    form = Form(3_033_042, (3, 64, 64), 1, "float16", images_at_once((3, 256, 256)))
    assert round(form.bytes / 1e9, 1) == 74.5
    assert form.batch < latents.AT_ONCE == images_at_once((1, 105, 105)) == images_at_once((3, 64, 64))
    assert form.shard_rows % form.batch == 0
    assert sum(len(form.of_shard(shard)) for shard in range(form.shards)) == form.rows


def test_an_epoch_uses_all_images():
    assert torch.equal(images_used(3, "x", 5, 4, 20), torch.arange(20))
    every = torch.cat([batch_indices(3, "x", step, 4, 21) for step in range(5)])
    assert torch.equal(images_used(3, "x", 5, 4, 21), every.sort().values)
