"""A machine for tests that runs, on the CPU, the PTX that numba makes of a kernel.

The simulator in the package runs a kernel's *Python*: each intrinsic is replaced by a function that
says what its author thinks the instruction does. This machine runs the *compiled* code by the rules
of NVIDIA's "PTX ISA" (version 9.0), and knows nothing of the simulator's functions: where the two
or NumPy differ, one of them has misunderstood an instruction, or the code was generated wrongly.

    program.py      PTX text: registers, variables, and basic blocks of instructions
    machine.py      threads: who runs next, barriers, divergence; blocks, a few at the same time
    operands.py     what an instruction reads and writes
    memory.py       global, shared and local memory; every access is checked
    races.py        accesses that nothing puts into an order
    arithmetic.py   instructions on numbers
    transfer.py     loads, stores, atomic operations, asynchronous copies
    warps.py        what lanes do together: shuffles, votes, ldmatrix, mma
    warpgroups.py   Hopper's wgmma
    launches.py     kernels of the package, run by the machine instead of by the simulator
    driver.py       NVIDIA's driver, so that the package finds a GPU, which is this machine
    variants.py     a kernel's other types, beside the simulator
    traffic.py      bank conflicts and sectors
    executed.py     which kernels have never run

It is as unkind as the manual allows. Memory starts as NaN. A copy arrives when it is waited for,
and its target is NaN until then; so are the sums of an asynchronous product. Accesses outside of
the launch's arrays, or not aligned to their size, are errors; so are barriers that not all threads
reach, memory that threads use without a barrier between them, and factors of a `wgmma`
that change under way or that no fence has made visible to it.

What it cannot tell: whether ptxas turns the PTX into right machine code, what two blocks do to each
other in global memory, and time.
"""
