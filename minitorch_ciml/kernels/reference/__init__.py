"""What every kernel means, in NumPy: slow and obvious.

Where NumPy itself is the fastest thing on a CPU, the reference is also the kernel that runs.
"""
