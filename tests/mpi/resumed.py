"""A training that may be killed at any time and started again, on any number of ranks.

mpirun -n N python resumed.py FOLDER: writes FOLDER/pid.RANK at the start and FOLDER/weights.npz at
the end. Without FOLDER/backup it starts from the beginning.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from minitorch_ciml import distributed, keras

EPOCHS, PAUSE = 10, 0.02

folder = Path(sys.argv[1])
rank = distributed.promised_rank()
(folder / f"pid.{rank}").write_text(str(os.getpid()))
keras.config.set_floatx("float64")
# Another seed in every life that goes on: what matters is in the backup.
goes_on = (folder / "backup" / "training_metadata.json").exists()
keras.utils.set_random_seed(time.time_ns() % 1000 if goes_on else 1)
keras.distribution.set_distribution(keras.distribution.DataParallel())
rng = np.random.default_rng(0)
x = rng.normal(size=(203, 6))
y = (x.sum(1) > 0).astype("int64")
model = keras.Sequential(
    [keras.Input((6,)), keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.2),
     keras.layers.Dense(2, "softmax")]
)  # fmt: skip
model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
callbacks = [
    keras.callbacks.BackupAndRestore(folder / "backup", save_freq=3, delete_checkpoint=False),
    keras.callbacks.ReduceLROnPlateau(patience=1, min_delta=0.05),
    keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: time.sleep(PAUSE)),
]
model.fit(
    x, y, batch_size=20, epochs=EPOCHS, verbose=0, validation_split=0.2, callbacks=callbacks
)  # fmt: skip
if rank == 0:
    np.savez(folder / "draft.npz", *model.get_weights())
    os.replace(folder / "draft.npz", folder / "weights.npz")
