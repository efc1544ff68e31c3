"""Convolution on the CPU.  For now the NumPy reference under its final names."""

from minitorch_ciml.kernels.reference_conv import (
    conv,
    conv_bias_act,
    conv_bias_act_grad,
    conv_input_grad,
    conv_kernel_grad,
)

__all__ = ["conv", "conv_bias_act", "conv_bias_act_grad", "conv_input_grad", "conv_kernel_grad"]
