"""Curvatures: exact start values, positivity, errors, state."""

import copy
import io

import pytest
import torch

from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold


@pytest.mark.parametrize("value", [1e-6, 0.1, 0.7, 1.4, 10.0])
def test_starts_exactly_at_the_value(value: float) -> None:
    assert FixedCurvature(value).value == value
    assert LearnableCurvature(value)().equal(torch.tensor(value))
    assert LearnableCurvature(value).double()().equal(torch.tensor(value, dtype=torch.float64))
    assert FixedCurvature(value)().equal(torch.tensor(value))


def test_fixed_has_no_parameters_and_learnable_stays_positive() -> None:
    assert not list(FixedCurvature(1.0).parameters())
    c = LearnableCurvature(0.7)
    optimizer = torch.optim.SGD(c.parameters(), lr=5.0)
    for _ in range(5):
        optimizer.zero_grad()
        c().backward()
        optimizer.step()
    assert 0 < c().item() < 0.7


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_wrong_values_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="c must be ≥ 0"):
        FixedCurvature(value)
    with pytest.raises(ValueError, match="c must be > 0"):
        LearnableCurvature(value)
    with pytest.raises(ValueError, match="c must be > 0"):
        LearnableCurvature(0.0)


def test_learnable_curvature_is_the_exponential_of_its_parameter() -> None:
    c = LearnableCurvature(0.7).double()
    with torch.no_grad():
        c.raw.fill_(2.0).log_()
    torch.testing.assert_close(c(), torch.tensor(1.4, dtype=torch.float64))
    torch.testing.assert_close(c.rescaled(3.0)(), torch.tensor(12.6, dtype=torch.float64))


def test_state_dict_restores_c_into_a_module_with_another_start() -> None:
    trained = PoincareBall(4, LearnableCurvature(0.3))
    with torch.no_grad():
        trained.curvature.raw.fill_(0.5)
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    fresh = PoincareBall(4, LearnableCurvature(1.7))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.curvature().equal(trained.curvature())
    assert copy.deepcopy(trained).curvature().equal(trained.curvature())


@pytest.mark.parametrize("curvature", [FixedCurvature(0.7), LearnableCurvature(0.7)])
@pytest.mark.parametrize("s", [2.0, torch.tensor(2.0)])
def test_rescaling_multiplies_by_the_square(curvature, s) -> None:
    manifold = ProductManifold([Euclidean(1), PoincareBall(2, curvature)])
    torch.testing.assert_close(
        manifold.rescaled(s).rescaled(0.5 * s).curvatures(),
        torch.tensor([0.0, 2.8], dtype=torch.float64),
        rtol=1e-6,
        atol=0,
    )
    shared = [p is q for p, q in zip(manifold.rescaled(s).parameters(), manifold.parameters(), strict=True)]
    assert all(shared)


def test_wrong_number_of_balls_and_empty_products_are_refused() -> None:
    with pytest.raises(ValueError, match="balls=3 does not divide 4"):
        PoincareBall(4, FixedCurvature(1.0), balls=3)
    with pytest.raises(ValueError, match="without any channel"):
        ProductManifold([Euclidean(0)])
