"""A parallel loop on numba's threads, without `parallel=True`.

    @task
    def scale_part(i, x, factor): ...

    @entry
    def scale(x, factor):
        scale_part(PARTS, ALL, (x, factor))        # scale_part(0, x, factor), scale_part(1, ...

`parallel=True` finds and rewrites loops, and compiles their body a second time: measured, that
made the compilation of the convolution twice as long. Our loops are known, so a task hands its
function itself to the same threading layer (OpenMP, TBB or numba's own), through the entry point
that `prange` uses.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

# An idle OpenMP thread spins, by default for milliseconds, on a core that others may want. If it
# sleeps at once, waking it takes longer than many kernels do: on a virtual machine a training step
# of the course's network took 4.8 ms (batch 32), and 3.1 ms where threads spin for 10,000 turns,
# some 0.15 ms and longer than Python needs between two kernels. Read when a library is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # GNU's OpenMP
os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM's and Intel's OpenMP, in ms

from llvmlite import ir
from numba import get_num_threads, set_num_threads
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.ufunc import parallel as threading_layer

from minitorch_ciml.kernels import host, openblas
from minitorch_ciml.kernels.cpu.jit import entry, kernel, named

openblas.let_idle_threads_sleep()

# Loads the threading layer and tells LLVM where `numba_parallel_for` is, also for kernels that come
# from the cache.
threading_layer._launch_threads()
if "NUMBA_NUM_THREADS" not in os.environ:
    set_num_threads(min(host.default_threads(), get_num_threads()))

# As many threads as `numba.set_num_threads` allows.
ALL = 1 << 30

# Waking the threads takes up to 40 us, in which one thread does some million multiplications; where
# they have gone to sleep, as between single images, it may take a millisecond.
WORTH_THREADS = 1 << 21


def threads_for(operations: int) -> int:
    """How many threads so many multiplications, or as costly operations, are worth: one or all."""
    return 1 if operations < WORTH_THREADS else ALL


PIECE = 1 << 15  # elements of an array that a thread takes at a time


@kernel
def piece(x, i):
    """The elements of the i-th piece. A loop that starts at 0 of an array is vectorised."""
    return x[i * PIECE : min((i + 1) * PIECE, x.size)]


_BYTES = ir.IntType(8).as_pointer()
_INT = ir.IntType(64)

# The counters of two threads must not share a cache line.
_APART = 8
MOST_THREADS = 256
_TAKEN = ir.ArrayType(_INT, MOST_THREADS * _APART)


def _body(context: Any, module: ir.Module, target: Any, data_type: ir.Type) -> ir.Function:
    """`void body(char **args, size_t *dims, size_t *steps, void *data)`: what a thread does.

    This is the form in which the threading layer wants its work: `dims[0]` calls, the first with
    the index that `args[0]`, a "pointer" with step 1, has reached. Each stands for a thread.
    `data` holds the task's arguments, a count of failures, how many calls of the task there are
    and for how many threads, and up to where each thread's share is taken.
    """
    signature = ir.FunctionType(
        ir.VoidType(), [_BYTES.as_pointer(), _INT.as_pointer(), _INT.as_pointer(), _BYTES]
    )
    body = ir.Function(module, signature, module.get_unique_name("parallel_for_body"))
    body.linkage = "internal"
    builder = ir.IRBuilder(body.append_basic_block())
    first = builder.ptrtoint(builder.load(body.args[0]), _INT)
    data = builder.bitcast(body.args[3], data_type.as_pointer())
    arguments, failures, count, threads, taken = (
        cgutils.gep_inbounds(builder, data, 0, i) for i in range(len(data_type.elements))
    )
    count, threads = builder.load(count), builder.load(threads)
    arguments = builder.load(arguments)
    arguments = [builder.extract_value(arguments, i) for i in range(len(data_type.elements[0]))]
    function = context.declare_function(module, target.fndesc)

    def take_all(share: Any) -> None:
        """Calls the task for what nobody has taken yet of a thread's share."""
        last = _start_of_share(builder, builder.add(share, _INT(1)), count, threads)
        counter = cgutils.gep_inbounds(builder, taken, 0, builder.mul(share, _INT(_APART)))
        again, call, done = (body.append_basic_block() for _ in range(3))
        builder.branch(again)
        builder.position_at_end(again)
        i = builder.atomic_rmw("add", counter, _INT(1), "monotonic")
        builder.cbranch(builder.icmp_signed("<", i, last), call, done)
        builder.position_at_end(call)
        status, _ = context.call_conv.call_function(
            builder, function, target.fndesc.restype, target.fndesc.argtypes, [i, *arguments]
        )
        with cgutils.if_unlikely(builder, status.is_error):
            builder.store(_INT(1), failures)
        builder.branch(again)
        builder.position_at_end(done)

    with cgutils.for_range(builder, builder.load(body.args[1]), intp=_INT) as me:
        with cgutils.for_range(builder, threads, intp=_INT) as other:
            share = builder.add(builder.add(first, me.index), other.index)
            take_all(builder.urem(share, threads))
    builder.ret_void()
    return body


def _start_of_share(builder: ir.IRBuilder, thread: Any, count: Any, threads: Any) -> Any:
    return builder.sdiv(builder.mul(thread, count), threads)


