"""Loads, stores, atomic operations, and copies from global to shared memory that arrive later.

"PTX ISA", 9.7.9 (data movement) and 9.7.13 (atomic operations).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptx_machine.memory import LOCAL_WINDOW, SHARED_WINDOW
from ptx_machine.operands import Binder
from ptx_machine.program import TYPES, Instruction

if TYPE_CHECKING:
    from ptx_machine.machine import Step, Wave

_SPACES = ("global", "shared", "local", "const", "param")
_TOP = np.uint64(56)  # the bits above tell the windows of generic addresses


def _space(parts: tuple[str, ...]) -> str:
    """The state space of an access; "" for generic addresses."""
    for part in parts:
        if part.partition("::")[0] in _SPACES:
            return part.partition("::")[0]
    return ""


def _kind(instruction: Instruction) -> np.dtype:
    return np.dtype(TYPES[instruction.parts[-1]])


def _listed(operand: Any) -> list:
    return operand if isinstance(operand, list) else [operand]


def _threads(w: Wave) -> np.ndarray:
    return np.arange(w.size) if w.mask is None else np.flatnonzero(w.mask)


def _space_of(addresses: np.ndarray) -> tuple[str, int]:
    """The state space in which generic addresses lie (all in one), and where its window begins."""
    tops = np.unique(addresses >> _TOP)
    assert tops.size <= 1, "an access to several state spaces"
    top = int(tops[0]) << int(_TOP) if tops.size else 0
    return {SHARED_WINDOW: "shared", LOCAL_WINDOW: "local"}.get(top, "global"), top


def _load_from(
    w: Wave, space: str, threads: np.ndarray, at: np.ndarray, kind: np.dtype, count: int
) -> np.ndarray:
    if not space:
        space, window = _space_of(at)
        at = at - np.uint64(window)
    if space == "shared":
        return w.shared.load(threads, at, kind, count)
    if space == "local":
        return w.local.load(threads, at, kind, count)
    return w.memory.load(w, threads, at, kind, count)


def _store_to(w: Wave, space: str, threads: np.ndarray, at: np.ndarray, values: np.ndarray) -> None:
    if not space:
        space, window = _space_of(at)
        at = at - np.uint64(window)
    if space == "shared":
        w.shared.store(threads, at, values)
    elif space == "local":
        w.local.store(threads, at, values)
    else:
        w.memory.store(w, threads, at, values)


def _all_threads(w: Wave, threads: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of the active threads, in an array for all."""
    if threads.size == w.size:
        return values
    full = np.zeros(w.size, values.dtype)
    full[threads] = values
    return full


def _argument_of_call(binder: Binder, operand: str) -> bool:
    return operand[1:-1].partition("+")[0] in binder.program.variables


def load(binder: Binder, i: Instruction) -> Step:
    kind, targets = _kind(i), _listed(i.operands[0])
    space = _space(i.parts)
    puts = [binder.write(target, kind) for target in targets]
    if space == "param" and _argument_of_call(binder, i.operands[1]):
        space = "local"
    if space == "param":
        name = i.operands[1][1:-1]
        return lambda w: puts[0](w, np.full(w.size, w.parameters[name]).astype(kind))
    address = binder.address(i.operands[1])
    space = "global" if space == "const" else space

    def step(w: Wave) -> None:
        threads = _threads(w)
        loaded = _load_from(w, space, threads, address(w)[threads], kind, len(puts))
        for n, put in enumerate(puts):
            put(w, _all_threads(w, threads, loaded[:, n]))

    return step


def store(binder: Binder, i: Instruction) -> Step:
    kind, space = _kind(i), _space(i.parts)
    space = "local" if space == "param" else space  # of a call
    address = binder.address(i.operands[0])
    values = [binder.read(value, kind) for value in _listed(i.operands[1])]

    def step(w: Wave) -> None:
        threads = _threads(w)
        columns = [np.broadcast_to(value(w), w.size)[threads] for value in values]
        _store_to(w, space, threads, address(w)[threads], np.stack(columns, axis=1))

    return step


def convert_address(binder: Binder, i: Instruction) -> Step:
    """cvta: between generic addresses and those of a state space."""
    kind = _kind(i)
    put, value = binder.write(i.operands[0], kind), binder.read(i.operands[1], kind)
    windows = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW}
    window = np.array(windows.get(_space(i.parts), 0), np.uint64).astype(kind)
    if "to" in i.parts:
        return lambda w: put(w, value(w) - window)
    return lambda w: put(w, np.broadcast_to(value(w), w.size) + window)


_ATOMIC: dict[str, Callable] = {
    "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and,
    "or": np.bitwise_or, "xor": np.bitwise_xor, "exch": lambda new, old: new,
}  # fmt: skip


