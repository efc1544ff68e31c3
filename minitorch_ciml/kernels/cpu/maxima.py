"""Maxima of numbers, and with their places in vector registers, as pooling needs them."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from minitorch_ciml.kernels.cpu.jit import inlined
from minitorch_ciml.kernels.cpu.vector import (
    Vector,
    address_of,
    items_of,
    read_vector,
    splat,
    write_vector,
)


@inlined
def larger(a, b):
    """NaN counts as larger than any number."""
    return a if (not (a <= b)) & (b == b) else b


@inlined
def smaller(a, b):
    """NaN counts as smaller than any number."""
    return a if (not (a >= b)) & (b == b) else b


@intrinsic
def keep_larger(typingctx, best, new, k):
    """`best = (values, places)`: where `new`, a tile of one, is larger than values, it and k.

    NaN counts as larger than any number, and the first of equals stays, as in `np.argmax`.
    """

    def codegen(context, builder, signature, arguments):
        state, new, place = arguments
        values, places = items_of(builder, best, state)
        new = builder.extract_value(new, 0)
        place = builder.sitofp(place, values.type.element)
        larger = builder.fcmp_unordered(">", new, values)
        wins = builder.and_(larger, builder.fcmp_ordered("ord", values, values))
        chosen = [
            builder.select(wins, new, values),
            builder.select(wins, splat(builder, values.type, place), places),
        ]
        return context.make_tuple(builder, best, chosen)

    return best(best, new, types.intp), codegen


@intrinsic
def positive_or(typingctx, best, none):
    """The places of `best = (values, places)`; `none` where the value is not > 0."""

    def codegen(context, builder, signature, arguments):
        values, places = items_of(builder, best, arguments[0])
        none = splat(builder, places.type, builder.sitofp(arguments[1], places.type.element))
        positive = builder.fcmp_ordered(">", values, ir.Constant(values.type, None))
        chosen = builder.select(positive, places, none)
        return context.make_tuple(builder, signature.return_type, [chosen])

    return types.UniTuple(best.dtype, 1)(best, types.intp), codegen


@intrinsic
def store_integers(typingctx, y, i, vector):
    """Writes a vector of whole numbers from `y[i]` on, as the integers of y."""

    def codegen(context, builder, signature, arguments):
        array, start, value = arguments
        target = Vector(signature.args[0].dtype, vector.dtype.lanes)
        value = builder.extract_value(value, 0)
        value = builder.fptoui(value, context.get_value_type(target))
        write_vector(context, builder, target, value, address_of(context, builder, y, array, start))
        return context.get_dummy_value()

    return types.void(y, types.intp, vector), codegen


@intrinsic
def add_where(typingctx, acc, g, places, i, k):
    """`acc + g[i : i + lanes]` where `places[i : ...] == k`."""

    def codegen(context, builder, signature, arguments):
        total, array, integers, start, place = arguments
        total = builder.extract_value(total, 0)
        kind = Vector(signature.args[2].dtype, acc.dtype.lanes)
        at = address_of(context, builder, places, integers, start)
        here = read_vector(context, builder, kind, at)
        place = builder.trunc(place, here.type.element) if here.type.element.width < 64 else place
        at = address_of(context, builder, g, array, start)
        share = read_vector(context, builder, acc.dtype, at)
        met = builder.icmp_unsigned("==", here, splat(builder, here.type, place))
        share = builder.select(met, share, ir.Constant(share.type, None))
        return context.make_tuple(builder, acc, [builder.fadd(total, share)])

    return acc(acc, g, places, types.intp, types.intp), codegen
