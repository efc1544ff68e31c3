"""Kernels for the CPU: numba, with vectors held in registers. Each module imports numba; this one
does not.
"""
