"""Runs in namespaces of its own (`tests/support/pcscd.py` starts it): a pcscd with two virtual
readers, and a socket from which connections to those readers are handed out.

It ends with its standard input. Needs the standard library only.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys

#: Where vpcd waits for the cards of its two readers.
PORTS = (35963, 35964)


def main(folder: str, pcscd: str) -> None:
    run = f"{folder}/run"
    for words in (
        ["ip", "link", "set", "lo", "up"],
        ["mount", "-t", "tmpfs", "none", "/run"],  # pcscd's socket has a fixed place
        ["mkdir", "/run/pcscd"],
        ["mount", "--bind", run, "/run/pcscd"],
    ):
        subprocess.run(words, check=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/cards")
    listener.listen()
    with open(f"{folder}/log", "ab") as log:
        daemon = subprocess.Popen(
            [pcscd, "--foreground", "--error", "--config", f"{folder}/readers"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
    try:
        while daemon.poll() is None:
            ready, _, _ = select.select([sys.stdin, listener], [], [], 0.5)
            if sys.stdin in ready and not os.read(0, 64):
                return
            if listener in ready:
                hand_out(listener)
    finally:
        daemon.terminate()
        try:
            daemon.wait(3)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def hand_out(listener: socket.socket) -> None:
    """Answer a slot's number (a byte) by a connection to its reader."""
    asker, _ = listener.accept()
    with asker:
        slot = asker.recv(1)[0]
        try:
            with socket.create_connection(("127.0.0.1", PORTS[slot]), 2) as reader:
                reader.settimeout(None)  # of what is shared, not of this descriptor
                socket.send_fds(asker, [b"."], [reader.fileno()])
        except OSError:
            asker.sendall(b"!")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
