"""`hldm curvature`: what it prints and writes for finished runs, and how it answers mistakes."""

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image

from hldm.commands import COMMANDS, curvature
from hldm.config.metrics import Hierarchy, Metrics
from hldm.errors import UserError
from hldm.geometry import FixedCurvature, PoincareBall
from hldm.metrics import latent_hierarchy
from hldm.metrics.curvature_profile import Profile
from hldm.paths import CHECKOUT
from hldm.pipeline.curvature import delta_estimate, excluded_above, reasons
from hldm.pipeline.profile_picture import vertical_range


@pytest.mark.parametrize("geometry", ["euclidean", "poincare", "hybrid"])
def test_it_reports_on_a_finished_run(finished, geometry, capsys):
    folder = finished[geometry].path
    curvature.main([f"run={folder}", "images=200"])
    out = capsys.readouterr().out
    report = json.loads((folder / "curvature_profile.json").read_text(encoding="utf-8"))
    assert report["run"] == folder.name
    assert report["images"]["number"] == 200
    assert report["balls"] == (98 if geometry == "poincare" else 49)
    assert report["dimension"] == (4 if geometry == "euclidean" else 2)
    kinds = report["reach"]["latents"]
    assert set(kinds) == {"means", "noise", "drawn"}
    total = kinds["means"]["rms"] ** 2 + kinds["noise"]["rms"] ** 2
    assert kinds["drawn"]["rms"] ** 2 == pytest.approx(total, rel=0.15)
    assert (kinds["means"]["sqrt_c_rms"] > 0) == (geometry != "euclidean")
    assert report["delta"]["curvature"] == pytest.approx((0.144 / report["delta"]["delta_rel"]) ** 2)
    assert f"{report['delta']['base_points']} base points" in " ".join(out.split())
    for said in ("Khrulkov", "√c·rms", "no unit", f"{report['balls']} balls", "encoder fixed"):
        assert said in " ".join(out.split())
    for profile in report["profiles"].values():
        assert len(profile["curvatures"]) == len(profile["gain"]) == len(profile["error"]) == 17
        assert profile["curvatures"][-1] / profile["curvatures"][0] >= 1e3
    with Image.open(folder / "curvature_profile.png") as picture:
        assert picture.size == (720, 484)
        assert len(picture.convert("RGB").getcolors(2**20)) > 20


def test_it_gives_the_same_again(finished):
    folder = finished["poincare"].path
    texts = []
    for _ in range(2):
        curvature.main([f"run={folder}", "images=200"])
        texts.append((folder / "curvature_profile.json").read_bytes())
    assert texts[0] == texts[1]


def test_delta_is_that_of_an_evaluation_with_the_same_settings() -> None:
    ball = PoincareBall(4, FixedCurvature(1.0))
    v = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    for base_points in (1, 5):
        settings = Metrics(hierarchy=Hierarchy(points=50, tries=2, base_points=base_points))
        found = delta_estimate(ball, v, settings, 3)
        expected = latent_hierarchy(ball, v, {}, points=50, tries=2, base_points=base_points, seed=3)
        assert found["base_points"] == base_points
        assert found["delta_rel"] == expected["delta_rel"]


def test_mistakes_are_answered_before_torch_is_loaded(finished, tmp_path):
    folder = finished["poincare"].path
    for argument, said in ((f"run={folder} images=5", "too few"), (f"run={tmp_path}", "names no runs")):
        with pytest.raises(UserError, match=said):
            curvature.main(argument.split())
    with pytest.raises(UserError, match=r"names \d+ runs"):
        curvature.main([f"run={folder.parent}"])
    with pytest.raises(UserError, match=r"run=… is missing\. hldm curvature"):
        curvature.main([])
    code = "import sys; from hldm.commands import curvature; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True)
    assert "curvature" in COMMANDS


def profile(gain, error, best=0.0, interval=(0.0, 0.0)):
    return Profile([0.01, 0.1, 1.0], gain, error, -5.0, best, interval, False)


def test_it_says_why_nothing_can_be_told():
    report = {"balls": 1, "dimension": 4}
    flat = profile([0.0, -0.1, -1.0], [0.01, 0.02, 0.1])
    [first, second, third] = reasons(report, flat, "wrapped: 0 ± .01", 0.05)
    assert "No c is better than flat space" in first
    assert "From c = 0.1 on" in second
    assert "below 0.1: there, space is flat" in third
    rising = profile([0.0, 0.1, 1.0], [0.01, 0.02, 0.1], best=1.0, interval=(0.9, 1.0))
    [first, second] = reasons({"balls": 64, "dimension": 4}, rising, "wrapped", 0.5)
    assert "still rises at c = 1" in first
    assert "64 balls of dimension 4" in second


def test_what_is_excluded_and_what_is_shown():
    assert excluded_above(profile([-1.0, -1.0, -1.0], [0.1, 0.1, 0.1])) == 0.01
    assert excluded_above(profile([-1.0, 0.0, -0.1], [0.1, 0.1, 0.1])) is None
    low, high = vertical_range({"wrapped": profile([0.0, 2.0, -50.0], [0.1, 0.5, 3.0])})
    assert high == pytest.approx(1.1 * 3.0)
    assert low == pytest.approx(-9.0)
