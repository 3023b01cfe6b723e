"""When two configurations are the same run."""

from pathlib import Path
from typing import Any

import pytest

from hldm.config.autoencoder import KL, Autoencoder
from hldm.config.compose import compose
from hldm.config.schema import RunConfig
from hldm.run.identity import first_stage_identity, run_identity, training_identity


@pytest.fixture(scope="module")
def configs() -> dict[str, RunConfig]:
    return {name: compose([f"geometry={name}", "seed=3"]) for name in ("euclidean", "poincare", "hybrid")}


def changed(config: RunConfig, key: str, value: Any) -> RunConfig:
    """A copy with one setting changed."""
    data = config.dump()
    *parents, name = key.split(".")
    node = data
    for parent in parents:
        node = node[parent]
    assert node[name] != value
    node[name] = value
    return RunConfig.model_validate(data)


def test_names_are_readable(configs: dict[str, RunConfig]) -> None:
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
    flat = [compose(["conditioning.hyperbolic=true", f"curvature={c}"]) for c in (0.1, 1.0)]
    assert run_identity(flat[0]) != run_identity(flat[1])
    assert first_stage_identity(flat[0]) == first_stage_identity(flat[1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("study", "other"),
        ("paths.outputs", "/elsewhere"),
        ("hardware.device", "cpu"),
        ("tracking", {"_target_": "hldm.tracking.NoTracker"}),
        ("training.checkpoint_every", 7),
        ("training.log_every", 7),
        ("dataset.folder", "/elsewhere"),  # every file in it is compared with the published one
        ("diffusion.sampler.tolerance", 0.5),  # of method=adaptive
        ("training.first_stage.perceptual_features", "lpips"),  # of perceptual_weight > 0
        ("training.first_stage.adversarial_start", 3),  # of adversarial_weight > 0
        ("denoiser.curvature.value", 0.3),  # of hyperbolic layers
    ],
)
def test_what_cannot_change_a_result_is_left_out(key: str, value: Any, configs: dict[str, RunConfig]) -> None:
    for config in configs.values():
        assert run_identity(changed(config, key, value)) == run_identity(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 7),
        ("training.diffusion.steps", 7),
        ("training.first_stage.steps", 7),
        ("training.first_stage.perceptual_weight", 0.5),
        ("training.first_stage.adversarial_weight", 0.5),
        ("metrics.samples", 700),
        ("metrics.likelihood_images", 7),
        ("diffusion.sampler.method", "rk4"),
        ("diffusion.process.pairing", "optimal_transport"),
        ("denoiser.attention", "hyperbolic_distance"),
        ("dataset.validation_images", 7),
        ("conditioning.guidance_scale", 3.0),
        ("autoencoder.latent_rms", 1.0),
    ],
)
def test_what_changes_a_result_counts(key: str, value: Any, configs: dict[str, RunConfig]) -> None:
    for config in configs.values():
        assert run_identity(changed(config, key, value)) != run_identity(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("process.prediction", "x0"),
        ("process.min_snr_gamma", 5),
        ("process.beta_start", 0.00085),
        ("process.beta_end", 0.012),
        ("process.zero_terminal_snr", True),
        ("sampler.eta", 1.0),
        ("sampler.method", "unipc"),
    ],
)
def test_settings_of_the_noise_schedule_count(key: str, value: Any) -> None:
    config = compose(["diffusion=ddpm"])
    assert run_identity(config) != run_identity(changed(config, f"diffusion.{key}", value))


def test_whole_numbers_hash_alike_however_they_are_written(configs: dict[str, RunConfig]) -> None:
    assert run_identity(compose(["curvature=2", "geometry=poincare"])) == run_identity(
        compose(["curvature=2.0", "geometry=poincare"])
    )
    data = configs["poincare"].dump()
    assert run_identity(RunConfig.model_validate({**data, "seed": 3.0})) == run_identity(configs["poincare"])


def test_the_order_of_keys_does_not_count(configs: dict[str, RunConfig]) -> None:
    data = configs["hybrid"].dump()
    assert run_identity(RunConfig.model_validate(dict(reversed(data.items())))) == run_identity(configs["hybrid"])


