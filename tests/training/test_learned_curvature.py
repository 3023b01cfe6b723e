"""A learned curvature finds the c of data drawn on a ball, from both sides, and says whether it has settled."""

import json
import math

import pytest
import torch
from torch import nn

from hldm.config.compose import compose
from hldm.distributions import WrappedNormal
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold
from hldm.geometry.curvature import STILL
from hldm.pipeline.build import build, optimization
from hldm.training import settling, train
from hldm.training.learned import LearnedCurvatures
from hldm.training.loop import Stage, scheduled
from hldm.training.optimizer import Optimizer
from hldm.training.randomness import stream

CONFIG = compose(["tracking=none", "curvature=learnable"])
RATE = CONFIG.curvature.learning_rate
BATCH = CONFIG.training.first_stage.batch_size


class OfABall(Stage):
    """Data on a ball of curvature −c*, and a model of them whose c is learned beside a scale with the stage's rate.

    Lengths are in units of 1/√c*, so that curvature acts on every c* alike.
    """

    name = "first_stage"

    def __init__(self, truth, start, rate=RATE):
        self.unit = truth**-0.5
        self.true = PoincareBall(4, FixedCurvature(truth))
        self.ball = PoincareBall(4, LearnableCurvature(start, rate))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.model = nn.ModuleDict({"ball": self.ball})
        self.model.register_parameter("log_scale", self.log_scale)


class Distances(OfABall):
    """Pairwise distances of known points, seen with normal noise."""

    def loss(self, step):
        g = stream(0, "data", step)
        x, y = (0.7 * self.unit * torch.randn(BATCH, 4, generator=g) for _ in range(2))

        def dist(ball):
            return ball.dist(ball.from_tangent(x), ball.from_tangent(y))

        noise = 0.2 * self.unit
        seen = dist(self.true) + noise * torch.randn(BATCH, generator=g)
        errors = ((dist(self.ball) - seen) / (noise * self.log_scale.exp())).square()
        return {"loss": (0.5 * errors + self.log_scale).mean()}


class Likelihood(OfABall):
    """Draws of wrapped normals around known centres away from the origin, by their density in normal coordinates."""

    def loss(self, step):
        g = stream(0, "data", step)
        centre = self.unit * torch.randn(BATCH, 4, generator=g)
        v = WrappedNormal(self.true, centre, 0.5 * self.unit).draw(g).v
        law = WrappedNormal(self.ball, centre, 0.5 * self.unit * self.log_scale.exp())
        return {"loss": -(law.log_prob_normal(v) + self.ball.log_volume(v)).mean()}


def trained(stage, tmp_path, **changed):
    """The curvature after as many steps as the default first stage has, with its optimiser, and its path."""
    path = []
    settings = {**optimization(CONFIG.training, CONFIG.training.first_stage), **changed}
    train(
        stage,
        **settings,
        ema_decay=None,
        state_path=tmp_path / "state.pt",
        on_start=lambda step: None,
        log=lambda step, figures: path.append(figures["curvature"]),
    )
    return stage.ball.curvature, path


