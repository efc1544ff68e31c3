"""`keras.utils.get_file`: files from the network, kept in a folder of the user's."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from minitorch_ciml.datasets.download import download

_FORMATS = ("tar", "zip")


def get_file(
    fname: str | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: Any = "auto",
    cache_dir: str | os.PathLike | None = None,
    force_download: bool = False,
) -> str:
    """Downloads a file unless it is there, checks and unpacks it.

    Args:
        fname: its name in the cache; that in `origin` if left out.
        origin: its address.
        untar, extract: unpack the archive.
        md5_hash, file_hash: the expected MD5 (32 hexadecimal digits) or SHA-256 (64).
        cache_subdir: the folder within `cache_dir`.
        hash_algorithm: "auto", "md5" or "sha256"; the digits tell it.
        archive_format: "auto", "tar", "zip", or a list of them.
        cache_dir: `$KERAS_HOME` if left out, else `~/.keras`, where Keras keeps its files.
        force_download: also if it is there.

    Returns:
        The file, or the folder with what was in the archive.

    Raises:
        ConnectionError: the address cannot be reached.
        ValueError: no address is given, the file is not the expected one, or is no archive.
    """
    if origin is None:
        raise ValueError("get_file: pass origin=, the address of the file.")
    name = fname or PurePosixPath(unquote(urlsplit(origin).path)).name
    if not name or "/" in name or os.sep in name:
        raise ValueError(f"get_file: fname must be a name without folders, got {name!r}.")
    digest = file_hash or md5_hash
    if digest is not None and len(digest) not in (32, 64):
        raise ValueError(
            f"get_file: the hash must be an MD5 or SHA-256 in hexadecimal digits, got {digest!r}."
        )
    root = Path(cache_dir or os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()
    folder = root / cache_subdir
    unpacks = extract or untar
    stem = f"{name.split('.')[0]}_extracted" if fname and "." in name else name
    target = folder / (f"{name}_archive" if unpacks and stem == name else name)
    if force_download:
        target.unlink(missing_ok=True)
    download(origin, target, digest, keeps_wrong=False)
    if not unpacks:
        return str(target)
    formats = ("tar",) if untar else _FORMATS if archive_format == "auto" else archive_format
    _unpack(target, folder / stem, (formats,) if isinstance(formats, str) else tuple(formats or ()))
    return str(folder / stem)


def _untar(archive: tarfile.TarFile, folder: Path) -> None:
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
        return
    # Python before 3.10.12 and 3.11.4 would follow paths and links to anywhere.
    for member in archive.getmembers():
        is_inside = (folder / member.name).resolve().is_relative_to(folder.resolve())
        if not (is_inside and (member.isfile() or member.isdir())):
            raise tarfile.TarError(
                f"get_file: {member.name!r} in {archive.name!r} is a link or lies outside of it; "
                "unpack it yourself if you trust it."
            )
    archive.extractall(folder)


def _unpack(archive: Path, folder: Path, formats: tuple) -> None:
    """Unpacks beside `folder` and renames, so that it is whole; links out of it are refused."""
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        if "zip" in formats and zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(temporary)
        elif "tar" in formats and tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tarred:
                _untar(tarred, temporary)
        else:
            raise ValueError(f"get_file: {str(archive)!r} is no {' or '.join(formats)} archive.")
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
