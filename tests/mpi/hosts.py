"""Several pretend hosts on this machine, made of Linux namespaces.

    python hosts.py HOSTS SLOTS COMMAND...

runs COMMAND on the first of them, node0. Each host has its own address (10.77.0.10 + i on eth0),
name (node0, node1, ...), processes, /dev/shm and temporary folder. A bridge without an uplink joins
them: no message leaves the machine. Needs root, or a system where every user may make namespaces.

The command finds in its environment:

    PRETEND_HOSTS     node0:SLOTS,node1:SLOTS,...
    PRETEND_HOSTFILE  the same in a file, one host per line
    PRETEND_RSH       what mpirun may use for ssh
    PRETEND_CONTROL   "$PRETEND_CONTROL kill node1": the host dies; "... down node1" and "... up
                      node1": its cable is pulled out and put in again

RATE=1gbit in the environment of this program limits every link.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

NETWORK = "10.77.0"
_INNER = "PRETEND_INNER"  # set once this program has namespaces of its own
_SPACES = ["--mount", "--uts", "--ipc", "--net", "--pid"]
_SSH_OPTIONS_WITH_VALUE = ("-l", "-p", "-o", "-i", "-F")


def main(hosts, slots, *command):
    """Makes the hosts, runs the command on the first one, and returns its exit status."""
    if _INNER not in os.environ:
        _enter_namespaces()
    names = [f"node{i}" for i in range(int(hosts))]
    folder = Path(tempfile.mkdtemp(prefix="hosts.", dir="/tmp"))
    try:
        addresses = [f"{NETWORK}.{10 + i} {name}\n" for i, name in enumerate(names)]
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(addresses))
        (folder / "hostfile").write_text("".join(f"{name}:{slots}\n" for name in names))
        _shell("ip link set lo up; ip link add br0 type bridge; ip link set br0 up")
        pids = {name: _boot(i, name, folder) for i, name in enumerate(names)}
        remote = {
            "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"),
            "TMPDIR": "/dev/shm/tmp",
        }  # fmt: skip
        Broker(folder / "socket", pids, remote).start()
        for name in ("rsh", "control"):
            script = folder / name
            script.write_text(
                f"#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} --call "
                f'{folder}/socket "$@"\n'
            )
            script.chmod(0o755)
        environment = {
            **os.environ,
            "PRETEND_HOSTS": ",".join(f"{name}:{slots}" for name in names),
            "PRETEND_HOSTFILE": str(folder / "hostfile"),
            "PRETEND_RSH": str(folder / "rsh"),
            "PRETEND_CONTROL": str(folder / "control"),
            "TMPDIR": remote["TMPDIR"],
        }
        del environment[_INNER]
        return subprocess.call(_inside(pids["node0"], os.getcwd(), *command), env=environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _enter_namespaces():
    """Starts this program again, in a network and with mounts of its own."""
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    os.environ[_INNER] = "1"
    program = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
    os.execvp(
        "unshare",
        ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         *program],
    )  # fmt: skip


def _boot(number, name, folder):
    """Makes a host; the id of its first process."""
    up = folder / f"{name}.up"
    setup = (
        f"hostname {name}; mount -t tmpfs tmpfs /dev/shm; mkdir /dev/shm/tmp; "
        f"mount --bind {folder}/hosts /etc/hosts; ip link set lo up; touch {up}; "
        "exec sleep infinity"
    )
    parent = subprocess.Popen(
        ["unshare", *_SPACES, "--fork", "--kill-child", "--mount-proc", "sh", "-c", setup],
        stderr=subprocess.DEVNULL,
    )
    while not up.exists():
        if parent.poll() is not None:
            raise SystemExit(f"{name} could not be made")
        time.sleep(0.01)
    pid = int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()[0])
    within = f"nsenter -t {pid} -n"
    _shell(
        f"ip link add v{number} type veth peer name eth0 netns {pid}; "
        f"ip link set v{number} master br0 up; "
        f"{within} ip addr add {NETWORK}.{10 + number}/24 dev eth0; {within} ip link set eth0 up"
    )
    if rate := os.environ.get("RATE"):
        shape = f"root tbf rate {rate} burst 72kb latency 50ms"
        _shell(f"tc qdisc add dev v{number} {shape}; {within} tc qdisc add dev eth0 {shape}")
    return pid


def _inside(pid, folder, *command):
    return ["nsenter", "-t", str(pid), *_SPACES, f"--wd={folder}", "--", *command]


def _shell(commands):
    subprocess.run(["sh", "-ec", commands], check=True)


class Broker:
    """Does what `call` asks for: starts commands on hosts, kills hosts, pulls cables."""

    def __init__(self, path, pids, environment):
        self.pids, self.environment = pids, environment
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(64)

    def start(self):
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        message, streams, _, _ = socket.recv_fds(connection, 1 << 18, 3)
        status = self._do(json.loads(message), streams)
        for stream in streams:
            os.close(stream)
        try:
            connection.sendall(bytes([status & 255]))
        except OSError:
            pass
        connection.close()

    def _do(self, request, streams):
        host = request["host"]
        if request["what"] == "kill":
            return subprocess.call(["kill", "-9", str(self.pids[host])])
        if request["what"] in ("down", "up"):
            link = f"v{host.removeprefix('node')}"
            return subprocess.call(["ip", "link", "set", link, request["what"]])
        return subprocess.call(
            _inside(self.pids[host], request["folder"], "sh", "-c", request["command"]),
            stdin=streams[0], stdout=streams[1], stderr=streams[2], env=self.environment,
        )  # fmt: skip


def call(path, *words):
    """Asks the broker, with this process' streams; returns the exit status."""
    if words[0] in ("kill", "down", "up"):
        request = {"what": words[0], "host": words[1]}
    else:
        words = list(words)
        while words[0].startswith("-"):
            words = words[2 if words[0] in _SSH_OPTIONS_WITH_VALUE else 1 :]
        host = words[0].rpartition("@")[-1]
        request = {"what": "run", "host": host, "command": " ".join(words[1:])}
        request["folder"] = os.getcwd()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        answer = connection.recv(1)
    return answer[0] if answer else 255


if __name__ == "__main__":
    if sys.argv[1] == "--call":
        sys.exit(call(*sys.argv[2:]))
    sys.exit(main(*sys.argv[1:]))
