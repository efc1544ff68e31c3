"""Pictures of data, models and trainings; each function returns a `matplotlib.figure.Figure`.

matplotlib is imported when the first picture is drawn, not with this package. A recorded graph
draws itself (`Graph.draw`, in graph.py).
"""

from minitorch_ciml.viz.confusion import confusion_counts, confusion_matrix
from minitorch_ciml.viz.curves import compare, gradient_flow, history
from minitorch_ciml.viz.pictures import feature_maps, filters, images, mistakes

__all__ = [
    "compare",
    "confusion_counts",
    "confusion_matrix",
    "feature_maps",
    "filters",
    "gradient_flow",
    "history",
    "images",
    "mistakes",
]


def __dir__() -> list[str]:
    return __all__
