"""Reading ahead: batches are made in other threads while one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor


@contextmanager
def threads(count: int) -> Iterator[Executor]:
    """A pool of threads; what has not been begun when the block ends is left."""
    from concurrent.futures import ThreadPoolExecutor  # takes 8 ms, and few runs need it

    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(begun: Iterable[Callable[[], Any]], count: int) -> Iterator[Any]:
    """What functions give, in order.

    Args:
        begun: to get the next of it begins a piece of work, whose function ends it.
        count: how many more pieces are begun when one is ended.
    """
    waiting: deque[Callable[[], Any]] = deque()
    for end in begun:
        waiting.append(end)
        if len(waiting) > count:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()
