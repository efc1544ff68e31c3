"""Where the files of a data set are: on this machine, or at an address on the network."""

import os
from pathlib import Path
from typing import NamedTuple

from minitorch_ciml.datasets.files import cache_dir

VARIABLE = "MINITORCH_CIML_DATA"
KERAS_ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


class Source(NamedTuple):
    """A file that somebody publishes.

    Attributes:
        title: what messages call the data set.
        name: the file's name in the folders searched, with `/` where it lies in one of theirs.
        origin: its address.
        digest: its published SHA-256, or MD5 where no other is published.
        unpacked: folders that stand for it, where Keras has unpacked it.
        instead: what else one can do without it, for messages.
    """

    title: str
    name: str
    origin: str
    digest: str
    unpacked: tuple[str, ...] = ()
    instead: str = ""

    def find(self, path: str | os.PathLike[str] | None = None) -> Path:
        """The path of an existing file (or folder) whose contents are not looked at yet.

        Without `path` the first of these is taken: what the environment variable
        MINITORCH_CIML_DATA names (a folder, or the file), this package's cache, Keras' cache
        (`$KERAS_HOME/datasets` or `~/.keras/datasets`), a checked download into this package's
        cache.

        Args:
            path: the file, or a folder that holds it.

        Raises:
            FileNotFoundError: if `path`, or what the variable names, does not exist.
            ConnectionError: if there is no copy on this machine and none can be downloaded.
            ValueError: if a download is damaged.
        """
        if path is not None:
            return self._named(Path(path), "path")
        if (named := os.environ.get(VARIABLE)) and not Path(self.name).is_absolute():
            return self._named(Path(named), VARIABLE)
        keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
        for folder in (cache_dir(), keras_home / "datasets"):
            if found := self._in(folder):
                return found
        return self._downloaded(cache_dir() / self.name)

    def _in(self, folder: Path) -> Path | None:
        if (folder / self.name).is_file():
            return folder / self.name
        return next((folder / name for name in self.unpacked if (folder / name).is_dir()), None)

    def _named(self, place: Path, said_by: str) -> Path:
        """What the user pointed at, directly or by its folder."""
        found = self._in(place)
        if found is not None:
            return found
        file = place / self.name if place.is_dir() else place
        if file.is_file():
            return file
        raise FileNotFoundError(
            f"{said_by}={str(place)!r}: there is no file {file}; expected {self.name} in Keras' "
            f"layout or the folder that holds it: correct it, leave it out, or put {self.origin} "
            "there"
        )

    def _downloaded(self, target: Path) -> Path:
        # Here, because few runs need what HTTP takes to import.
        from minitorch_ciml.datasets.download import download

        try:
            return download(self.origin, target, self.digest)
        except OSError as error:
            raise ConnectionError(
                f"{self.title} is not on this machine and could not be downloaded ({error}): fetch "
                f"{self.origin} where there is a network, then put it at {target} or set "
                f"{VARIABLE} to the folder that holds it{self.instead}"
            ) from error

    def wrong(self, file: str | os.PathLike[str], what: str) -> ValueError:
        """The error for a file that holds something else."""
        return ValueError(
            f"{os.fspath(file)} is not a whole {self.title} file: {what}; expected Keras' "
            f"{Path(self.name).name}: delete the file and load again, or replace it by "
            f"{self.origin}"
        )
