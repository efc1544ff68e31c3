"""Every differentiable function, with the names and meanings of NumPy and `keras.ops`."""
