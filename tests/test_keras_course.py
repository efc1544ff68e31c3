"""Whole scripts, run in Keras and here with another import line: the same numbers and words.

They are in `tests/scripts`. Each leaves what is to be compared in `results`; `side_by_side.py` has
what they need to start alike.
"""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from minitorch_ciml import keras

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.py"))
NUMBER = r"-?\d+\.\d+(e-?\d+)?"

# How far rounding may take a script's numbers apart, where that is more than RTOL: through batch
# normalization of small batches (resnet, unet), or through many steps of an optimizer. Those are
# compared to the largest number of an array: of `resnet`'s logits, float32 and float64 differ by
# 0.6e-3 in Keras, and by 0.9e-3 and 1.6e-3 here with sums in different orders.
RTOL, ATOL = 1e-3, 2e-5
COARSE = {"resnet": 3e-3, "gan": 5e-3, "vae": 1e-2, "unet": 5e-3, "diffusion": 5e-3}


def run(script: Path, ours: bool) -> tuple[dict, str]:
    source = script.read_text()
    if ours:
        source = re.sub(r"^import keras$", "from minitorch_ciml import keras", source, flags=re.M)
        source = re.sub(r"^from keras", "from minitorch_ciml.keras", source, flags=re.M)
    names: dict = {"__name__": "script"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, script.name, "exec"), names)
    return names["results"], printed.getvalue()


def flat(x, path="results"):
    """(path, value) of everything in nested dictionaries and lists."""
    if isinstance(x, dict):
        for key in x:
            yield from flat(x[key], f"{path}[{key!r}]")
    elif isinstance(x, (list, tuple)):
        for i, item in enumerate(x):
            yield from flat(item, f"{path}[{i}]")
    else:
        yield path, np.asarray(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_same_as_in_keras(script, tmp_path, monkeypatch):
    from keras_peer import keras_peer

    printed, results = [], []
    for ours in (True, False):
        folder = tmp_path / str(ours)
        folder.mkdir()
        monkeypatch.chdir(folder)
        (keras if ours else keras_peer).utils.clear_session()  # names of layers are counted anew
        found, words = run(script, ours)
        results.append(dict(flat(found)))
        printed.append(re.sub(NUMBER, "#", words))
    mine, theirs = results
    assert list(mine) == list(theirs)
    coarse = COARSE.get(script.stem, 0)
    for path, value in mine.items():
        atol = ATOL if not coarse else coarse * np.abs(theirs[path]).max(initial=0)
        np.testing.assert_allclose(value, theirs[path], rtol=RTOL, atol=atol, err_msg=path)
    assert printed[0] == printed[1]
