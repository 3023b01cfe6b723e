"""A stopped stage goes on bit for bit; a diverged one says so; the schedule and the average are what they say."""

import signal
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hldm.errors import Stopped, UserError
from hldm.geometry import FixedCurvature, LearnableCurvature
from hldm.run import stop
from hldm.training.checkpoint import before, load_states
from hldm.training.ema import Ema
from hldm.training.loop import Stage, scheduled, train
from hldm.training.randomness import initialised, stream


def load_state(path):
    """The newest one; None where there is none."""
    return next((state for _, state in load_states(path)), None)


class Regression(Stage):
    """Noisy data that depend on the step only. `stop_at` raises there, as a kill would."""

    name = "regression"

    def __init__(self, stop_at=None, poison=None, poisoned_gradient=None, curvature=None):
        self.model = initialised(0, "net", lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)))
        self.stop_at, self.poison, self.poisoned_gradient = stop_at, poison, poisoned_gradient
        self.curvature = curvature

    @property
    def curved(self):
        return self.curvature or self.model

    def loss(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt
        x = torch.randn(16, 4, generator=stream(0, "x", step))
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        if step == self.poisoned_gradient:
            loss = loss + (0 * self.model[0].weight).sqrt().sum()  # 0, with a gradient of 0 · ∞
        return {"loss": loss * float("nan") if step == self.poison else loss}


def run(
    stage,
    path,
    ema_decay=0.9,
    starts=None,
    logged=None,
    steps=20,
    schedule="cosine",
    clip_norm=1.0,
    lr=1e-2,
    log_every=1,
    make_optimizer=None,
    checkpoint_every=4,
    **others,
):
    return train(
        stage,
        steps=steps,
        make_optimizer=make_optimizer or partial(torch.optim.AdamW, lr=lr),
        schedule=schedule,
        clip_norm=clip_norm,
        ema_decay=ema_decay,
        state_path=path,
        checkpoint_every=checkpoint_every,
        log_every=log_every,
        on_start=(starts if starts is not None else []).append,
        log=lambda step, figures: None if logged is None else logged.append((step, figures)),
        **others,
    )


@pytest.mark.parametrize("stop_at", [1, 7, 8, 19])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_stopped_stage_goes_on_bit_for_bit(tmp_path, stop_at, ema_decay):
    straight_log, log, starts = [], [], []
    straight = run(Regression(), tmp_path / "a.pt", ema_decay, logged=straight_log)
    with pytest.raises(KeyboardInterrupt):
        run(Regression(stop_at), tmp_path / "b.pt", ema_decay, starts, log)
    resumed = run(Regression(), tmp_path / "b.pt", ema_decay, starts, log)
    assert starts == [0, stop_at // 4 * 4]
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert {step: figures["loss"] for step, figures in straight_log} == {step: figures["loss"] for step, figures in log}


def ask_at(step):
    return lambda done: signal.raise_signal(signal.SIGTERM) if done == step else None


@pytest.mark.parametrize("step", [1, 6, 8, 19])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_stage_that_is_asked_to_stop_saves_the_step_it_is_at(tmp_path, step, ema_decay):
    starts = []
    straight = run(Regression(), tmp_path / "a.pt", ema_decay)
    with stop.listening(), pytest.raises(Stopped, match="SIGTERM"):
        run(Regression(), tmp_path / "b.pt", ema_decay, starts, on_step=ask_at(step))
    resumed = run(Regression(), tmp_path / "b.pt", ema_decay, starts)
    assert starts == [0, step]
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_stage_that_is_asked_to_stop_before_it_begins_does_no_step(tmp_path):
    starts = []
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped):
            run(Regression(0), tmp_path / "a.pt", starts=starts)
    assert not starts
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_is_asked_to_stop_in_its_last_step_is_finished(tmp_path):
    with stop.listening():
        run(Regression(), tmp_path / "a.pt", on_step=ask_at(20))
        assert stop.requested()  # and whoever goes on from here stops


def test_what_is_not_finite_is_not_saved_by_a_stop_either(tmp_path):
    with stop.listening(), pytest.raises(UserError, match=r"model\.0\.weight.* the state after step 4 is kept"):
        run(Regression(poisoned_gradient=5), tmp_path / "a.pt", on_step=ask_at(6))
    assert load_state(tmp_path / "a.pt")["step"] == 4


class Curved(Regression):
    """With a curvature that the loss wants to be small, learned at a rate of its own."""

    def __init__(self, stop_at=None):
        super().__init__(stop_at)
        self.net = self.model
        self.model = nn.ModuleList([self.net, LearnableCurvature(0.3, learning_rate=0.05)])

    def loss(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt
        x = torch.randn(16, 4, generator=stream(0, "x", step))
        return {"loss": (self.net(x) - x.sum(1, keepdim=True)).square().mean() + self.model[1]()}


@pytest.mark.parametrize("stop_at", [5, 9, 17, 18])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_curvature_with_a_rate_of_its_own_goes_on_bit_for_bit(tmp_path, stop_at, ema_decay):
    """With its path and with what says whether it has settled, which is noted after step 12 of 20."""

    straight_log, log = [], []
    straight = run(Curved(), tmp_path / "a.pt", ema_decay, logged=straight_log)
    with pytest.raises(KeyboardInterrupt):
        run(Curved(stop_at), tmp_path / "b.pt", ema_decay, logged=log)
    resumed = run(Curved(), tmp_path / "b.pt", ema_decay, logged=log)
    assert straight[1].late is not None
    assert straight[1].is_last
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    path = {step: figures["curvature"] for step, figures in log}
    assert path == {step: figures["curvature"] for step, figures in straight_log}
    assert path[20] < path[1] < 0.3


def test_a_state_of_another_model_is_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Regression(7), tmp_path / "a.pt")
    other = Regression()
    other.model = nn.Sequential(other.model)
    with pytest.raises(UserError, match=r"another version of the model\. Delete this file"):
        run(other, tmp_path / "a.pt")


@pytest.mark.parametrize("log_every", [1, 1000])
def test_a_loss_that_is_not_finite_stops_the_stage_at_once(tmp_path, log_every):
    words = r"regression: the loss is nan at step 6\. .*training\.regression\.learning_rate=0\.001\."
    with pytest.raises(UserError, match=words):
        run(Regression(poison=5), tmp_path / "a.pt", log_every=log_every)
    assert load_state(tmp_path / "a.pt")["step"] == 4  # what was good is kept
    with pytest.raises(UserError, match=words):  # and a repeat goes on from there, to the same end
        run(Regression(poison=5), tmp_path / "a.pt", log_every=log_every)


@pytest.mark.parametrize("lr", [1e6, 1e30, 1e300])
def test_a_learning_rate_beyond_all_reason_is_named_and_nothing_is_saved(tmp_path, lr):
    stage = Regression()
    with pytest.raises(UserError, match=r"Its learning rate of 1e\+\d+ is too high"):
        run(stage, tmp_path / "a.pt", None, lr=lr, schedule="constant", clip_norm=None, steps=60, log_every=1000)
    state = load_state(tmp_path / "a.pt")
    assert state is None or all(value.isfinite().all() for value in state["model"].values())


@pytest.mark.parametrize(("step", "steps"), [(3, 20), (7, 20), (9, 10)], ids=["first save", "second save", "end"])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, step, steps):
    stage = Regression(poisoned_gradient=step)
    with pytest.raises(UserError, match=rf"regression: model\.0\.weight is not finite at step {step + 1}\."):
        run(stage, tmp_path / "a.pt", steps=steps, log_every=1000)
    state = load_state(tmp_path / "a.pt")
    assert (state["step"] if state else 0) == step // 4 * 4
    if state:
        assert all(value.isfinite().all() for value in [*state["model"].values(), *state["ema"]["model"].values()])


