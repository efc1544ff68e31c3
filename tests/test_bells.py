"""How the ranks of one machine wait for each other; threads play the ranks."""

import os
import threading
import time

import pytest

from minitorch_ciml.distributed.bells import Bells


@pytest.fixture
def bells(tmp_path):
    """The bells of three ranks."""
    paths = [str(tmp_path / f"bell{rank}") for rank in range(3)]
    for path in paths:
        os.mkfifo(path)
    meet, made = threading.Barrier(3, timeout=10).wait, {}

    def make(rank):
        made[rank] = Bells(paths, rank, meet, lambda: None)

    run_together(make)
    return [made[rank] for rank in range(3)]


def run_together(call):
    threads = [threading.Thread(target=call, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_fast_rank_does_not_stand_for_a_slow_one(bells):
    here = bells[0].arrive()
    bells[1].arrive()
    bells[1].arrive()  # already the next time
    assert not here.done()
    bells[2].arrive()
    assert here.done()
    assert not bells[0].arrive().done()
    bells[2].arrive()
    bells[0].wait(2)


def test_nobody_leaves_before_the_last_has_come(bells):
    came, left = [], []

    def meet_often(rank):
        for turn in range(50):
            if rank == turn % 3:
                time.sleep(0.002)  # the others sleep by then
            came.append((turn, rank))
            bells[rank].arrive().wait()
            left.append((turn, len(came)))

    run_together(meet_often)
    assert len(left) == 150
    assert all(so_far >= 3 * (turn + 1) for turn, so_far in left)


def test_a_rank_that_waits_looks_after_other_things(bells):
    calls = []
    bells[0]._meanwhile = lambda: (
        calls.append(len(calls)) or (len(calls) == 3 and [bells[1].arrive(), bells[2].arrive()])
    )
    bells[0].arrive().wait()
    assert calls == [0, 1, 2]


def test_a_rank_waits_for_those_that_have_ended(bells):
    """The one that ended says why; a survivor must not end the job with another reason first."""
    naps = []

    def interrupt():
        naps.append(1)
        if len(naps) == 5:
            raise InterruptedError

    bells[0]._meanwhile = interrupt
    here = bells[0].arrive()
    del bells[1:]  # their pipes close
    with pytest.raises(InterruptedError):
        here.wait()
    assert not bells[0].arrive().done()
