"""One file over HTTP: resumable, checked against its digest, and visible only when complete."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where downloads by several processes at once are not coordinated
    fcntl = None  # type: ignore[assignment]

CHUNK = 1 << 16  # bytes: several updates of the progress bar a second, even on a slow line


def download(
    url: str, target: Path, digest: str | None, timeout: float = 10.0, keeps_wrong: bool = True
) -> Path:
    """Downloads `url` to `target`, unless `target` exists.

    Bytes are collected in `target` + ".part", which outlives a failure, so the next call goes on
    where this one stopped. A connection that breaks is resumed while each attempt brings something.
    Several processes may ask for the same file: one downloads, the others wait for it.

    Args:
        url: http(s) address.
        target: final path; its folder is made.
        digest: the expected SHA-256 (64 hexadecimal digits), or MD5 (32 of them), if known.
        timeout: seconds without an answer after which an attempt is given up.
        keeps_wrong: whether a `target` that is there is taken without a look at its digest.

    Returns:
        `target`.

    Raises:
        ConnectionError: if the server cannot be reached or refuses.
        ValueError: if the bytes that arrived are not the expected ones.
        OSError: if the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with open(part, "ab+") as file:
        _lock(file)
        # Whoever waited for the lock may find all the work done. A complete part is never touched
        # again, so it can be renamed after its lock is gone (Windows cannot rename open files).
        if not keeps_wrong and target.exists() and not _is(target, digest):
            target.unlink()
        if not target.exists() and (digest is None or not _matches(file, digest)):
            _fetch_checked(url, file, digest, timeout)
    if target.exists():
        part.unlink(missing_ok=True)
    else:
        _publish(part, target)
    return target


def _lock(file: BinaryIO) -> None:
    """Waits until no other process holds `file`; the lock ends with the file or its process."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except (
            OSError
        ):  # some cluster file systems have no locks; the digest still tells good from bad
            return


def _publish(part: Path, target: Path) -> None:
    """Gives the complete `part` its final name; another process may just have done so."""
    try:
        os.replace(part, target)
    except FileNotFoundError:
        if not target.exists():
            raise


def _fetch_checked(url: str, file: BinaryIO, digest: str | None, timeout: float) -> None:
    """Completes `file`; a part that an older file left behind earns one fresh start."""
    if digest is None:  # whether a part belongs to this file is not known
        file.truncate(0)
    resumed = _size(file) > 0
    _fetch(url, file, timeout)
    if digest is None:
        return
    if resumed and not _matches(file, digest):
        file.truncate(0)
        _fetch(url, file, timeout)
    if not _matches(file, digest):
        size = _size(file)
        # Emptied, not deleted: a process that waits for the lock has this very file open.
        file.truncate(0)
        raise ValueError(
            f"{url} sent {size} bytes whose {_algorithm(digest)} is not the expected {digest}; "
            "nothing was kept (a proxy's log-in page, or a changed file?): try again or download "
            "it by hand"
        )


def _fetch(url: str, file: BinaryIO, timeout: float) -> None:
    """Appends what `file` lacks of `url`, reconnecting for as long as that brings anything."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    console = Console(stderr=True)
    console.quiet = not console.is_terminal  # else rich before 15 ends with an empty line
    columns = ("[progress.description]{task.description}", BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), console=console, disable=console.quiet
    ) as progress:
        task = progress.add_task(url.rsplit("/", 1)[-1], total=None)

        def show(received: int, total: int | None) -> None:
            progress.update(task, completed=received, total=total)

        reason: Exception | None = None
        before = -1
        while before != _size(file):
            before = _size(file)
            reason = _attempt(url, file, timeout, show)
            if reason is None:
                return
    raise ConnectionError(f"{url}: {reason}") from reason


def _attempt(
    url: str, file: BinaryIO, timeout: float, show: Callable[[int, int | None], None]
) -> Exception | None:
    """One request for the rest of `url`; returns what cut it short, or None when it is complete."""
    offset = _size(file)
    headers = {"User-Agent": "minitorch_ciml"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, None, headers), timeout=timeout
        ) as answer:
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT:  # the whole file, asked for or not
                file.truncate(0)
                offset = 0
            length = answer.headers.get("Content-Length")
            total = None if length is None else offset + int(length)
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                offset += len(chunk)
                show(offset, total)
            if total is not None and offset < total:
                return ConnectionError(f"the connection broke after {offset} of {total} bytes")
            return None
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            file.truncate(0)  # longer than the file is now, hence not a part of it
        return error
    except urllib.error.URLError as error:
        return error.reason if isinstance(error.reason, Exception) else error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        return error


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _matches(file: BinaryIO, digest: str) -> bool:
    found = hashlib.new(_algorithm(digest).replace("-", ""), usedforsecurity=False)
    file.seek(0)
    while chunk := file.read(CHUNK):
        found.update(chunk)
    return found.hexdigest() == digest


def _is(path: Path, digest: str | None) -> bool:
    with open(path, "rb") as file:
        return digest is None or _matches(file, digest)


def _algorithm(digest: str) -> str:
    return "SHA-256" if len(digest) == 64 else "MD5"
