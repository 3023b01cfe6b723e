"""Streams depend on (seed, name, step) and on nothing else; every epoch shows every image once."""

import torch
from torch import nn

from hldm.training.randomness import batch_indices, initialised, stream


def test_streams_repeat_and_differ():
    draws = {
        key: torch.randn(4, generator=stream(*key))
        for key in [(0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0), (11, "a", 0), (1, "1/a", 0)]
    }
    assert torch.equal(draws[0, "a", 0], torch.randn(4, generator=stream(0, "a", 0)))
    values = list(draws.values())
    for i, one in enumerate(values):
        for other in values[:i]:
            assert not torch.equal(one, other)


def test_every_epoch_is_a_permutation_even_across_batches_that_straddle_it():
    total, batch_size = 10, 4
    seen = torch.cat([batch_indices(3, "x", step, batch_size, total) for step in range(10)])
    assert len(seen) == 40
    for epoch in range(4):
        assert sorted(seen[epoch * total : (epoch + 1) * total].tolist()) == list(range(total))
    assert not torch.equal(seen[:10], seen[10:20])


def test_a_batch_may_be_larger_than_the_data_set():
    chosen = batch_indices(0, "x", 0, 25, 10)
    assert len(chosen) == 25
    assert set(chosen[:10].tolist()) == set(chosen[10:20].tolist()) == set(range(10))


def test_initial_weights_depend_on_seed_and_name_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    one = initialised(0, "a", lambda: nn.Linear(3, 3)).weight
    assert torch.equal(before, torch.random.get_rng_state())
    torch.randn(7)
    assert torch.equal(one, initialised(0, "a", lambda: nn.Linear(3, 3)).weight)
    assert not torch.equal(one, initialised(0, "b", lambda: nn.Linear(3, 3)).weight)
    assert not torch.equal(one, initialised(1, "a", lambda: nn.Linear(3, 3)).weight)
