"""minitorch_ciml: a readable autograd engine with a Keras-like API."""
