"""A callback that tells a server how training goes."""

from __future__ import annotations

import json
import warnings
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from minitorch_ciml import distributed
from minitorch_ciml.keras.callbacks.base import Callback, Logs

_SECONDS = 10  # to wait for the server


class RemoteMonitor(Callback):
    """Sends the logs of every epoch, with its number as "epoch", to a server by HTTP POST.

    A server that does not answer is no error: a warning says so, and training goes on.

    Args:
        root: the server, such as "http://localhost:9000".
        path: is appended to it.
        field: the name of the form's field that holds the JSON.
        headers: HTTP headers to send.
        send_as_json: send JSON as it is ("application/json"), not in a form.
    """

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path: str = "/publish/epoch/end/",
        field: str = "data",
        headers: dict[str, str] | None = None,
        send_as_json: bool = False,
    ):
        super().__init__()
        if not root.startswith(("http://", "https://")):
            raise ValueError(f"RemoteMonitor: root must begin with http:// or https://: {root!r}.")
        self.root = root
        self.path = path
        self.field = field
        self.headers = headers
        self.send_as_json = send_as_json

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Sends the logs."""
        if not distributed.leads():
            return
        text = json.dumps({"epoch": epoch, **{k: _number(v) for k, v in (logs or {}).items()}})
        kind = "json" if self.send_as_json else "x-www-form-urlencoded"
        body = text if self.send_as_json else urlencode({self.field: text})
        headers = {"Content-Type": f"application/{kind}", **(self.headers or {})}
        request = Request(self.root + self.path, body.encode(), headers, method="POST")
        try:
            urlopen(request, timeout=_SECONDS).close()
        except (URLError, OSError) as error:
            warnings.warn(
                f"RemoteMonitor: {self.root} did not take the logs ({error}).", stacklevel=2
            )


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
