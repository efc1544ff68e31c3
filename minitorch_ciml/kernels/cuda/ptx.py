"""How an instruction of the GPU that numba does not offer becomes a function for kernels.

An *intrinsic* is a Python function that tells, exactly, what an instruction does. The simulator
runs it as it stands; a GPU gets the PTX (the GPU's assembly language) that is written above it, or
LLVM's instructions. The intrinsics themselves are in `intrinsics.py` (numbers, and vectors of
them), `shared_memory.py`, `mma.py` (tensor cores), and `warpgroup.py` (Hopper's).
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic

from minitorch_ciml.kernels.cuda import SIMULATED

if SIMULATED:
    from minitorch_ciml.kernels.cuda.simulator import twin

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
GLOBAL = 1  # LLVM's address space

# What each letter stands for in `ptx`: the type for numba, and for LLVM.
_NUMBA = {"f": types.float32, "b": types.float32, "r": types.int32, "l": types.int64}
_LLVM = {"f": F32, "b": I32, "r": I32, "l": I64}


def twinned(typing: Callable, function: Callable) -> Any:
    """The intrinsic that `typing` makes, which the simulator replaces by `function`."""
    typing.__name__ = typing.__qualname__ = function.__name__
    context = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD)
    typing.__signature__ = Signature([context, *signature(function).parameters.values()])
    made = intrinsic(typing)
    if SIMULATED:
        twin(made)(function)
    return made


def ptx(
    text: str, result: str, arguments: str, *, pure: bool = False, memory: bool = True
) -> Callable[[Callable], Any]:
    """Makes a function that tells what a PTX instruction does an intrinsic of it.

    Args:
        text: PTX, with $0, $1, ... for the results and then the arguments.
        result: one letter for each 32-bit register of the result: f float, r integer, b float
            where the instruction wants its bare bits.
        arguments: one letter for each: f, b float; r, l integers, of 32 and 64 bits; g an element
            of global memory, for which the intrinsic has two arguments, a pointer and an index; n16
            and the like 16 or 0 bytes, as a condition says.
        pure: the compiler may move it or leave it out; not so where lanes work together.
        memory: it reads or writes memory.
    """
    letters = arguments.split() if " " in arguments else list(arguments)

    def decorate(function: Callable) -> Any:
        def typing(context: Any, *given: Any) -> Any:
            taken = iter(given)
            accepted: list[Any] = []
            for letter in letters:
                if letter == "g":
                    accepted += [next(taken), next(taken)]
                elif letter in "fb":
                    next(taken)
                    accepted.append(types.float32)
                else:
                    accepted.append(next(taken))
            return _result_type(result)(*accepted), generate

        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            operands = _operands(builder, letters, zip(values, sig.args))
            constraints = [f"={_constraint(letter)}" for letter in result]
            constraints += [_constraint(letter) for letter in letters]
            if memory and not pure:
                constraints.append("~{memory}")
            made = [_LLVM[letter] for letter in result]
            returned = made[0] if len(made) == 1 else ir.LiteralStructType(made)
            if not made:
                returned = ir.VoidType()
            shape = ir.FunctionType(returned, [operand.type for operand in operands])
            assembly = ir.InlineAsm(shape, text, ",".join(constraints), side_effect=not pure)
            called = builder.call(assembly, operands)
            if not made:
                return context.get_dummy_value()
            parts = [called]
            if len(made) > 1:
                parts = [builder.extract_value(called, i) for i in range(len(made))]
            parts = [builder.bitcast(p, F32) if r == "b" else p for p, r in zip(parts, result)]
            if len(made) == 1:
                return parts[0]
            return context.make_tuple(builder, sig.return_type, parts)

        return twinned(typing, function)

    return decorate


def _result_type(result: str) -> Any:
    if not result:
        return types.void
    if len(result) == 1:
        return _NUMBA[result]
    return types.UniTuple(_NUMBA[result[0]], len(result))


def _constraint(letter: str) -> str:
    return {"g": "l", "n": "r", "b": "r"}.get(letter[0], letter)


def _operands(builder: Any, letters: list[str], given: Any) -> list[Any]:
    operands = []
    for letter in letters:
        value, kind = next(given)
        if letter == "g":
            index, index_kind = next(given)
            element = builder.gep(value, [resized(builder, index, index_kind, 64)])
            pointee = element.type.pointee
            element = builder.addrspacecast(element, pointee.as_pointer(GLOBAL))
            operands.append(builder.ptrtoint(element, I64))
        elif letter[0] == "n":
            wanted = builder.icmp_unsigned("!=", value, value.type(0))
            operands.append(builder.select(wanted, I32(int(letter[1:])), I32(0)))
        elif letter == "f":
            operands.append(value)
        elif letter == "b":
            operands.append(builder.bitcast(value, I32))
        else:
            operands.append(resized(builder, value, kind, 32 if letter == "r" else 64))
    return operands


def resized(builder: Any, value: Any, kind: Any, bits: int) -> Any:
    """An integer with that many bits."""
    if value.type.width > bits:
        return builder.trunc(value, ir.IntType(bits))
    if value.type.width < bits:
        extend = builder.sext if getattr(kind, "signed", False) else builder.zext
        return extend(value, ir.IntType(bits))
    return value
