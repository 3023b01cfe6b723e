"""When two configurations are the same run."""

import copy
from pathlib import Path
from typing import Any

import pytest

from hldm.study.config import compose
from hldm.study.identity import first_stage_identity, run_identity


@pytest.fixture(scope="module")
def configs() -> dict[str, dict[str, Any]]:
    return {name: compose([f"geometry={name}", "seed=3"]) for name in ("euclidean", "poincare", "hybrid")}


def changed(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with one setting changed, wherever the setting was interpolated to."""
    config = copy.deepcopy(config)
    *parents, name = key.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    assert node[name] != value
    node[name] = value
    return config


def test_names_are_readable(configs: dict[str, dict[str, Any]]) -> None:
    identity = run_identity(configs["poincare"])
    assert identity.name == f"poincare-c1-s3-{identity.digest[:8]}"
    assert len(identity.digest) == 64
    assert run_identity(configs["euclidean"]).name.startswith("euclidean-s3-")
    assert run_identity(compose(["geometry=hybrid", "curvature=learnable"])).name.startswith("hybrid-learnable-s0-")
    assert run_identity(compose(["geometry=hybrid", "curvature=1e-4"])).name.startswith("hybrid-c0.0001-s0-")


def test_curvature_counts_where_there_is_any() -> None:
    for geometry, differs in (("euclidean", False), ("poincare", True), ("hybrid", True)):
        one, other = (run_identity(compose([f"geometry={geometry}", f"curvature={c}"])) for c in (0.1, 1.0))
        assert (one != other) is differs


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("study", "other"),
        ("paths.outputs", "/elsewhere"),
        ("hardware.device", "cpu"),
        ("tracking", {"_target_": "hldm.tracking.NoTracker"}),
        ("training.checkpoint_every", 7),
        ("training.log_every", 7),
    ],
)
def test_what_cannot_change_a_result_is_left_out(key: str, value: Any, configs: dict[str, dict[str, Any]]) -> None:
    for config in configs.values():
        assert run_identity(changed(config, key, value)) == run_identity(config)


@pytest.mark.parametrize("key", ["seed", "training.diffusion.steps", "training.first_stage.steps", "metrics.samples"])
def test_what_changes_a_result_counts(key: str, configs: dict[str, dict[str, Any]]) -> None:
    for config in configs.values():
        assert run_identity(changed(config, key, 7)) != run_identity(config)


def test_whole_numbers_hash_alike_however_they_are_written(configs: dict[str, dict[str, Any]]) -> None:
    assert run_identity({**configs["poincare"], "seed": 3.0}).digest == run_identity(configs["poincare"]).digest
    assert run_identity(compose(["curvature=1", "geometry=poincare"])) == run_identity(
        compose(["curvature=1.0", "geometry=poincare"])
    )


def test_the_order_of_keys_does_not_count(configs: dict[str, dict[str, Any]]) -> None:
    config = configs["hybrid"]
    assert run_identity(dict(reversed(config.items()))) == run_identity(config)


def test_runs_share_a_first_stage_unless_it_must_differ(configs: dict[str, dict[str, Any]]) -> None:
    config = configs["poincare"]
    for key in ("training.diffusion.steps", "metrics.samples", "training.checkpoint_every"):
        assert first_stage_identity(changed(config, key, 7)) == first_stage_identity(config)
    for key in ("training.first_stage.steps", "seed", "autoencoder.kl_weight"):
        assert first_stage_identity(changed(config, key, 7)) != first_stage_identity(config)
    assert first_stage_identity(configs["hybrid"]) != first_stage_identity(config)


@pytest.mark.parametrize(("option", "method"), [("flow", "rk4"), ("ddpm", "unipc")])
def test_settings_that_came_later_leave_earlier_identities_alone(option: str, method: str) -> None:
    """A run of a version that did not have them is the run that their usual values make."""
    config = compose([f"diffusion={option}"])
    earlier = copy.deepcopy(config)
    for section, names in {
        "process": ("pairing", "prediction", "min_snr_gamma", "zero_terminal_snr"),
        "sampler": ("eta", "tolerance", *(["method"] if option == "ddpm" else [])),
    }.items():
        for name in names:
            earlier["diffusion"][section].pop(name, None)
    assert run_identity(config) == run_identity(earlier)
    assert run_identity(config) != run_identity(changed(config, "diffusion.sampler.method", method))


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("flow", "process.pairing", "optimal_transport"),
        ("ddpm", "process.prediction", "x0"),
        ("ddpm", "process.min_snr_gamma", 5),
        ("ddpm", "process.zero_terminal_snr", True),
        ("ddpm", "sampler.eta", 1.0),
    ],
)
def test_other_values_than_the_usual_ones_are_other_runs(option: str, key: str, value: Any) -> None:
    config = compose([f"diffusion={option}"])
    assert run_identity(config) != run_identity(changed(config, f"diffusion.{key}", value))


def test_a_pretrained_text_model_counts_by_its_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        for file in ("config.json", "model.safetensors", "vocab.json"):
            (folder / file).write_text(file)

    def identity(folder: Path) -> Any:
        return run_identity(compose(["conditioning=text", f"conditioning.pretrained={folder}"]))

    same = identity(one)
    assert identity(other) == same
    (other / "model.safetensors").write_text("trained further")
    assert identity(other) != same


@pytest.mark.parametrize("conditioning", ["class", "text"])
def test_hyperbolic_conditioning_makes_curvature_count_but_shares_the_first_stage(conditioning: str) -> None:
    flat = compose([f"conditioning={conditioning}"])
    earlier = copy.deepcopy(flat)
    del earlier["conditioning"]["hyperbolic"]
    assert run_identity(flat) == run_identity(earlier)
    one, other = (
        compose([f"conditioning={conditioning}", "conditioning.hyperbolic=true", f"curvature={c}"]) for c in (0.1, 1.0)
    )
    assert len({run_identity(config) for config in (flat, one, other)}) == 3
    assert run_identity(one).name.startswith("euclidean-c0.1-s0-")
    assert first_stage_identity(one) == first_stage_identity(other) == first_stage_identity(flat)
    without_diffusion = compose(["diffusion=none", "conditioning.hyperbolic=true"])
    assert run_identity(without_diffusion) == run_identity(compose(["diffusion=none"]))


def test_a_tolerance_counts_where_it_is_read() -> None:
    fixed, adaptive = compose([]), compose(["diffusion.sampler.method=adaptive"])
    for config, is_read in ((fixed, False), (adaptive, True)):
        other = changed(config, "diffusion.sampler.tolerance", 0.1)
        assert (run_identity(config) != run_identity(other)) == is_read


def test_the_evidence_bound_counts_where_it_is_computed() -> None:
    config = compose([])
    earlier = copy.deepcopy(config)
    del earlier["metrics"]["likelihood_images"], earlier["metrics"]["likelihood_steps"]
    assert run_identity(config) == run_identity(earlier)
    assert run_identity(config) == run_identity(changed(config, "metrics.likelihood_steps", 3))
    with_bound = changed(config, "metrics.likelihood_images", 10)
    assert run_identity(config) != run_identity(with_bound)
    assert run_identity(with_bound) != run_identity(changed(with_bound, "metrics.likelihood_steps", 3))


def test_losses_count_where_they_have_a_weight() -> None:
    config = compose([])
    earlier = copy.deepcopy(config)
    for name in (
        "perceptual_weight",
        "perceptual_features",
        "perceptual_backbone",
        "adversarial_weight",
        "adversarial_start",
    ):
        del earlier["training"]["first_stage"][name]
    for identity in (run_identity, first_stage_identity):
        assert identity(config) == identity(earlier)
        assert identity(config) == identity(changed(config, "training.first_stage.adversarial_start", 3))
        for name in ("perceptual_weight", "adversarial_weight"):
            assert identity(config) != identity(changed(config, f"training.first_stage.{name}", 0.5))
        with_start = changed(config, "training.first_stage.adversarial_weight", 0.5)
        assert identity(with_start) != identity(changed(with_start, "training.first_stage.adversarial_start", 3))


def test_perceptual_features_count_where_they_are_used_and_not_those_that_were_always_used() -> None:
    key = "training.first_stage.perceptual"
    config = compose([])
    weighted = changed(config, f"{key}_weight", 1.0)
    earlier = copy.deepcopy(weighted)
    for name in ("features", "backbone"):
        del earlier["training"]["first_stage"][f"perceptual_{name}"]
    lpips = changed(weighted, f"{key}_features", "lpips")
    for identity in (run_identity, first_stage_identity):
        assert identity(config) == identity(changed(config, f"{key}_features", "lpips"))
        assert identity(weighted) == identity(earlier)
        assert identity(weighted) == identity(changed(weighted, f"{key}_backbone", "/a/file"))
        assert identity(weighted) != identity(lpips)
        assert identity(lpips) != identity(changed(lpips, f"{key}_backbone", "/a/file"))


def test_the_denoisers_switches_count_where_they_change_something() -> None:
    """Off, they leave the identities of versions that had none alone; flat layers go by the Euclidean ones' names."""
    plain = compose([])
    earlier = copy.deepcopy(plain)
    for key in ("stem", "attention", "curvature", "learnable_curvature"):
        del earlier["denoiser"][key]

    def cell(stem: str, attention: str, c: float) -> dict[str, Any]:
        return compose([f"denoiser.stem={stem}", f"denoiser.attention={attention}", f"denoiser.curvature={c}"])

    for same in (
        [earlier, plain, cell("linear", "dot_product", 0.3), cell("gyroplane", "dot_product", 0)],
        [cell("linear", "euclidean_distance", c) for c in (0, 0.3)] + [cell("gyroplane", "hyperbolic_distance", 0)],
    ):
        assert len({run_identity(config) for config in same}) == 1
    kinds = [
        (s, a) for s in ("linear", "gyroplane") for a in ("dot_product", "euclidean_distance", "hyperbolic_distance")
    ]
    different = {run_identity(cell(*kind, c)) for kind in kinds for c in (0.3, 1)}
    assert len(different) == 6 + 4  # curvature is read by four of the six


def test_a_learned_curvature_of_the_denoiser_counts_where_it_is_read() -> None:
    learned = ["denoiser.learnable_curvature=true"]
    assert run_identity(compose(learned)) == run_identity(compose([]))
    assert run_identity(compose([*learned, "denoiser.attention=euclidean_distance"])) == run_identity(
        compose(["denoiser.attention=euclidean_distance"])
    )
    for switch in ("denoiser.stem=gyroplane", "denoiser.attention=hyperbolic_distance"):
        fixed = compose([switch])
        earlier = copy.deepcopy(fixed)
        del earlier["denoiser"]["learnable_curvature"]
        assert run_identity(fixed) == run_identity(earlier)
        others = [compose([switch, *learned, f"denoiser.curvature={c}"]) for c in (0.3, 1)]
        assert len({run_identity(config) for config in (fixed, *others)}) == 3
        assert first_stage_identity(others[0]) == first_stage_identity(fixed)


def test_a_layout_is_another_run_and_the_default_one_is_not() -> None:
    identities = {run_identity(compose([f"latent={name}", "geometry=poincare"])) for name in ("global", "map_global")}
    plain = run_identity(compose(["geometry=poincare"]))
    assert len({plain, *identities}) == 3
    assert run_identity(compose(["latent=map", "geometry=poincare"])) == plain
    earlier = compose(["geometry=poincare"])
    earlier.pop("latent", None)  # versions before had no such section
    assert run_identity(earlier) == plain


def test_a_map_that_is_flat_anyway_need_not_say_so() -> None:
    for geometry, differs in (("euclidean", False), ("poincare", True)):
        one, other = (
            compose(["latent=map_global", f"geometry={geometry}", f"autoencoder.flat_map={value}"])
            for value in ("true", "false")
        )
        assert (run_identity(one) != run_identity(other)) is differs
        assert (first_stage_identity(one) != first_stage_identity(other)) is differs
