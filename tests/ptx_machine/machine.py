"""Threads: who runs next, and where they wait for each other.

All threads of a few blocks, a *wave*, run together: a register is an array with one number for each
of them. As long as they go the same way, an instruction is one NumPy call. Where they part, those
that are furthest behind in the text go first, so that the others are met again; the rest keep still
under a mask. At a barrier, threads stand still until all that it is for are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ptx_machine import arithmetic, races, transfer, warpgroups, warps
from ptx_machine.memory import FIRST_SHARED, Global, Local, Shared
from ptx_machine.operands import Binder, Read
from ptx_machine.program import TYPES, Instruction, Program, Segment, parse
from ptx_machine.traffic import Traffic

WARP = 32
_MEETING_SIZE = {"warp": WARP, "warp group": 4 * WARP}
_MOST_THREADS = 2048  # of a wave; blocks are added up to that

Step = Callable[["Wave"], None]


class Code(NamedTuple):
    """A segment, ready to run.

    Attributes:
        steps, names: one for each instruction but the last, if that is a branch.
        meeting: as `Segment.meeting`.
        goes: where a thread goes that takes the branch; -1 without a branch.
        if_: which threads take it; None for all.
    """

    steps: list[Step]
    names: list[str]
    meeting: str
    goes: int
    if_: Read | None


class Machine:
    """A compiled kernel that can be launched.

    Args:
        ptx: the text of a PTX file with one kernel.

    Attributes:
        unit: bytes of its smallest access to memory.
        traffic: where accesses to memory are counted, if they are.
    """

    def __init__(self, ptx: str):
        self.program = parse(ptx)
        self.binder = Binder(self.program)
        self.end = len(self.program.segments)
        self.code = [self._code(segment) for segment in self.program.segments]
        self.unit = _smallest_access(self.program)
        self.traffic: Traffic | None = None

    def _code(self, segment: Segment) -> Code:
        instructions = segment.instructions
        goes, if_ = -1, None
        if instructions and instructions[-1].parts[0] in ("bra", "ret", "exit"):
            *instructions, last = instructions
            goes = self.program.labels[last.operands[0]] if last.operands else self.end
            if_ = self.binder.read(last.guard, np.bool_) if last.guard else None
        names = [".".join(i.parts) for i in instructions]
        return Code([self._step(i) for i in instructions], names, segment.meeting, goes, if_)

    def _step(self, instruction: Instruction) -> Step:
        step = _made(self.binder, instruction)
        if not instruction.guard:
            return step
        guard = self.binder.read(instruction.guard, np.bool_)

        def guarded(w: Wave) -> None:
            kept = w.mask
            w.mask = guard(w) if kept is None else guard(w) & kept
            step(w)
            w.mask = kept

        return guarded

    def launch(
        self, grid: tuple, block: tuple, arguments: list[Any], memory: Global, dynamic: int
    ) -> None:
        """Runs all blocks.

        Args:
            grid, block: three sizes each.
            arguments: numbers of NumPy types; pointers as addresses.
            memory: what the addresses belong to.
            dynamic: bytes of shared memory beyond what the kernel declares.
        """
        places = list(product(range(grid[2]), range(grid[1]), range(grid[0])))
        at_once = max(1, _MOST_THREADS // math.prod(block))
        with np.errstate(all="ignore"):
            for i in range(0, len(places), at_once):
                some = places[i : i + at_once]
                Wave(self, grid, block, i, some, arguments, memory, dynamic).run()


def _made(binder: Binder, instruction: Instruction) -> Step:
    for family in (arithmetic, transfer, warps, warpgroups):
        make = family.INSTRUCTIONS.get(instruction.parts[0])
        if make is not None:
            return make(binder, instruction)
    raise NotImplementedError(instruction.text)


class Wave:
    """A few blocks that run at the same time.

    Threads are numbered through all blocks; each block begins at a multiple of a warp.

    Attributes:
        size: threads, those included that only fill up a block's last warp.
        registers: of all threads, by the binder's numbers.
        mask: the threads that are active; None for all.
        thread, lane, block: each thread's number in its block, in its warp, and its block's.
        who: each thread's number through all blocks of the launch.
        moments: how often each thread has met others, for races.
        carry: what an addition of a word has left for the next.
    """

    def __init__(
        self, machine: Machine, grid: tuple, block: tuple, first: int, places: list,
        arguments: list, memory: Global, dynamic: int,
    ):  # fmt: skip
        self.machine = machine
        threads = math.prod(block)
        padded = -(-threads // WARP) * WARP
        self.blocks, self.size = len(places), len(places) * padded
        everyone = np.arange(self.size)
        self.block, self.thread = np.divmod(everyone, padded)
        self.lane = everyone % WARP
        self.tid = (
            self.thread % block[0], self.thread // block[0] % block[1],
            self.thread // (block[0] * block[1]),
        )  # fmt: skip
        z, y, x = np.array(places).T
        self.ctaid = x[self.block], y[self.block], z[self.block]
        self.ntid, self.nctaid = tuple(map(np.array, block)), tuple(map(np.array, grid))
        self.alive = self.thread < threads
        self.all = None if padded == threads else self.alive
        self.mask: np.ndarray | None = self.all
        self.who = (first + self.block) * races.THREADS + self.thread
        self._barriers = np.zeros(self.size, np.int64)  # that each thread has passed
        self._meetings = np.zeros(self.size, np.int64)
        self.moments = races.moment(self._barriers, self._meetings)
        self.carry = np.zeros(self.size, bool)
        self._memory(memory, dynamic)
        binder = machine.binder
        self.registers: list[np.ndarray] = [
            _unset(self.size, binder.storage(name)) for name in binder.numbers
        ]
        names = [name for name, _ in machine.program.parameters]
        self.parameters = dict(zip(names, arguments, strict=True))
        self.copies = transfer.Copies(self)
        self.products = warpgroups.Products(self)

    def _memory(self, memory: Global, dynamic: int) -> None:
        """Places the kernel's variables."""
        self.addresses: dict[str, int] = {}
        self.memory, self.dynamic = memory, dynamic
        ends = {"shared": FIRST_SHARED, "local": 0}
        variables = self.machine.program.variables.values()
        for variable in sorted(variables, key=lambda v: v.is_extern):  # those come last
            if variable.space in ends:
                start = -(-ends[variable.space] // variable.alignment) * variable.alignment
                self.addresses[variable.name] = start
                ends[variable.space] = start + variable.size + dynamic * variable.is_extern
            elif variable.values:
                self.addresses[variable.name] = memory.constant(variable.values)
        self.shared = Shared(self, ends["shared"])
        self.local = Local(self, ends["local"])

    # --- running ------------------------------------------------------------------------------

    def run(self) -> None:
        """Until all threads have returned."""
        end = self.machine.end
        places = np.where(self.alive, 0, end)  # each thread's segment
        common: int | None = 0  # that of all of them, if they are at the same one
        while common != end:
            if common is None:
                number, self.mask = self._next(places)
            else:
                number, self.mask = common, self.all
            code = self.machine.code[number]
            for step, name in zip(code.steps, code.names):
                if self.machine.traffic is not None:
                    self.machine.traffic.instruction = name
                step(self)
            then = self._then(number, code)
            if common is not None and isinstance(then, int):
                common = then
                continue
            if common is not None:
                places = np.where(self.alive, common, end)
            places = np.where(self.active, then, places)
            alive = places[self.alive]
            common = int(alive[0]) if (alive == alive[0]).all() else None

    def meet(self, warps: bool) -> None:
        """The active threads have met: those of a warp, or of a block."""
        (self._meetings if warps else self._barriers)[self.active] += 1
        self.moments = races.moment(self._barriers, self._meetings)

    def uses(self, space: str, threads: np.ndarray, at: np.ndarray, size: int) -> tuple:
        """Units of memory that threads use now, by whom, and when: for `races`.

        `space` is "" for what is no access of the kernel's.
        """
        if self.machine.traffic is not None and space:
            self.machine.traffic.note(space, threads, at, size)
        unit = self.machine.unit
        units = at[:, None] // unit + np.arange(max(1, size // unit))
        who = np.broadcast_to(self.who[threads][:, None], units.shape)
        return units, who, np.broadcast_to(self.moments[threads][:, None], units.shape)

    def _then(self, number: int, code: Code) -> int | np.ndarray:
        """The segment that comes after this one; an array if that depends on the thread."""
        if code.goes < 0:
            return number + 1
        if code.if_ is None:
            return code.goes
        return np.where(code.if_(self), code.goes, number + 1)

    @property
    def active(self) -> np.ndarray:
        return np.ones(self.size, bool) if self.mask is None else self.mask

    def _next(self, places: np.ndarray) -> tuple[int, np.ndarray]:
        """The first segment at which threads can go on, and which."""
        for number in np.unique(places):
            if number == self.machine.end:
                break
            there = places == number
            meeting = self.machine.code[number].meeting
            if meeting:
                there &= self._complete(there, meeting)
            if there.any():
                return int(number), there
        waiting = {
            "has returned" if n == self.machine.end
            else f"waits at {self.machine.program.segments[n].instructions[0].text}"
            for n in np.unique(places[self.alive])
        }  # fmt: skip
        raise RuntimeError(f"threads do not meet: one {', another '.join(sorted(waiting))}.")

    def _complete(self, there: np.ndarray, meeting: str) -> np.ndarray:
        """The threads all of whose partners are there."""
        size = _MEETING_SIZE.get(meeting) or self.size // self.blocks
        present = there | ~self.alive if meeting == "block" else there
        together = present.reshape(-1, size).all(axis=1)
        return np.repeat(together, size)


def _smallest_access(program: Program) -> int:
    """Bytes, 4 at most."""
    sizes = [
        np.dtype(TYPES[i.parts[-1]]).itemsize
        for segment in program.segments
        for i in segment.instructions
        if i.parts[0] in ("ld", "st") and "param" not in i.parts
    ]
    return min([4, *sizes])


def _unset(size: int, dtype: np.dtype) -> np.ndarray:
    """Registers hold anything before they are set: NaN, as floats."""
    if dtype.kind == "b":
        return np.zeros(size, bool)
    return np.full(size, 0xFF, np.uint8).repeat(dtype.itemsize).view(dtype)


@lru_cache(maxsize=256)
def machine(ptx: str) -> Machine:
    return Machine(ptx)
