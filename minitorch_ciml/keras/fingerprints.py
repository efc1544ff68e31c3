"""Hashes that are the same on every machine: those by which Keras puts words into bins.

`farmhash` is FarmHash's Fingerprint64 (G. Pike, 2014), `siphash` is SipHash-2-4 (J.-P. Aumasson and
D. J. Bernstein, 2012), and `crossed` joins fingerprints as TensorFlow does for crossed columns.
All are unsigned 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_MASK = (1 << 64) - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
_CROSS = 0xC6A4A7935BD1E995
_CROSS_KEY = 0xDECAFCAFFE  # what a cross begins with


def _rotated(x: int, n: int) -> int:
    """The 64-bit word turned right by n bits."""
    x &= _MASK
    return (x >> n | x << (64 - n)) & _MASK


def _folded(x: int) -> int:
    x &= _MASK
    return x ^ x >> 47


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _joined(u: int, v: int, factor: int) -> int:
    """Two words as one."""
    a = _folded((u ^ v) * factor)
    b = _folded(((v & _MASK) ^ a) * factor)
    return b * factor & _MASK


def farmhash(data: bytes) -> int:
    """FarmHash's Fingerprint64."""
    n = len(data)
    if n > 64:
        return _long(data)
    if n > 32:
        return _up_to_64(data)
    if n > 16:
        return _up_to_32(data)
    factor = _K2 + n * 2
    if n >= 8:
        a, b = _word(data, 0) + _K2, _word(data, n - 8)
        c = _rotated(b, 37) * factor + a
        d = (_rotated(a, 25) + b) * factor
        return _joined(c & _MASK, d & _MASK, factor)
    if n >= 4:
        first = int.from_bytes(data[:4], "little")
        return _joined(n + (first << 3), int.from_bytes(data[-4:], "little"), factor)
    if n:
        y = data[0] + (data[n >> 1] << 8)
        z = n + (data[-1] << 2)
        return _folded(y * _K2 ^ z * _K0) * _K2 & _MASK
    return _K2


def _up_to_32(data: bytes) -> int:
    n = len(data)
    factor = _K2 + n * 2
    a, b = _word(data, 0) * _K1, _word(data, 8)
    c, d = _word(data, n - 8) * factor, _word(data, n - 16) * _K2
    u = _rotated(a + b, 43) + _rotated(c, 30) + d
    return _joined(u & _MASK, a + _rotated(b + _K2, 18) + c & _MASK, factor)


def _up_to_64(data: bytes) -> int:
    n = len(data)
    factor = _K2 + n * 2
    a, b = _word(data, 0) * _K2, _word(data, 8)
    c, d = _word(data, n - 8) * factor, _word(data, n - 16) * _K2
    y = _rotated(a + b, 43) + _rotated(c, 30) + d
    z = _joined(y & _MASK, a + _rotated(b + _K2, 18) + c & _MASK, factor)
    e, f = _word(data, 16) * factor, _word(data, 24)
    g, h = (y + _word(data, n - 32)) * factor, (z + _word(data, n - 24)) * factor
    u = _rotated(e + f, 43) + _rotated(g, 30) + h
    return _joined(u & _MASK, e + _rotated(f + a, 18) + g & _MASK, factor)


def _pair(data: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    """Two words that stand for 32 bytes."""
    w, x, y, z = (_word(data, at + i) for i in (0, 8, 16, 24))
    a += w
    b = _rotated(b + a + z, 21)
    sum_ = a + x + y
    b += _rotated(sum_, 44)
    return sum_ + z & _MASK, b + a & _MASK


def _long(data: bytes) -> int:
    """More than 64 bytes: 64 at a time, and the last 64 again."""
    n = len(data)
    seed = 81
    x, y = seed, seed * _K1 + 113
    z = _folded(y * _K2 + 113) * _K2 & _MASK
    v, w = (0, 0), (0, 0)
    x = x * _K2 + _word(data, 0)
    blocks = (n - 1) // 64
    for at in range(0, 64 * blocks, 64):
        x = _rotated(x + y + v[0] + _word(data, at + 8), 37) * _K1
        y = _rotated(y + v[1] + _word(data, at + 48), 42) * _K1
        x = (x & _MASK) ^ w[1]
        y += v[0] + _word(data, at + 40)
        z = _rotated(z + w[0], 33) * _K1
        v = _pair(data, at, v[1] * _K1, x + w[0])
        w = _pair(data, at + 32, z + w[1], y + _word(data, at + 16))
        z, x = x, z
    factor = _K1 + ((z & 0xFF) << 1)
    at = n - 64
    w = (w[0] + (n - 1 & 63), w[1])
    v = (v[0] + w[0], v[1])
    w = (w[0] + v[0], w[1])
    x = _rotated(x + y + v[0] + _word(data, at + 8), 37) * factor
    y = _rotated(y + v[1] + _word(data, at + 48), 42) * factor
    x = (x & _MASK) ^ (w[1] * 9 & _MASK)
    y += v[0] * 9 + _word(data, at + 40)
    z = _rotated(z + w[0], 33) * factor
    v = _pair(data, at, v[1] * factor, x + w[0])
    w = _pair(data, at + 32, z + w[1], y + _word(data, at + 16))
    z, x = x, z
    first = _joined(v[0], w[0], factor) + _folded(y) * _K0 + z
    second = _joined(v[1], w[1], factor) + x
    return _joined(first & _MASK, second & _MASK, factor)


def siphash(data: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4 with a key of two 64-bit words."""
    k0, k1 = (k & _MASK for k in key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D,
         k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]  # fmt: skip
    whole = len(data) // 8 * 8
    words = [_word(data, at) for at in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        v[3] ^= word
        _sip_rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xFF
    _sip_rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _sip_rounds(v: list[int], rounds: int) -> None:
    for _ in range(rounds):
        for a, b, c, d, left, right in ((0, 1, 2, 3, 13, 16), (2, 1, 0, 3, 17, 21)):
            v[a] = v[a] + v[b] & _MASK
            v[b] = _rotated(v[b], 64 - left) ^ v[a]
            v[a] = _rotated(v[a], 32)
            v[c] = v[c] + v[d] & _MASK
            v[d] = _rotated(v[d], 64 - right) ^ v[c]


def crossed(parts: Iterable[int]) -> int:
    """One fingerprint of several, in their order."""
    result = _CROSS_KEY
    for part in parts:
        result ^= _CROSS
        result ^= _folded(part * _CROSS) * _CROSS & _MASK
        result = _folded(result * _CROSS) * _CROSS
        result = _folded(result)
    return result


def hashed(key: str, bins: int, salt: Sequence[int] | None) -> int:
    """The bin, 0 to bins - 1, of a string; with a salt, SipHash decides."""
    data = key.encode("utf-8")
    return (farmhash(data) if salt is None else siphash(data, (salt[0], salt[1]))) % bins
