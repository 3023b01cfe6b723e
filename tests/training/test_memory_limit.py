"""Memory that is not there is refused with a sentence, and the limit is gone afterwards."""

import os
import resource
import sys

import pytest
import torch

from hldm.errors import UserError
from hldm.training import memory
from hldm.training.memory import free_memory, within_memory

CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")


@linux
def test_what_does_not_fit_is_said_and_the_limit_is_lifted(monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(memory, "free_memory", lambda: 2**28)
    words = (
        r"stage: a training step does not fit in memory: 1\.0 GiB more.*0\.2 GiB were free.*training\.stage\.batch_size"
    )
    with pytest.raises(UserError, match=words), within_memory("stage", CPU):
        torch.zeros(2**28)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with within_memory("stage", CPU):
        torch.zeros(2**22)


@linux
def test_free_memory_is_some_of_all():
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free_memory() <= pages


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has"), "20.00 GiB more were"),
        (MemoryError(), "does not fit in memory, and"),
        (RuntimeError("std::bad_alloc"), "does not fit in memory, and"),
    ],
)
def test_every_allocator_is_understood(error, words, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 2**40)
    with pytest.raises(UserError, match=words), within_memory("stage", CPU):
        raise error


def test_other_errors_pass(monkeypatch):
    with pytest.raises(RuntimeError, match="shapes"), within_memory("stage", CPU):
        raise RuntimeError("shapes do not match")
    monkeypatch.setattr(memory, "free_memory", lambda: None)  # as on other systems
    with within_memory("stage", CPU):
        torch.zeros(2**22)