@pytest.mark.parametrize("factor", [0.1, 10.0])
@pytest.mark.parametrize(
    ("stage", "truth"), [(Distances, 1.0), (Distances, 0.1), (Likelihood, 1.0), (Likelihood, 10.0)]
)
def test_it_finds_a_known_c_from_both_sides(tmp_path, stage, truth, factor):
    c, path = trained(stage(truth, truth * factor), tmp_path)
    assert float(c().detach()) == pytest.approx(truth, rel=0.1)
    assert c.has_settled
    assert path[-1] == pytest.approx(float(c().detach()))
    fifth = path[len(path) // 5]
    assert abs(math.log(fifth / truth)) < 0.5 * math.log(10)  # most of the way in a fifth of the steps


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_with_the_rate_of_all_weights_it_cannot_and_says_so(tmp_path, factor):
    """2e-3 over 400 steps of the schedule is .41 in log c."""
    c, _ = trained(Distances(1.0, factor, rate=None), tmp_path)
    assert abs(math.log(float(c().detach()) / factor)) < 0.45
    assert c.has_settled is False


class Downwards(Stage):
    """A loss that every smaller c lowers: there is none to be found."""

    name = "first_stage"

    def __init__(self):
        self.ball = PoincareBall(2, LearnableCurvature(1.0, RATE))
        self.model = nn.ModuleList([nn.Linear(2, 2), self.ball])

    def loss(self, step):
        x = torch.randn(BATCH, 2, generator=stream(0, "data", step))
        return {"loss": (self.model[0](x) - x).square().mean() + self.ball.curvature()}


def test_a_c_that_only_the_schedule_brings_to_rest_has_not_settled(tmp_path):
    c, path = trained(Downwards(), tmp_path)
    assert abs(math.log(path[-1] / path[-len(path) // 5])) < 0.1  # at rest
    assert c.has_settled is False


def test_the_default_rate_carries_it_a_factor_of_ten_in_a_fifth_of_the_first_stage():
    """It was chosen for first stages of 250 steps: one factor in a fifth of them, four before the end."""
    steps = CONFIG.training.first_stage.steps
    way = [RATE * sum(scheduled(step, steps) for step in range(end)) / math.log(10) for end in (steps // 5, steps)]
    assert 1 < way[0] < 1.65
    assert 4 < way[1] < 6
    assert compose(["denoiser.curvature=learnable"]).denoiser.curvature.learning_rate == RATE


def test_weight_decay_does_not_act_on_it():
    linear, c = nn.Linear(1, 1), LearnableCurvature(0.5, learning_rate=0.1)
    with torch.no_grad():
        c.raw.fill_(2.0)
    model = nn.ModuleList([linear, c])
    make = lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.5)  # noqa: E731
    optimizer = Optimizer(model.parameters(), make, LearnedCurvatures(model).rates)
    optimizer.set_rate(0.5e-2)
    assert [group["lr"] for group in optimizer.parts[0].param_groups] == pytest.approx([0.5e-2, 0.05])
    optimizer.zero_grad()
    (0 * (linear.weight.sum() + linear.bias.sum() + c.raw)).backward()
    weight = linear.weight.detach().clone()
    optimizer.step()
    assert float(c.raw.detach()) == 2.0
    torch.testing.assert_close(linear.weight.detach(), weight * (1 - 0.5 * 0.5e-2))


def test_without_a_rate_of_its_own_it_is_a_weight_like_any_other():
    model = nn.ModuleList([nn.Linear(1, 1), LearnableCurvature(0.5)])
    optimizer = Optimizer(model.parameters(), torch.optim.AdamW, LearnedCurvatures(model).rates)
    assert len(optimizer.parts[0].param_groups) == 1


@pytest.mark.parametrize(
    ("moved", "farthest", "value", "expected"),
    [
        (0.0, 0.2, 1.0, True),
        (0.9 * STILL, 1.0, 1.0, True),
        (1.1 * STILL, 1.0, 1.0, False),
        (0.003, 0.01, 1.0, False),  # still, but it could hardly have moved
        (0.0, 0.2, 1e-7, False),  # at an end of what float32 bears
        (0.0, 0.2, 1e5, False),
        (0.0, 0.0, 1.0, None),  # too few steps to move in
    ],
)
def test_the_rule_of_having_settled(moved, farthest, value, expected):
    c = LearnableCurvature(value)
    assert c.has_settled is None
    c.begin_late(farthest)
    with torch.no_grad():
        c.raw += moved
    assert c.has_settled is None  # training goes on
    c.is_last = True
    assert c.has_settled is expected
    copy = LearnableCurvature(2.0)
    copy.load_state_dict(c.state_dict())
    assert copy.has_settled is expected


def test_a_checkpoint_from_before_says_nothing_of_it():
    c = LearnableCurvature(0.3)
    state = c.state_dict()
    assert state["_extra_state"].shape == ()
    c.load_state_dict(state)
    assert c.has_settled is None


def test_results_say_where_it_started_and_whether_it_has_settled():
    c = LearnableCurvature(0.3)
    hybrid = ProductManifold([Euclidean(2), PoincareBall(2, c)])
    assert settling(hybrid) == {"curvature_1_start": 0.3}
    c.begin_late(1.0)
    c.is_last = True
    assert settling(hybrid) == {"curvature_1_start": 0.3, "curvature_1_settled": 1.0}
    assert settling(ProductManifold([Euclidean(2), PoincareBall(2, FixedCurvature(1.0))])) == {}


def test_a_curvature_that_an_earlier_stage_learned_is_left_alone():
    model = nn.ModuleDict({"own": LearnableCurvature(0.3, 0.1), "shared": LearnableCurvature(0.7, 0.1)})
    model["shared"].requires_grad_(False)
    learned = LearnedCurvatures(model)
    assert learned.figures() == {"curvature": pytest.approx(0.3)}
    assert list(learned.rates.values()) == [0.1]
    learned.begin_late(1e-3, 10.0, model)
    assert model["own"].late == (0.0, 1.0)
    assert model["shared"].late is None


def test_the_settings_reach_the_curvature():
    c = build(CONFIG.curvature)
    assert (c.value, c.learning_rate) == (1.0, RATE)
    assert json.loads(json.dumps(CONFIG.curvature.dump()))["learning_rate"] == RATE
