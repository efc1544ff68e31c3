"""`RemoteMonitor` against a server of our own."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.parse import parse_qs

import numpy as np
import pytest

from minitorch_ciml import keras


@pytest.fixture
def server():
    """A server on this machine; what it got: (path, content type, body)."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got.append((self.path, self.headers["Content-Type"], body, self.headers.get("X-Run")))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", got
        running.shutdown()
        thread.join()


def test_a_server_is_told_every_epoch(server):
    root, got = server
    monitors = [
        keras.callbacks.RemoteMonitor(root),
        keras.callbacks.RemoteMonitor(root, "/json", send_as_json=True, headers={"X-Run": "7"}),
    ]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    losses = model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=monitors).history["loss"]
    (path, kind, form, _), (json_path, json_kind, text, run) = got[2:]
    assert path == "/publish/epoch/end/" and kind == "application/x-www-form-urlencoded"
    assert (json_path, json_kind, run) == ("/json", "application/json", "7")
    assert json.loads(text) == json.loads(parse_qs(form)["data"][0])
    assert json.loads(text) == {"epoch": 1, "loss": losses[1]}


def test_a_server_that_is_not_there_is_no_error():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    monitor = keras.callbacks.RemoteMonitor("http://127.0.0.1:1")
    with pytest.warns(UserWarning, match="did not take the logs"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=[monitor])
    with pytest.raises(ValueError, match="root must begin with http"):
        keras.callbacks.RemoteMonitor("localhost:9000")
