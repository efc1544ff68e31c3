"""`keras.ops`: the functions of `minitorch_ciml.ops`, which also build models.

Called on a model's symbolic tensors (`keras.Input`), a function becomes a layer; on anything else
it is the same function as in `minitorch_ciml.ops`. Control flow (`scan`, `cond`, ...) is here only.
"""

from minitorch_ciml.keras.ops import image, linalg, nn, numpy, table
from minitorch_ciml.keras.ops.calling import KNOWN, all_as_keras, as_known

__all__ = [name for name in table.FUNCTIONS if name not in table.IMAGE]

globals().update(all_as_keras(__all__))
globals().update({name: as_known(name, table.FUNCTIONS[name]) for name in KNOWN})
