"""Folders of images, texts and sounds as data sets: `image_dataset_from_directory` and so on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minitorch_ciml import config, distributed
from minitorch_ciml.keras.data.dataset import Dataset, Texts
from minitorch_ciml.keras.images import load_img
from minitorch_ciml.keras.layers.images import one_of
from minitorch_ciml.keras.layers.resampling import resize_in_proportion
from minitorch_ciml.ops.resampling import INTERPOLATIONS

if TYPE_CHECKING:
    from concurrent.futures import Executor

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_LABEL_MODES = ("int", "categorical", "binary", None)
_CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}


class Files(NamedTuple):
    """Files and what they show."""

    paths: list[str]
    labels: np.ndarray | None  # int32 (N,)
    class_names: list[str] | None

    def rows(self, numbers: Any) -> Files:
        labels = None if self.labels is None else self.labels[numbers]
        return Files(np.array(self.paths, dtype=object)[numbers].tolist(), labels, self.class_names)


def image_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: list[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size: Any = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """The images in a folder (.bmp, .gif, .jpeg, .jpg, .png), read batch by batch.

    Args:
        directory: with "inferred" labels, a folder that has one folder for each class.
        labels: "inferred" from the folders' names; None for none; or a list of integers, one for
            each file in the order of the sorted paths.
        label_mode: "int": int32 (N,); "binary": 0 and 1 as floats (N, 1); "categorical": one-hot
            (N, classes); None: no labels.
        class_names: the folders to take, in the order of their labels; all in alphabetical order
            if left out.
        color_mode: "grayscale" (1 channel), "rgb" (3) or "rgba" (4).
        batch_size: of the batches; None for single images.
        image_size: (height, width) that every image is brought to.
        shuffle: a new order in every epoch; otherwise they come in the order of the paths.
        seed: fixes the order; `validation_split` with `shuffle` needs one.
        validation_split: the share of the files that is kept for validation.
        subset: "training", "validation", or "both" for two data sets.
        interpolation: "bilinear", "nearest", "bicubic", "lanczos3" or "lanczos5".
        follow_links: whether to look into folders that are links.
        crop_to_aspect_ratio: cut borders off first, so that nothing is stretched.
        pad_to_aspect_ratio: add black borders first, so that nothing is stretched.
        data_format: "channels_last" (N, H, W, C), or "channels_first".
        format: accepted as in Keras, without effect.
        verbose: whether to print how many files there are.

    Returns:
        A `Dataset` of float32 images, 0 to 255, and labels; two for subset="both".

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no images, or an argument is wrong.
    """
    maker = "image_dataset_from_directory"
    one_of(maker, "color_mode", color_mode, tuple(_CHANNELS))
    one_of(maker, "interpolation", interpolation, INTERPOLATIONS)
    one_of(maker, "data_format", data_format, ("channels_last", "channels_first", None))
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2:
        raise ValueError(f"image_size must be (height, width), got {image_size!r}.")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError("give crop_to_aspect_ratio or pad_to_aspect_ratio, not both.")
    first = data_format == "channels_first"

    def load(path: str) -> np.ndarray:
        image = np.asarray(load_img(path, color_mode), dtype="float32")
        image = image.reshape(*image.shape[:2], _CHANNELS[color_mode])
        image = resize_in_proportion(
            image, size, interpolation, crop_to_aspect_ratio, pad_to_aspect_ratio
        )
        return np.moveaxis(image, -1, 0) if first else image

    channels = _CHANNELS[color_mode]
    shape = (channels, *size) if first else (*size, channels)
    none = np.empty((0, *shape), "float32")
    return _datasets(
        directory, labels, label_mode, class_names, IMAGES, load,
        lambda images: np.stack(images) if images else none, batch_size, shuffle, seed,
        validation_split, subset, follow_links, verbose,
    )  # fmt: skip


def text_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: list[str] | None = None,
    batch_size: int | None = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """The texts in a folder (.txt, UTF-8), read batch by batch.

    Args:
        max_length: texts are cut after so many characters.
        others: see `image_dataset_from_directory`.

    Returns:
        A `Dataset` of arrays of strings (N,), and labels; two for subset="both". Bytes that are no
        UTF-8 become the replacement character.

    Raises:
        FileNotFoundError, ValueError: as `image_dataset_from_directory`.
    """

    def load(path: str) -> str:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            return file.read() if max_length is None else file.read(max_length)

    def together(texts: list[str]) -> np.ndarray:
        array = np.empty(len(texts), object).view(Texts)
        array[:] = texts
        return array

    return _datasets(
        directory, labels, label_mode, class_names, (".txt",), load, together, batch_size,
        shuffle, seed, validation_split, subset, follow_links, verbose,
    )  # fmt: skip


def audio_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: list[str] | None = None,
    batch_size: int | None = 32,
    sampling_rate: int | None = None,
    output_sequence_length: int | None = None,
    ragged: bool = False,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    verbose: bool = True,
) -> Any:
    """The sounds in a folder (.wav with 16 bits), read batch by batch.

    Args:
        sampling_rate: samples per second that all files must have; nothing is resampled.
        output_sequence_length: L: sounds are cut, or filled up with zeros, to so many samples. If
            left out, those of a batch (where ranks share it, of their part) are filled up to the
            longest.
        ragged: not available.
        others: see `image_dataset_from_directory`.

    Returns:
        A `Dataset` of float32 sounds (N, L, channels), -1 to 1, and labels; two for subset="both".

    Raises:
        FileNotFoundError, ValueError: as `image_dataset_from_directory`; or a file is none such.
    """
    one_of("audio_dataset_from_directory", "ragged", ragged, (False,))

    def load(path: str) -> np.ndarray:
        return read_wav(path, sampling_rate)[:output_sequence_length]

    def together(sounds: list[np.ndarray]) -> np.ndarray:
        channels = {sound.shape[1] for sound in sounds} or {1}
        if len(channels) > 1:
            raise ValueError(
                f"the sounds of a batch have {sorted(channels)} channels, not one number."
            )
        length = output_sequence_length or max(map(len, sounds), default=0)
        batch = np.zeros((len(sounds), length, channels.pop()), "float32")
        for target, sound in zip(batch, sounds):
            target[: len(sound)] = sound
        return batch

    return _datasets(
        directory, labels, label_mode, class_names, (".wav",), load, together, batch_size,
        shuffle, seed, validation_split, subset, follow_links, verbose,
    )  # fmt: skip


def read_wav(path: str, sampling_rate: int | None) -> np.ndarray:
    """A sound as floats (samples, channels), -1 to 1."""
    import wave  # on request only

    try:
        with wave.open(path, "rb") as file:
            width, rate, channels = file.getsampwidth(), file.getframerate(), file.getnchannels()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path!r} is no .wav file that can be read ({error}).") from None
    if width != 2 or sampling_rate not in (None, rate):
        wanted = "" if sampling_rate is None else f" and {sampling_rate} samples per second"
        raise ValueError(
            f"{path!r} has {8 * width} bits and {rate} samples per second; expected 16 "
            f"bits{wanted}: convert it first."
        )
    return (np.frombuffer(data, "<i2").reshape(-1, channels) / 32768).astype("float32")


# --- from files to data sets ----------------------------------------------------------------------


def _datasets(
    directory: Any, labels: Any, label_mode: str | None, class_names: list[str] | None,
    endings: tuple[str, ...], load: Callable, together: Callable, batch_size: int | None,
    shuffle: bool, seed: int | None, validation_split: float | None, subset: str | None,
    follow_links: bool, verbose: bool,
) -> Any:  # fmt: skip
    """One data set, or two; `load` reads a file, `together` makes a batch of what it gives."""
    one_of("dataset_from_directory", "label_mode", label_mode, _LABEL_MODES)
    _check_split(validation_split, subset, shuffle, seed)
    labels = None if label_mode is None else labels
    files = find_files(directory, labels, endings, class_names, follow_links)
    if label_mode == "binary" and files.class_names and len(files.class_names) != 2:
        raise ValueError(f"label_mode='binary' needs two classes, got {files.class_names}.")
    if verbose:
        classes = "" if labels is None else f" belonging to {len(files.class_names or ())} classes"
        _say(f"Found {len(files.paths)} files{classes}.")
    if shuffle and seed is not None:  # the order of Keras
        order = np.arange(len(files.paths))
        np.random.RandomState(seed).shuffle(order)
        files = files.rows(order)

    def dataset(part: Files, shuffled: bool) -> Dataset:
        reader = _reader(part, label_mode, load, together)
        made = Dataset(reader, len(part.paths), batch_size, shuffled, seed)
        made.class_names, made.file_paths = part.class_names, part.paths
        return made

    if subset is None:
        return dataset(files, shuffle)
    held_out = int((validation_split or 0) * len(files.paths))
    at = len(files.paths) - held_out
    if not held_out or not at:
        raise ValueError(
            f"validation_split={validation_split} leaves {at} of {len(files.paths)} files to train "
            f"on and {held_out} to validate."
        )
    if verbose and subset in ("training", "both"):
        _say(f"Using {at} files for training.")
    if verbose and subset in ("validation", "both"):
        _say(f"Using {held_out} files for validation.")
    training = dataset(files.rows(slice(0, at)), shuffle)
    validation = dataset(files.rows(slice(at, None)), False)
    if subset == "both":
        return [training, validation]
    return training if subset == "training" else validation


def find_files(
    directory: Any,
    labels: Any,
    endings: tuple[str, ...],
    class_names: list[str] | None,
    follow_links: bool,
) -> Files:
    """The files below a folder, sorted, with the classes that their folders stand for."""
    folder = Path(directory)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(directory)!r}.")
    if labels == "inferred":
        found = sorted(f.name for f in folder.iterdir() if f.is_dir() and f.name[0] != ".")
        names = found if class_names is None else list(class_names)
        if not names or not set(names) <= set(found):
            raise ValueError(
                f"{os.fspath(directory)!r} has the folders {found}, expected one for each class"
                f"{'' if class_names is None else f' of {names}'}; pass labels=None for files "
                "without classes."
            )
        groups = [_below(folder / name, endings, follow_links) for name in names]
        paths = [path for group in groups for path in group]
        numbers = np.repeat(np.arange(len(names), dtype="int32"), list(map(len, groups)))
    else:
        if class_names is not None:
            raise ValueError("class_names are for labels='inferred' only.")
        paths = _below(folder, endings, follow_links)
        numbers, names = labels, None  # type: ignore[assignment]
        if labels is not None:
            numbers = np.asarray(labels, dtype="int32")
            names = [str(label) for label in sorted(set(labels))]
            if numbers.shape != (len(paths),):
                raise ValueError(f"got {len(labels)} labels for {len(paths)} files.")
    if not paths:
        raise ValueError(f"{os.fspath(directory)!r} has no files with the endings {endings}.")
    return Files(paths, numbers, names)


def _below(folder: Path, endings: tuple[str, ...], follow_links: bool) -> list[str]:
    """The files below a folder: folder by folder in their order, and sorted within each."""
    found = []
    for root, _, names in sorted(os.walk(folder, followlinks=follow_links)):
        found += [os.path.join(root, n) for n in sorted(names) if n.lower().endswith(endings)]
    return found


def _reader(files: Files, label_mode: str | None, load: Callable, together: Callable) -> Any:
    """The samples of files, each read by a thread of a pool."""
    targets = None if files.labels is None else _targets(files, label_mode)

    def read(rows: np.ndarray, pool: Executor) -> Callable[[], Any]:
        begun = [pool.submit(load, files.paths[row]) for row in rows]

        def finish() -> Any:
            x = together([future.result() for future in begun])
            return x if targets is None else (x, targets[rows])

        return finish

    return read


def _targets(files: Files, label_mode: str | None) -> np.ndarray:
    labels = files.labels
    assert labels is not None
    if label_mode == "int":
        return labels
    if label_mode == "binary":
        return labels[:, None].astype(config.floatx())
    return np.eye(len(files.class_names or ()), dtype=config.floatx())[labels]


def _check_split(split: float | None, subset: str | None, shuffle: bool, seed: Any) -> None:
    one_of("dataset_from_directory", "subset", subset, ("training", "validation", "both", None))
    if (split is None) != (subset is None):
        raise ValueError("give both, validation_split and subset, or none of them.")
    if split is not None and not 0 < split < 1:
        raise ValueError(f"validation_split must be between 0 and 1, got {split}.")
    if split is not None and shuffle and seed is None:
        raise ValueError(
            "validation_split with shuffle=True needs a seed, so that no file is in both parts."
        )


def _say(text: str) -> None:
    if distributed.leads():
        print(text)
