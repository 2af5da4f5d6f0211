"""Key tables of tests: cheap passwords, and what somebody does who may write to the file."""

import sqlite3

from dicomcrypt.keys import Passphrase

LOGIN, PASSWORD = "anna", "corr\u00e8ct horse"


def cheap(text):
    return Passphrase(text, memory_kib=64, passes=1, lanes=1)


def change(path, statement, *values):
    """What somebody does who may write to the file and has no key."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    with connection:
        connection.execute(statement, values)
    connection.close()


def rows(path, space):
    connection = sqlite3.connect(path)
    found = connection.execute(f"SELECT key, value FROM {space} ORDER BY key").fetchall()  # noqa: S608
    connection.close()
    return found