def test_runs_share_a_first_stage_unless_it_must_differ(configs: dict[str, RunConfig]) -> None:
    config = configs["poincare"]
    for key in ("training.diffusion.steps", "metrics.samples", "training.checkpoint_every"):
        assert first_stage_identity(changed(config, key, 70)) == first_stage_identity(config)
    for key in ("training.first_stage.steps", "seed", "autoencoder.kl_weight"):
        assert first_stage_identity(changed(config, key, 7)) != first_stage_identity(config)
    assert first_stage_identity(configs["hybrid"]) != first_stage_identity(config)


def test_runs_share_trained_weights_where_only_sampling_and_metrics_differ(configs: dict[str, RunConfig]) -> None:
    config = configs["poincare"]
    for key, value in (
        ("metrics.samples", 700),
        ("metrics.classifier", None),
        ("diffusion.sampler.steps", 9),
        ("conditioning.guidance_scale", 1.0),
    ):
        other = changed(config, key, value)
        assert run_identity(other) != run_identity(config)
        assert training_identity(other) == training_identity(config)
    for key, value in (("training.diffusion.steps", 9), ("conditioning.dropout", 0.3), ("seed", 9)):
        assert training_identity(changed(config, key, value)) != training_identity(config)


def test_files_count_by_their_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        for file in ("config.json", "model.safetensors", "vocab.json"):
            (folder / file).write_text(file)

    def text(folder: Path) -> Any:
        return run_identity(compose(["conditioning=text", f"conditioning.pretrained={folder}"]))

    def features(folder: Path) -> Any:
        extractor = f"_target_:hldm.metrics.DigitFeatures,weights:{folder / 'model.safetensors'}"
        return run_identity(compose([f"metrics.extractors=[{{{extractor}}}]"]))

    for identity in (text, features):
        assert identity(other) == identity(one)
    (other / "model.safetensors").write_text("trained further")
    for identity in (text, features):
        assert identity(other) != identity(one)


def test_flat_layers_go_by_their_euclidean_names() -> None:
    def cell(stem: str, attention: str, c: float) -> RunConfig:
        return compose([f"denoiser.stem={stem}", f"denoiser.attention={attention}", f"denoiser.curvature={c}"])

    for same in (
        [compose([]), cell("linear", "dot_product", 0.3), cell("gyroplane", "dot_product", 0)],
        [cell("linear", "euclidean_distance", c) for c in (0, 0.3)] + [cell("gyroplane", "hyperbolic_distance", 0)],
    ):
        assert len({run_identity(config) for config in same}) == 1
    kinds = [
        (s, a) for s in ("linear", "gyroplane") for a in ("dot_product", "euclidean_distance", "hyperbolic_distance")
    ]
    different = {run_identity(cell(*kind, c)) for kind in kinds for c in (0.3, 1)}
    assert len(different) == 6 + 4  # curvature is read by four of the six


def test_a_learned_curvature_of_the_denoiser_counts_where_it_is_read() -> None:
    learned = ["denoiser.curvature=learnable"]
    assert run_identity(compose(learned)) == run_identity(compose([]))
    assert run_identity(compose([*learned, "denoiser.attention=euclidean_distance"])) == run_identity(
        compose(["denoiser.attention=euclidean_distance"])
    )
    for switch in ("denoiser.stem=gyroplane", "denoiser.attention=hyperbolic_distance"):
        fixed = compose([switch])
        others = [compose([switch, *learned, f"denoiser.curvature.value={c}"]) for c in (0.3, 1)]
        assert len({run_identity(config) for config in (fixed, *others)}) == 3
        assert first_stage_identity(others[0]) == first_stage_identity(fixed)


def test_a_layout_is_another_run_and_the_default_one_is_not() -> None:
    identities = {run_identity(compose([f"latent={name}", "geometry=poincare"])) for name in ("global", "map_global")}
    plain = run_identity(compose(["geometry=poincare"]))
    assert len({plain, *identities}) == 3
    assert run_identity(compose(["latent=map", "geometry=poincare"])) == plain


