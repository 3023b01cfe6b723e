"""What hldm generate shows of a latent space, in every geometry and layout, and what it refuses before any work."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from hldm.commands import generate
from hldm.config.conditioning import ClassConditioning
from hldm.config.diffusion import FlowSampler
from hldm.errors import UserError
from hldm.pipeline import controls, latent_views
from hldm.pipeline.labelled_rows import Row, save_rows
from hldm.pipeline.samples import draw
from hldm.training import encode
from tests.fake_data import noise_digits
from tests.pipeline.conftest import prepare
from tests.test_layouts import layout
from tests.test_model import GEOMETRIES, model_of

LAYOUTS = ("map", "global", "map_global")
BATCH = 4


@pytest.fixture(scope="module")
def dataset():
    return noise_digits(40)


@pytest.fixture(scope="module", params=[f"{geometry} {name}" for geometry in GEOMETRIES for name in LAYOUTS])
def drawn(request, dataset):
    """An untrained model whose latents are of the usual size, and six samples of it."""
    geometry, name = request.param.split()
    settings = [f"geometry={geometry}", "diffusion.sampler.steps=2"]
    model = model_of(dataset, *settings) if name == "map" else layout(dataset, name, *settings)
    model = model.eval().requires_grad_(False)
    return model, draw(model, torch.arange(6), seed=0, batch_size=BATCH)


def test_radius(drawn, dataset):
    model, samples = drawn
    labels = torch.arange(6)
    for around in (None, 3):
        view = latent_views.with_radius(model, dataset, samples, labels, [0, 1, 2], around, BATCH)
        at_centre, as_drawn, doubled = view.arrays["arr_0"].split(6)
        assert torch.equal(as_drawn, samples.images)  # bit for bit
        assert (doubled != as_drawn).any()
        members, _ = (None, None) if around is None else latent_views.class_latents(model, dataset, around)
        centre = torch.zeros_like(samples.v[:1])
        if members is not None:
            centre = controls.mean_latent(model.autoencoder.manifold, members).unsqueeze(0)
        assert torch.equal(at_centre, latent_views.decoded(model, centre.repeat(6, *[1] * (centre.ndim - 1)), BATCH))
        assert view.arrays["arr_1"].tolist() == [0, 1, 2, 3, 4, 5] * 3
        assert [row.label for row in view.rows] == ["as drawn", "radius × 0", "radius × 1", "radius × 2"]
        first, zero, one, two = ([float(note) for note in row.notes] for row in view.rows)
        assert first == one
        assert zero == [0] * 6
        assert two == pytest.approx([2 * d for d in one], rel=0.01)
        assert ("mean of class 3" in view.caption) == (around is not None)
    without = latent_views.with_radius(model, dataset, samples, None, [0.5], None, BATCH)
    assert without.arrays.keys() == {"arr_0"}


def test_between(drawn, dataset):
    model, samples = drawn
    view = latent_views.between(model, dataset, samples, torch.arange(6), 1, 4)
    geodesic, straight = view.arrays["arr_0"].split(latent_views.FRAMES)
    ends = samples.images[[1, 4]].int()
    for path in (geodesic, straight):  # decoded in another batch: the last bit of a pixel may differ
        assert (path[[0, -1]].int() - ends).abs().max() <= 1
    assert [row.label.split()[0] for row in view.rows] == ["geodesic", "straight"]
    notes = view.rows[0].notes
    assert (notes[0], notes[4], notes[-1]) == ("1, no. 1", "t = 0.5", "4, no. 4")
    manifold = model.autoencoder.manifold
    if manifold.is_flat:
        assert torch.equal(geodesic, straight)
        assert "Space is flat, where the geodesic is the straight line: the two rows coincide" in view.caption
    elif all(leaf.is_flat or leaf.ball_dim == 1 for leaf in manifold.leaves()):  # a line is not curved
        assert "Here the straight line is the geodesic: the two rows coincide" in view.caption
    else:
        assert "% longer" in view.caption
    unnamed = latent_views.between(model, dataset, samples, None, 1, 4)
    assert unnamed.rows[0].notes[0] == "no. 1"


def test_between_points_on_one_ray_the_rows_coincide(dataset):
    model = model_of(dataset, "geometry=poincare").eval().requires_grad_(False)
    samples = draw(model, torch.arange(2), seed=0, batch_size=BATCH)
    on_a_ray = samples._replace(v=torch.stack([0.5 * samples.v[0], samples.v[0]]))
    assert "the straight line is the geodesic" in latent_views.between(model, dataset, on_a_ray, None, 0, 1).caption


def test_mean_of(drawn, dataset):
    model, _ = drawn
    view = latent_views.class_mean(model, dataset, 3, 2)
    mean, nearest, farthest = view.rows
    assert len(mean.images) == 1
    distances = [float(note) for note in (*nearest.notes, *farthest.notes)]
    assert distances == sorted(distances)
    assert distances[0] > 0
    assert len(view.arrays["arr_0"]) == 5
    shown = torch.cat([nearest.images, farthest.images])
    members = dataset.train.read((dataset.train.labels == 3).nonzero().flatten())
    assert all((members == image).flatten(1).all(1).any() for image in shown)
    assert ("Space is flat" in view.caption) == model.autoencoder.manifold.is_flat
    assert len(latent_views.class_mean(model, dataset, 3, None).arrays["arr_0"]) == 1 + 2 * len(members)
    with pytest.raises(UserError, match=rf"n=99 .* has {len(members)} to train on. Type n={len(members)} at most"):
        latent_views.class_mean(model, dataset, 3, 99)


def test_a_class_without_an_image_to_train_on_has_no_mean(dataset):
    model = model_of(dataset, "geometry=poincare")
    dataset = noise_digits(3)
    absent = next(label for label in range(10) if label not in dataset.train.labels)
    with pytest.raises(UserError, match="has no training image"):
        latent_views.class_latents(model, dataset, absent)


def test_neighbours(drawn, dataset, monkeypatch):
    monkeypatch.setattr(latent_views, "AT_ONCE", 7)  # several chunks
    model, _ = drawn
    rows = torch.tensor([5, 0, 11])
    images = dataset.train.read(rows)
    copies = latent_views.Drawn(encode(model, images).loc, images)
    view = latent_views.beside_training(model, dataset, copies, None, 2)
    for kind in ("pixels", "latents"):
        indices, distances = view.arrays[f"nearest_in_{kind}"], view.arrays[f"distances_in_{kind}"]
        assert indices[:, 0].tolist() == rows.tolist()  # a copy is nearest to its original
        assert distances[:, 0].abs().max() < 1e-4
        assert (distances[:, 1] > 1e-3).all()
    every = encode(model, dataset.train).loc
    expected = controls.distances(model.autoencoder.manifold, copies.v[:1], every).sort(stable=True)
    assert view.arrays["nearest_in_latents"][0].tolist() == expected.indices[:2].tolist()
    labels = [row.label.replace("\n", " ") for row in view.rows]
    assert labels == ["sample", "1. nearest in pixels", "2. nearest in pixels", "1. nearest in latents",
                      "2. nearest in latents"]  # fmt: skip
    assert view.rows[1].notes[0].split("\n")[0] == f"{int(dataset.train.labels[5])}, no. 5"
    assert torch.equal(view.rows[3].images, images)
    assert ("geodesic distance" in view.caption) != model.autoencoder.manifold.is_flat


def test_a_picture_of_rows_shows_every_pixel_of_every_image(tmp_path):
    images = noise_digits(5).train.first()
    rows = [
        Row("two lines\nof words", images[:3], ["a", "b\nc", "a very long name that does not fit"]),
        Row("é ×", images),
    ]
    save_rows(tmp_path / "a.png", rows, "A caption. " * 40)
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[2] == 3
    enlarged = [image[0].numpy().repeat(3, 0).repeat(3, 1) for image in (images[0], images[4])]
    found = []
    for wanted in enlarged:
        windows = np.lib.stride_tricks.sliding_window_view(pixels[..., 0], wanted.shape)
        found.append(np.argwhere((windows[:, :, ::20, ::20] == wanted[::20, ::20]).all((2, 3))).tolist())
    assert len(found[0]) == 2  # the first image is in both rows
    assert len(found[1]) == 1
    assert found[0][0][1] == found[0][1][1]  # one below the other


# --------------------------------------------------------------------------------------------------- the command itself


@pytest.fixture
def ask(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments, run=None):
        generate.main([f"run={run or finished['poincare'].path}", *arguments])
        return tmp_path

    return call


def arrays(path):
    with np.load(path) as content:
        return dict(content)


@pytest.mark.parametrize("geometry", ["euclidean", "poincare", "hybrid"])
def test_every_control_leaves_its_picture(ask, finished, geometry, capsys, monkeypatch):
    run = finished[geometry].path
    # 55,000 digits take their time
    monkeypatch.setattr(latent_views, "_training_images", lambda dataset: iter([dataset.train.first(500)]))
    for asked in ("radius=0.5", "between=3,8 n=12", "mean_of=7", "neighbours=2"):
        folder = ask(*asked.split(), run=run)
        name = asked.partition("=")[0]
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 150
        out = " ".join(capsys.readouterr().out.split())
        assert f"{name}.png" in out
        assert ("flat" in out) == (geometry == "euclidean" and name in ("between", "mean_of"))


def test_what_is_moved_and_joined_is_what_the_seed_draws(ask):
    plain = arrays(ask("n=12", "seed=3", "out=plain.npz") / "plain.npz")
    moved = arrays(ask("n=12", "seed=3", "radius=1,0.5", "out=moved.npz") / "moved.npz")
    assert np.array_equal(moved["arr_0"][:12], plain["arr_0"])
    assert (moved["arr_0"][12:] != plain["arr_0"]).any()
    assert moved["arr_1"].tolist() == 2 * plain["arr_1"].tolist()
    path = arrays(ask("n=12", "seed=3", "between=2,11", "out=path.npz") / "path.npz")["arr_0"]
    assert np.abs(path[[0, 8]].astype(int) - plain["arr_0"][[2, 11]]).max() <= 1
    mean = arrays(ask("mean_of=4", "n=3", "out=mean.npz") / "mean.npz")
    assert mean["arr_0"].shape == (7, 28, 28, 1)
    assert mean.keys() == {"arr_0"}


def test_guidance_and_steps_change_what_is_drawn(ask, finished, capsys):
    def drawn(*arguments):
        return arrays(ask("n=5", *arguments, "out=a.npz") / "a.npz")

    own = finished["poincare"].config
    assert isinstance(own.conditioning, ClassConditioning)
    assert isinstance(own.diffusion.sampler, FlowSampler)
    plain = drawn()["arr_0"]
    same = drawn(f"guidance={own.conditioning.guidance_scale}", f"steps={own.diffusion.sampler.steps}")["arr_0"]
    assert np.array_equal(same, plain)
    capsys.readouterr()
    guided, stepped = drawn("guidance=9")["arr_0"], drawn("steps=7")["arr_0"]
    assert "guidance 9.0" in capsys.readouterr().out
    assert not np.array_equal(guided, plain)
    assert not np.array_equal(stepped, plain)
    moved = drawn("guidance=9", "radius=1")["arr_0"]
    assert np.array_equal(moved, guided)
    unlabelled = drawn("guidance=0")
    assert unlabelled.keys() == {"arr_0"}  # no label decided about them


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("radius=-1", "'-1' is not a number ≥ 0, such as 1.5"),
        ("radius=nan", "'nan' is not a number ≥ 0"),
        ("radius=1,1.0", "one factor is there twice"),
        ("radius=", "radius= has no value"),
        ("guidance=-2", "'-2' is not a number from 0 to 1000"),
        ("steps=0", "steps=0 is no number of steps .* must be a whole number ≥ 1"),
        ("steps=2.5", "not a whole number"),
        ("between=3", "a path has two ends: the numbers of two samples"),
        ("between=1,2,3", "a path has two ends"),
        ("between=4,4", "sample 4 is there twice. Give another one, such as 4,5"),
        ("between=3,100", "names sample 100, and n=100 draws samples 0 to 99. Type n=101 at least"),
        ("between=3,8 n=5", "names sample 8, and n=5 draws samples 0 to 4"),
        ("radius=2 between=1,2", "radius=2 and between=1,2 exclude each other.*Type a command for each"),
        ("mean_of=1 neighbours=2", "exclude each other"),
        ("around=3", "around=3 says where radius= is measured from, and there is none"),
        ("around=3 neighbours=2", "around=3 says where radius= is measured from"),
        ("mean_of=3 seed=1", "seed=1 has no effect with mean_of=3.*Leave seed= out"),
        ("mean_of=3 guidance=2", "guidance=2 has no effect with mean_of=3"),
        ("mean_of=3 steps=2", "steps=2 has no effect with mean_of=3"),
        ("mean_of=3 label=3", "label=3 has no effect with mean_of=3"),
        ("neighbours=0", "neighbours=0 asks for no training image"),
        ("neighbours=55001", "more than the 55000 training images of mnist. Type neighbours=55000 at most"),
        ("radius=0 around=10", "around=10 is not a class of mnist: it has 0 to 9"),
        ("mean_of=12", "mean_of=12 is not a class of mnist"),
        ("guidance=0 label=3", "label=3 has no effect at guidance=0.*type guidance=1"),
        ("radius=0.5 n=0", "no samples"),
        ("n=1000001", "n=1000000 at most"),
        ("n=10 guidance=1e30", "a number from 0 to 1000"),
        ("n=10 out=", "out= has no value"),
    ],
)
def test_what_has_no_effect_is_refused(ask, arguments, message):
    with pytest.raises(UserError, match=message):
        ask(*arguments.split())


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ("conditioning=none", "guidance=2", "trained without labels and text, so there is nothing to guide towards"),
        (
            "conditioning.dropout=0 conditioning.guidance_scale=1",
            "guidance=2",
            "dropout=0 left it without a prediction to guide away from",
        ),
        ("diffusion.sampler.method=adaptive", "steps=9", "method=adaptive. chooses them by its tolerance"),
        ("diffusion=ddpm", "steps=1001", "must be a whole number from 1 to 1000"),
        ("conditioning=text", 'guidance=3 prompt=""', 'no effect with prompt=""'),
        ("conditioning=text", "guidance=0 prompt=seven", "prompt=seven has no effect at guidance=0"),
    ],
)
def test_what_other_runs_cannot_be_asked(ask, tmp_path, settings, arguments, message):
    """The run was never trained: the answer comes before its weights are looked for."""
    directory = prepare(tmp_path, *settings.split(), *(["diffusion.sampler.steps=2"] if "ddpm" in settings else []))
    asked = [argument.replace('""', "") for argument in arguments.split()]
    with pytest.raises(UserError, match=message):
        ask(*asked, run=directory.path)


def test_a_folder_that_cannot_be_written_is_refused(ask, monkeypatch):
    monkeypatch.setattr(generate.os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"radius.png cannot be written. Choose another folder, such as out=~/radius"):
        ask("radius=0.5")


def test_an_answer_without_torch(finished, tmp_path):
    run = finished["poincare"].path
    refused = ["guidance=0 label=3", "steps=0", "mean_of=12", "radius=1 neighbours=1", "between=3,100"]
    refused += ["neighbours=55001"]
    code = (
        "import json, sys\n"
        "from hldm.commands import generate\n"
        "from hldm.errors import UserError\n"
        f"for asked in {refused!r}:\n"
        "    try:\n"
        f"        generate.main(['run={run}', *asked.split()])\n"
        "    except UserError:\n"
        "        pass\n"
        "print(json.dumps('torch' in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


def test_the_help_names_every_key_with_an_example(capsys):
    with pytest.raises(SystemExit):
        generate.main(["--help"])
    text = capsys.readouterr().out
    for key in ("run", "n", "seed", "label", "prompt", "out", *generate.KEYS):
        assert f"{key}=" in text, key
