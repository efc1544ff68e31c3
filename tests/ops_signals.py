"""Rows for `ops/fourier.py`, `ops/ctc.py` and `ops/rearrangement.py`."""

import numpy as np
from op_table import REAL, Row, fixed, shaped, torch

from minitorch_ciml import ops

ROWS: list[Row] = []
EXCEPTIONS = {
    "ctc_decode": "is computed on the host: test_signals.py",
}

# --- Fourier transforms -------------------------------------------------------------------------


def pairs(op, peer, *shapes, **params):
    """A row for a function of real and imaginary parts; the peer takes complex numbers."""
    for shape in shapes:
        ROWS.append(
            Row(
                op,
                shaped(REAL, shape, shape),
                params,
                call=lambda a, b, **params: op((a, b), **params),
                torch=lambda a, b, **params: _parts(peer(torch.complex(a, b), **params)),
            )
        )


def _parts(z):
    return (z.real, z.imag) if z.is_complex() else z


pairs(ops.fft, lambda z: torch.fft.fft(z), (8,), (2, 5), (1,))
pairs(ops.fft2, lambda z: torch.fft.fft2(z), (3, 4), (2, 2, 5))
pairs(ops.ifft2, lambda z: torch.fft.ifft2(z), (3, 4))
for _n in (None, 5, 8):
    ROWS.append(
        Row(
            ops.rfft,
            shaped(REAL, (2, 7)),
            {"fft_length": _n},
            torch=lambda x, fft_length: _parts(torch.fft.rfft(x, fft_length)),
        )
    )
    pairs(ops.irfft, lambda z, fft_length: torch.fft.irfft(z, fft_length), (2, 5), fft_length=_n)
ROWS += [
    Row(ops.extract_sequences, shaped(REAL, (2, 9)), {"sequence_length": 4, "sequence_stride": 2},
        torch=lambda x, sequence_length, sequence_stride: x.unfold(
            -1, sequence_length, sequence_stride)),
    Row(ops.i0, shaped(REAL, (3, 4)), torch="special.i0"),
    Row(ops.i0, fixed(np.array([0.0, 30.0, -80.0])), torch="special.i0", order=0),
]  # fmt: skip


def _torch_stft(x, center, window):
    w = getattr(torch, f"{window}_window")(6, dtype=x.dtype)
    z = torch.stft(x, 8, 3, 6, w, center, return_complex=True).swapaxes(-1, -2)
    return z.real, z.imag


def _torch_istft(a, b):
    z = torch.complex(a, b).swapaxes(-1, -2)
    return torch.istft(z, 8, 3, 6, torch.hann_window(6, dtype=a.dtype))


for _center in (True, False):
    for _window in ("hann", "hamming"):
        ROWS.append(
            Row(
                ops.stft,
                shaped(REAL, (2, 20)),
                {"center": _center, "window": _window},
                call=lambda x, **how: ops.stft(x, 6, 3, 8, **how),
                torch=_torch_stft,
            )
        )
ROWS.append(
    Row(
        ops.istft,
        shaped(REAL, (2, 7, 5), (2, 7, 5)),
        call=lambda a, b: ops.istft((a, b), 6, 3, 8),
        torch=_torch_istft,
    )
)

# --- labels -------------------------------------------------------------------------------------

LABELS = np.array([[1, 2, 2], [3, 0, 0], [4, 1, 2], [1, 1, 1]])
LENGTHS, STEPS = np.array([3, 1, 2, 0]), np.array([7, 6, 4, 5])


def _torch_ctc(scores, mask_index=0):
    return torch.nn.functional.ctc_loss(
        scores.log_softmax(-1).swapaxes(0, 1), torch.tensor(LABELS), torch.tensor(STEPS),
        torch.tensor(LENGTHS), mask_index, reduction="none",
    )  # fmt: skip


for _params in ({}, {"mask_index": 5}):
    ROWS.append(
        Row(
            ops.ctc_loss,
            shaped(REAL, (4, 7, 6)),
            _params,
            call=lambda x, **how: ops.ctc_loss(LABELS, x, LENGTHS, STEPS, **how),
            torch=_torch_ctc,
            rtol32=1e-4,
        )
    )
ROWS.append(
    Row(ops.psnr, shaped(REAL, (2, 3), (2, 3)), {"max_val": 2.0},
        torch=lambda a, b, max_val: 10 * torch.log10(max_val**2 / ((a - b) ** 2).mean()))
)  # fmt: skip

# --- axes in words ------------------------------------------------------------------------------

for _pattern, _params, _expected in (
    ("b h w c -> b (h w) c", {}, lambda x: x.reshape(2, 12, 4)),
    ("b (h p) w c -> b h w (p c)", {"p": 3}, lambda x: x.reshape(2, 1, 3, 4, 4).transpose(
        (0, 1, 3, 2, 4)).reshape(2, 1, 4, 12)),
    ("b ... c -> c (...) b 1", {}, lambda x: x.transpose((3, 1, 2, 0)).reshape(4, 12, 2, 1)),
    ("... -> (...)", {}, lambda x: x.reshape(-1)),
):  # fmt: skip
    ROWS.append(
        Row(
            ops.rearrange,
            shaped(REAL, (2, 3, 4, 4)),
            {"pattern": _pattern, **_params},
            numpy=lambda x, pattern, _expected=_expected, **sizes: _expected(x),
        )
    )