def task(function: Callable) -> Any:
    """Compiles `function(i, *arguments)` as a parallel loop, `name(count, most, arguments)`.

    The loop calls the function for `0 <= i < count` on at most `most` threads; the calls must
    not depend on each other. Each thread begins with a share of its own, of neighbours; one that
    has finished takes what is left of the others' shares: they may have had harder parts, been
    woken late, or share their core with another program. One call, or one thread, runs in place,
    without any launch.
    """
    compiled = kernel(function)

    @intrinsic
    def loop(typingctx, count, most, arguments):
        parameters = (types.intp, *map(types.unliteral, arguments.types))
        compiled.get_call_template(parameters, {})  # compiles it for these types
        target = compiled.overloads[parameters]
        signature = types.void(types.intp, types.intp, arguments)

        def codegen(context, builder, signature, values):
            count, most, given = values
            given = _borrowed(context, builder, signature.args[2], given)
            _lower_loop(context, builder, target, count, most, given)
            return context.get_dummy_value()

        return signature, codegen

    return loop


def parallel(function: Callable, name: str = "", *made_of: Callable) -> Any:
    """Compiles `function(i, *arguments)` as a loop on all threads that Python calls.

    It is called as `name(tasks, *arguments)` and calls the function for 0 <= i < tasks. Where that
    has to know of how many it is one, it says so: `function(i, tasks, *arguments)`.

    Args:
        name: unique in the package, for what a factory makes; the function's own if left out.
        made_of: functions that it calls and that are written in other files.
    """
    counted = list(inspect.signature(function).parameters)[1] == "tasks"
    launch = _launch_counted if counted else _launch
    return entry(named(launch, name or name_of(function), loop=task(function)), function, *made_of)


def _launch(tasks, *arguments):
    loop(tasks, ALL, arguments)  # noqa: F821 (each copy has its own)


def _launch_counted(tasks, *arguments):
    loop(tasks, ALL, (tasks, *arguments))  # noqa: F821


def name_of(function: Callable) -> str:
    """What the cache calls a kernel: its module's name and its own."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"


def _borrowed(context: Any, builder: ir.IRBuilder, kind: Any, value: Any) -> Any:
    """The same value, whose arrays do not count who holds them: who launches the task does.

    Each call of a kernel counts its arrays in and out. Threads that share an array would wait for
    each other at that count: measured, copying rows of 600 bytes took ten times as long.
    """
    if isinstance(kind, types.BaseTuple):
        items = [
            _borrowed(context, builder, item, builder.extract_value(value, i))
            for i, item in enumerate(kind.types)  # type: ignore[attr-defined]
        ]
        return context.make_tuple(builder, kind, items)
    if not isinstance(kind, types.Array):
        return value
    array = cgutils.create_struct_proxy(kind)(context, builder, value=value)
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    array.parent = cgutils.get_null_value(array.parent.type)
    return array._getvalue()


def _lower_loop(
    context: Any, builder: ir.IRBuilder, target: Any, count: Any, most: Any, arguments: Any
) -> None:
    context.active_code_library.add_linking_library(target.library)
    data_type = ir.LiteralStructType([arguments.type, _INT, _INT, _INT, _TAKEN])
    body = _body(context, builder.module, target, data_type)

    get_threads = ir.FunctionType(_INT, [])
    threads = builder.call(
        cgutils.get_or_insert_function(builder.module, get_threads, "get_num_threads"), []
    )
    for limit in (most, count, _INT(MOST_THREADS)):
        threads = builder.select(builder.icmp_signed("<", limit, threads), limit, threads)
    threads = builder.select(builder.icmp_signed("<", threads, _INT(1)), _INT(1), threads)

    # `cgutils.alloca_once` would fill the counters of all threads with zeros: 16 KB at each launch,
    # which LLVM also takes long to compile.
    with builder.goto_entry_block():
        data = builder.alloca(data_type)
    parts = [cgutils.gep_inbounds(builder, data, 0, i) for i in range(len(data_type.elements))]
    for value, place in zip((arguments, _INT(0), count, threads), parts):
        builder.store(value, place)
    failures, taken = parts[1], parts[-1]
    with cgutils.for_range(builder, threads, intp=_INT) as thread:
        counter = cgutils.gep_inbounds(builder, taken, 0, builder.mul(thread.index, _INT(_APART)))
        builder.store(_start_of_share(builder, thread.index, count, threads), counter)

    start = cgutils.alloca_once_value(builder, ir.Constant(_BYTES, None))
    counts, steps = (cgutils.alloca_once_value(builder, value) for value in (threads, _INT(1)))
    call = [start, counts, steps, builder.bitcast(data, _BYTES)]
    with builder.if_else(builder.icmp_signed("==", threads, _INT(1))) as (in_place, launched):
        with in_place:
            builder.call(body, call)
        with launched:
            entry_point = ir.FunctionType(ir.VoidType(), [_BYTES] * 5 + [_INT] * 3)
            launch = cgutils.get_or_insert_function(
                builder.module, entry_point, "numba_parallel_for"
            )
            work = [builder.bitcast(value, _BYTES) for value in (body, *call)]
            builder.call(launch, [*work, _INT(0), _INT(1), threads])
    failed = builder.icmp_signed("!=", builder.load(failures), _INT(0))
    with cgutils.if_unlikely(builder, failed):
        message = "a kernel found no memory for its working space"
        context.call_conv.return_user_exc(builder, MemoryError, (message,))