def test_a_map_that_is_flat_anyway_need_not_say_so() -> None:
    for geometry, differs in (("euclidean", False), ("poincare", True)):
        one, other = (
            compose(["latent=map_global", f"geometry={geometry}", f"autoencoder.flat_map={value}"])
            for value in ("true", "false")
        )
        assert (run_identity(one) != run_identity(other)) is differs
        assert (first_stage_identity(one) != first_stage_identity(other)) is differs


@pytest.mark.parametrize("conditioning", ["class", "text"])
def test_hyperbolic_conditioning_makes_curvature_count_but_shares_the_first_stage(conditioning: str) -> None:
    flat = compose([f"conditioning={conditioning}"])
    one, other = (
        compose([f"conditioning={conditioning}", "conditioning.hyperbolic=true", f"curvature={c}"]) for c in (0.1, 1.0)
    )
    assert len({run_identity(config) for config in (flat, one, other)}) == 3
    assert run_identity(one).name.startswith("euclidean-c0.1-s0-")
    assert first_stage_identity(one) == first_stage_identity(other) == first_stage_identity(flat)
    without_diffusion = compose(["diffusion=none", "conditioning.hyperbolic=true"])
    assert run_identity(without_diffusion) == run_identity(compose(["diffusion=none"]))


@pytest.mark.parametrize(
    ("switch", "key", "value"),
    [
        ("diffusion.sampler.method=adaptive", "diffusion.sampler.tolerance", 0.1),
        ("training.first_stage.adversarial_weight=0.5", "training.first_stage.adversarial_start", 3),
        ("training.first_stage.perceptual_weight=0.5", "training.first_stage.perceptual_features", "lpips"),
    ],
)
def test_a_setting_counts_where_it_is_read(switch: str, key: str, value: Any) -> None:
    for overrides, is_read in (([], False), ([switch], True)):
        config = compose(overrides)
        assert (run_identity(config) != run_identity(changed(config, key, value))) is is_read


def test_flat_latents_do_not_read_what_is_about_balls() -> None:
    for geometry, differs in (("euclidean", False), ("poincare", True)):
        vae = ["experiment=pvae_mnist", f"geometry={geometry}"]
        one = compose([*vae, "form=pvae"] if geometry == "poincare" else [*vae, "form=paper"])
        for key, value in (("gyroplane_form", "paper"), ("kl_estimator", "low_variance")):
            other = compose([*vae, *(["form=paper"] if geometry == "euclidean" else []), f"autoencoder.{key}={value}"])
            assert (run_identity(one) != run_identity(other)) is differs


def test_steps_of_a_bound_count_where_there_is_one() -> None:
    for typed, is_read in ((["metrics.likelihood_images=0"], False), ([], True)):
        config = compose(typed)
        assert (run_identity(config) != run_identity(changed(config, "metrics.likelihood_steps", 3))) is is_read


def test_a_new_setting_leaves_earlier_identities_alone(configs: dict[str, RunConfig]) -> None:
    """A configuration of a version that did not have a setting is the one that its schema default makes."""
    for config in configs.values():
        data = config.dump()
        del data["training"]["first_stage"]["adversarial_weight"], data["denoiser"]["stem"]
        del data["metrics"]["per_class"], data["autoencoder"]["latent_rms"]
        assert run_identity(RunConfig.model_validate(data)) == run_identity(config)


def test_an_autoencoder_of_an_extension_says_what_flat_latents_do_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Autoencoder, "options", dict(Autoencoder.options))

    class Mine(KL, target="mylab.Mine"):
        only_curved = frozenset({"bend"})

        bend: int = 0

    for geometry, differs in (("euclidean", False), ("poincare", True)):
        config = compose([f"geometry={geometry}"])
        one, other = (config.model_copy(update={"autoencoder": Mine(bend=bend)}) for bend in (0, 1))
        assert (run_identity(one) != run_identity(other)) is differs
        assert (first_stage_identity(one) != first_stage_identity(other)) is differs
