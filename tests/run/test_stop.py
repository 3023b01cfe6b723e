"""Signals ask a run to stop, and change nothing else."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from hldm.errors import Stopped
from hldm.run import stop


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """As a shell starts a command; whoever started the tests may ignore some."""
    before = {number: signal.getsignal(number) for number in stop.SIGNALS}
    for number in stop.SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", stop.SIGNALS)
def test_a_signal_is_a_request(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)
    with stop.listening():
        stop.check()
        signal.raise_signal(number)
        assert stop.requested()
        with pytest.raises(Stopped, match=number.name):
            stop.check()
    assert not stop.requested()
    assert signal.getsignal(number) is before
    assert f"{number.name}: the run stops as soon as what it is at is saved." in capfd.readouterr().err


def test_nccl_keeps_its_signal() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with stop.listening():
        assert signal.getsignal(signal.SIGUSR1) is before


def test_an_earlier_handler_is_called_too() -> None:
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested()
    assert seen == [signal.SIGTERM]


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with stop.listening():
        signal.raise_signal(signal.SIGHUP)
        assert not stop.requested()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_second_ctrl_c_ends_it_at_once(first: signal.Signals) -> None:
    """After SIGTERM the first Ctrl-C may be the launcher's, which passes on what it got: the second one counts."""
    with stop.listening():
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGTERM)  # asked twice by a scheduler: still in order
        if first != signal.SIGINT:
            signal.raise_signal(signal.SIGINT)
        assert stop.requested()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python 3.12
def test_a_forked_child_goes_on() -> None:
    with stop.listening():
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGTERM)
            os._exit(int(stop.requested()))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert not stop.requested()


def test_outside_of_the_main_thread_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGTERM)
    inside = []

    def work() -> None:
        with stop.listening():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]