@pytest.mark.parametrize("curvature", [FixedCurvature(1e38), FixedCurvature(1e300), LearnableCurvature(1e-60)])
def test_a_curvature_that_is_the_cause_is_named_and_not_the_learning_rate(tmp_path, curvature):
    with pytest.raises(UserError, match=rf"A curvature of {curvature.value:g} leads to".replace("+", r"\+")) as raised:
        run(Regression(poison=2, curvature=curvature), tmp_path / "a.pt")
    assert "learning_rate" not in str(raised.value)


@pytest.mark.parametrize("curvature", [FixedCurvature(0), FixedCurvature(100), LearnableCurvature(0.1)])
def test_a_usual_curvature_is_not_blamed(tmp_path, curvature):
    with pytest.raises(UserError, match="learning_rate="):
        run(Regression(poison=2, curvature=curvature), tmp_path / "a.pt")


def test_the_learning_rate_is_not_blamed_for_the_first_step(tmp_path):
    with pytest.raises(UserError, match=r"at step 1\. Nothing was learned before it") as raised:
        run(Regression(poison=0), tmp_path / "a.pt")
    assert "learning_rate=" not in str(raised.value)


def test_what_the_optimiser_remembers_is_looked_at_too(tmp_path):
    """A second moment that overflows: the weights are finite and would stand still for ever."""
    stage, made = Regression(), []

    def make(parameters):
        made.append(torch.optim.AdamW(parameters, lr=1e-2))
        return made[0]

    def spoil(done):
        if done == 6:
            made[0].state[stage.model[0].weight]["exp_avg_sq"][0, 0] = float("inf")

    with pytest.raises(UserError, match=r"optimizer\.state\.0\.exp_avg_sq is not finite at step 8\."):
        run(stage, tmp_path / "a.pt", make_optimizer=make, on_step=spoil, log_every=1000)
    assert load_state(tmp_path / "a.pt")["step"] == 4