def atomic(binder: Binder, i: Instruction) -> Step:
    """One thread after the other: in the order of their numbers, which a GPU need not keep."""
    kind, space = _kind(i), _space(i.parts)
    (name,) = [part for part in i.parts[1:] if part in (*_ATOMIC, "cas")]
    operands = i.operands if i.parts[0] == "atom" else ["_", *i.operands]
    put, address = binder.write(operands[0], kind), binder.address(operands[1])
    given = [binder.read(value, kind) for value in operands[2:]]

    assert space == "global", i.text

    def step(w: Wave) -> None:
        old, at = np.zeros(w.size, kind), address(w)
        values = [np.broadcast_to(value(w), w.size) for value in given]
        for t in _threads(w):
            own = [value[t] for value in values]
            change = _exchange(*own) if name == "cas" else partial(_ATOMIC[name], own[0])
            old[t] = w.memory.change(at[t : t + 1], change, kind)
        put(w, old)

    return step


def _exchange(expected: Any, new: Any) -> Callable:
    return lambda old: new if old == expected else old


def nothing(binder: Binder, i: Instruction) -> Step:
    """Fences between threads: here, everybody sees a store at once."""
    return lambda w: None


# --- asynchronous copies --------------------------------------------------------------------------


class _Copy(NamedTuple):
    """One instruction's copies that have not arrived: threads, their groups, and both ends."""

    threads: np.ndarray
    groups: np.ndarray
    targets: np.ndarray
    sources: np.ndarray
    size: int
    valid: np.ndarray  # bytes to be read; the rest become zeros


class Copies:
    """The copies of a wave. They arrive when they are waited for, and not before."""

    def __init__(self, wave: Wave):
        self._wave = wave
        self._pending: list[_Copy] = []
        self._committed = np.zeros(wave.size, np.int64)  # groups that each thread has closed

    def start(self, targets: np.ndarray, sources: np.ndarray, size: int, valid: np.ndarray) -> None:
        w = self._wave
        threads = _threads(w)
        targets, sources, valid = targets[threads], sources[threads], valid[threads]
        if ((valid != 0) & (valid != size)).any():
            raise NotImplementedError("copies of a part")
        if (sources % np.uint64(size)).any():
            raise IndexError(f"cp.async of {size} bytes from an address that is not aligned.")
        w.memory.check(sources[valid != 0], size)
        w.shared.poison(threads, targets, size)
        groups = self._committed[threads]
        self._pending.append(_Copy(threads, groups, targets, sources, size, valid))

    def commit(self) -> None:
        self._committed[_threads(self._wave)] += 1

    def wait(self, most: int) -> None:
        """For the active threads: until all but the last `most` of their groups are there."""
        w = self._wave
        kept = []
        for copy in self._pending:
            due = w.active[copy.threads] & (copy.groups < self._committed[copy.threads] - most)
            if due.any():
                self._arrive(copy, due)
            if not due.all():
                rest = [x if isinstance(x, int) else x[~due] for x in copy]
                kept.append(_Copy(*rest))
        self._pending = kept

    def _arrive(self, copy: _Copy, due: np.ndarray) -> None:
        w = self._wave
        if w.machine.traffic is not None:
            w.machine.traffic.instruction = "cp.async"
        values = np.zeros((int(due.sum()), copy.size), np.uint8)
        full = copy.valid[due] != 0
        readers, sources = copy.threads[due][full], copy.sources[due][full]
        values[full] = w.memory.load(w, readers, sources, np.dtype(np.uint8), copy.size)
        w.shared.store(copy.threads[due], copy.targets[due], values)


def copy_later(binder: Binder, i: Instruction) -> Step:
    """cp.async and what belongs to it."""
    what = i.parts[2]
    if what == "commit_group":
        return lambda w: w.copies.commit()
    if what == "wait_group":
        most = int(i.operands[0])
        return lambda w: w.copies.wait(most)
    if what == "wait_all":
        return lambda w: (w.copies.commit(), w.copies.wait(0))
    target, source = binder.address(i.operands[0]), binder.address(i.operands[1])
    size = int(i.operands[2])
    assert size == 16 or (size in (4, 8) and what == "ca"), i.text
    valid = binder.read(i.operands[3] if len(i.operands) > 3 else str(size), np.uint32)
    return lambda w: w.copies.start(target(w), source(w), size, np.broadcast_to(valid(w), w.size))


INSTRUCTIONS = {
    "ld": load, "ldu": load, "st": store, "cvta": convert_address, "atom": atomic, "red": atomic,
    "membar": nothing, "cp": copy_later,
}  # fmt: skip
