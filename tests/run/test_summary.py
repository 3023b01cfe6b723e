"""The figures of one run in a terminal of 80 columns."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hldm.run.summary import GROUPS, MATTER, print_metrics

METRICS = {
    "fid": 438.63, "fid_unguided": 800.1, "fid_best": 400.2, "best_guidance": 1.5, "fid_unlabelled": 16.3,
    "fid_unlabelled_best": 7.3, "best_guidance_unlabelled": 1.25, "floor_fid_unlabelled": 0.9,
    "reconstruction_fid_unlabelled_drawn": 7.4, "reconstruction_fid_drawn": 441.0, "floor_label_accuracy": 0.991,
    "kid": 947.2, "kid_subset_sd": 4.879, "inception_score": 9.123, "inception_score_split_sd": 0.37,
    "label_accuracy": 0.967, "floor_fid": 0.6648, "floor_kid": -0.08526, "floor_kid_subset_sd": 0.07,
    "floor_inception_score": 4.969, "floor_inception_score_split_sd": 1.139, "reconstruction_fid": 440.2,
    "elbo_reconstruction": -465.8, "elbo_kl": 23.48, "elbo": -489.3, "reconstruction_mse": 0.1801,
    "elbo_flow": -123.4, "elbo_flow_error": 1.2, "elbo_flow_gain": 7.5, "elbo_flow_bits_per_dim": 0.2,
    "nll": 99.123, "nll_sd": 30.0, "nll_error": 0.01, "nll_importance": 99.5, "nll_importance_error": 0.02,
    "delta_rel": 0.29, "delta_rel_sd": 0.022, "diameter": 6.48, "delta_rel_gaussian": 0.336,
    "delta_rel_gaussian_sd": 0.0166, "delta_rel_shuffled": 0.201, "radius_q05": 4.3, "radius_median": 5.07,
    "radius_q95": 5.87, "radius_entropy_spearman": 0.2254, "radius_entropy_null": 0.19, "radius_entropy_p": 0.02,
    "sqrt_c_rms": 0.3292, "sqrt_c_rms_drawn": 1.062, "saturation": 0.0, "curvature_0": 1.0, "codebook_used": 0.9,
    "precision": 0.912, "floor_precision": 0.93, "recall": 0.871, "density": 1.234, "coverage": 0.95,
    "memorisation_share": 0.048, "memorisation_ct": 0.5, "reconstruction_psnr": 21.34, "reconstruction_ssim": 0.87,
    "quartet_p": 0.025, "quartet_cloud_p": 0.025, "clusters": 12.0, "tree_correlation": 0.71,
    "tree_correlation_null": 0.1, "tree_map": 0.62, "tree_map_null": 0.2, "level1_knn": 0.93,
    "level1_knn_null": 0.5, "posterior_noise_share": 0.676,
    "kl_per_position": 1.18, "codebook_perplexity": 200.0, "radius_depth_spearman": 0.9, "radius_depth_null": 0.1,
}  # fmt: skip


FILE = Path("outputs/main/poincare-c1-s0-01234567/results.json")


def printed(metrics: dict[str, Any], width: int = 80, *, is_short: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, highlight=False)
    print_metrics(metrics, console, FILE, is_short=is_short)
    return out.getvalue()


def test_every_figure_stands_on_one_line_with_its_controls() -> None:
    text = printed(METRICS)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [name for group in GROUPS.values() for name in group]
    assert len(lines) == len(rows) + len(GROUPS) + 2  # nothing is folded; two lines for the rest
    assert "FID ↓" in text
    fid = next(line for line in lines if " FID ↓ " in line)
    for part in ("439", "real images 0.665", "from draws 441"):
        assert part in fid
    assert re.search(r"FID ↓, no guidance +800 ", text)
    assert re.search(r"FID ↓, best guidance +400 +at 1.5 ", text)
    assert re.search(r"FID ↓, label-free, best +7.3 +at 1.25 ", text)
    assert re.search(r"label accuracy ↑ +96.7 % +real images 99.1 %", text)
    assert "label accuracy ↑" in text
    assert re.search(r"precision ↑ +91.2 % +real images 93.0 %", text)
    assert re.search(r"PSNR ↑ +21.3 +dB, SSIM 0.87", text)
    assert "± 4.9" in text
    assert "nats" in text
    assert re.search(r"k-NN, first level ↑ +93.0 % +by chance 50.0 %", text)
    assert re.search(r"codes in use ↑ +90.0 % +perplexity 200 ", text)  # which is no share
    assert lines[-2].endswith("14 more metrics are in")
    assert lines[-1] == f"  {FILE}"
    assert [group for group in GROUPS if group in text] == list(GROUPS)


def test_a_run_ends_with_what_matters() -> None:
    text = printed({**METRICS, "brightness": 0.12345}, is_short=True)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == len(MATTER) + len([*GROUPS, "others"]) + 1 + 2
    for part in ("439", "near copies", "−log p(x) ↓", "reconstruction error ↓", "p of no hierarchy", "brightness"):
        assert part in text
    for part in ("inception", "PSNR", "radius, median", "no guidance"):
        assert part not in text
    counted = re.search(r"(\d+) more metrics are in", text)
    assert counted is not None
    assert int(counted[1]) > 14  # those of the lines that are left out count too
    assert {name for lines in GROUPS.values() for name in lines} >= MATTER


def test_a_share_has_its_spread_in_per_cent() -> None:
    assert re.search(r"precision ↑ +91.2 ± 0.4 % ", printed({**METRICS, "precision_seed_sd": 0.004}))


def test_one_metric_more_is_one() -> None:
    assert "1 more metric is in" in printed({"fid": 3.0, "fid_train": 2.0})


def test_a_long_path_is_not_torn_apart() -> None:
    out = io.StringIO()
    file = Path("/", *["folder"] * 20, "results.json")
    print_metrics({"fid": 3.0, "fid_train": 2.0}, Console(file=out, width=80), file)
    assert str(file) in out.getvalue()


def test_several_sampling_seeds_have_their_spread() -> None:
    assert "439 ± 2" in printed({**METRICS, "fid_bootstrap_sd": 2.0})
    assert "439 ± 3" in printed({**METRICS, "fid_bootstrap_sd": 2.0, "fid_seed_sd": 3.0})


@pytest.mark.parametrize("name", ["curvature_0", "delta_rel", "nll"])
def test_what_a_run_lacks_is_left_out(name: str) -> None:
    text = printed({name: 1.5})
    assert len(text.splitlines()) == 2
    assert printed({}).strip() == ""


def test_what_no_group_knows_is_shown_too() -> None:
    text = printed({**METRICS, "fid_seed_sd": 3.0, "brightness": 0.12345, "fidelity": 2.0})
    lines = [line.split() for line in text.splitlines()]
    assert lines[-5:-2] == [["others"], ["brightness", "0.123"], ["fidelity", "2"]]
    assert "others" not in printed({**METRICS, "fid_seed_sd": 3.0})


def test_a_figure_that_says_nothing_by_itself_has_no_arrow() -> None:
    [line] = [line for line in printed(METRICS).splitlines() if "δ_rel" in line]
    assert "↓" not in line
    assert "Gaussian 0.336" in line
    [line] = [line for line in printed(METRICS).splitlines() if "reach of curvature, √c · rms" in line]
    assert "drawn 1.06" in line