def damage_by(kind):
    """What a disk does to a file."""

    def do(path):
        content = bytearray(path.read_bytes())
        if kind == "flipped":
            content[len(content) // 3] ^= 4
        path.write_bytes(content[: len(content) // 2] if kind == "truncated" else b"" if kind == "emptied" else content)

    return do


def not_a_number(path):
    """As a version wrote it that did not look."""
    state = torch.load(path, weights_only=True)
    state["model"]["0.weight"][0, 0] = float("nan")
    torch.save(state, path)


DAMAGE = {kind: damage_by(kind) for kind in ("flipped", "truncated", "emptied")} | {"not finite": not_a_number}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_state_is_said_and_the_one_before_it_is_taken(tmp_path, kind, both, capsys):
    straight, starts = run(Regression(), tmp_path / "a.pt"), []
    path = tmp_path / "b.pt"
    with pytest.raises(KeyboardInterrupt):
        run(Regression(11), path)
    assert load_state(path)["step"] == 8
    assert load_state(before(path))["step"] == 4
    for file in (path, before(path)) if both else (path,):
        DAMAGE[kind](file)
    resumed = run(Regression(), path, starts=starts)
    assert starts == [0 if both else 4]
    said = capsys.readouterr().out
    assert f"the resume state {path} is damaged" in said
    assert ("goes on from the state before, after step 4" in said) == (not both)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_kill_between_the_two_renames_leaves_the_state_before(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Regression(11), tmp_path / "a.pt")
    (tmp_path / "a.pt").replace(before(tmp_path / "a.pt"))
    starts = []
    run(Regression(), tmp_path / "a.pt", starts=starts)
    assert starts == [8]


def test_slow_steps_are_saved_by_time(tmp_path, monkeypatch):
    now = iter(range(0, 10_000, 60))
    monkeypatch.setattr("hldm.training.loop.time", SimpleNamespace(monotonic=lambda: float(next(now))))
    seen = []
    run(Regression(), tmp_path / "a.pt", checkpoint_every=1000, checkpoint_minutes=3, on_save=lambda: seen.append(1))
    assert 3 < len(seen) < 10
    seen.clear()
    run(Regression(), tmp_path / "b.pt", checkpoint_every=1000, on_save=lambda: seen.append(1))
    assert not seen


def test_training_learns(tmp_path):
    logged = []
    run(Regression(), tmp_path / "a.pt", logged=logged, steps=300)
    assert logged[-1][1]["loss"] < 0.2 * logged[0][1]["loss"]


def test_a_constant_schedule_is_the_optimizers_own_rate(tmp_path):
    stage, straight = Regression(), Regression()
    run(stage, tmp_path / "a.pt", None, steps=30, schedule="constant", clip_norm=None)
    optimizer = torch.optim.AdamW(straight.model.parameters(), lr=1e-2)
    for step in range(30):
        optimizer.zero_grad()
        straight.loss(step)["loss"].backward()
        optimizer.step()
    for ours, expected in zip(stage.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(ours, expected)


def test_gradients_are_clipped_where_that_is_asked_for(tmp_path):
    clipped, free, plain = [], [], []
    run(Regression(), tmp_path / "a.pt", logged=clipped, clip_norm=1e-3)
    run(Regression(), tmp_path / "b.pt", logged=free, clip_norm=None)
    assert all(figures["gradient_norm"] > 1e-3 for _, figures in clipped)  # as they were before
    assert all(figures["gradient_norm"] > 1e-3 for _, figures in free)
    one = run(Regression(), tmp_path / "c.pt", logged=plain, clip_norm=None, log_every=7)
    assert [step for step, _ in plain] == [7, 14, 20]
    for step, figures in plain:  # the norm is looked at where there is a line, and changes nothing
        assert figures["gradient_norm"] == free[step - 1][1]["gradient_norm"]
    other = run(Regression(), tmp_path / "d.pt", clip_norm=1e30)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_look_sees_the_weights_to_use_and_changes_nothing(tmp_path, ema_decay):
    straight = run(Regression(), tmp_path / "a.pt", ema_decay)
    stage, logged, seen = Regression(), [], {}

    def look(done):
        assert not stage.model.training
        seen[done] = {name: value.clone() for name, value in stage.model.state_dict().items()}
        return {"validation_loss": float(done)}

    looked = run(stage, tmp_path / "b.pt", ema_decay, logged=logged, log_every=6, look=look, look_every=8)
    assert list(seen) == [8, 16, 20]
    assert [(step, figures.get("validation_loss")) for step, figures in logged] == [
        (6, None), (8, 8.0), (12, None), (16, 16.0), (18, None), (20, 20.0)]  # fmt: skip
    for name, value in straight.state_dict().items():
        assert torch.equal(value, looked.state_dict()[name]), name
        assert torch.equal(value, seen[20][name]), name
    assert looked is not stage.model or ema_decay is None


def test_schedule():
    rates = [scheduled(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 50)
    assert max(rates) == rates[50] == 1.0
    assert all(a > b for a, b in pairwise(rates[50:]))
    assert rates[-1] == pytest.approx(0.02, abs=1e-4)


def test_ema_follows_its_formula():
    model = nn.Linear(1, 1, bias=False)
    ema = Ema(model, 0.5)
    expected = model.weight.detach().clone()
    for k in range(20):
        with torch.no_grad():
            model.weight.fill_(float(k))
        decay = min(0.5, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * k
        ema.update(model)
    torch.testing.assert_close(ema.model.weight.detach(), expected)
