"""Status words of cards and what they mean to a person (ISO/IEC 7816-4:2013, clause 5.6).

Some carry a number: 61xx (so many bytes more), 6Cxx (so many bytes there are), 63Cx (so many
tries left). `StatusWord.of` finds their member, `tries_left` and the others the number.
"""

from __future__ import annotations

from enum import IntEnum


class StatusWord(IntEnum):
    """A status word; `meaning` is a sentence for a person."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> StatusWord:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0x9000, "done"
    MORE_DATA = 0x6100, "done, and more of the answer can be fetched"
    WARNING = 0x6200, "done, but the card gives a warning"
    DATA_CORRUPTED = 0x6281, "part of what was read may be damaged"
    END_OF_FILE = 0x6282, "the file ends before what was asked for"
    FILE_DEACTIVATED = 0x6283, "this file or application is switched off"
    FILE_TERMINATED = 0x6285, "this file or application is at its end for good"
    VERIFICATION_FAILED = 0x6300, "the PIN, the code or the proof is wrong"
    TRIES_LEFT = 0x63C0, "the PIN is wrong, or has not been given yet"
    EXECUTION_ERROR = 0x6400, "the card could not carry this out; nothing was changed"
    MEMORY_FAILURE = 0x6581, "the card could not store this; its memory may be worn out or full"
    SECURITY_ISSUE = 0x6600, "the card saw something wrong with its own security and refuses"
    WRONG_LENGTH = 0x6700, "the length of what was sent is wrong"
    CHANNEL_NOT_SUPPORTED = 0x6881, "the card has one logical channel only"
    SECURE_MESSAGING_NOT_SUPPORTED = 0x6882, "the card does not do secure messaging"
    LAST_COMMAND_EXPECTED = 0x6883, "the end of a command sent in parts is missing"
    CHAINING_NOT_SUPPORTED = 0x6884, "the card does not take this command in parts"
    COMMAND_INCOMPATIBLE = 0x6981, "this command does not fit this kind of file"
    SECURITY_STATUS = 0x6982, "the card wants the PIN, or another proof, before it does this"
    BLOCKED = 0x6983, "the PIN is blocked after too many wrong tries: unblock it with the PUK"
    REFERENCE_UNUSABLE = 0x6984, "what the command refers to cannot be used, or not any more"
    CONDITIONS = 0x6985, "the card is not in a state to do this: a step before it is missing"
    NO_CURRENT_FILE = 0x6986, "no file is selected that this could be done with"
    WRONG_PARAMETERS = 0x6A80, "what was sent in the command's data is wrong"
    NOT_SUPPORTED = 0x6A81, "the card does not support this"
    FILE_NOT_FOUND = 0x6A82, "the card has no such file or application"
    RECORD_NOT_FOUND = 0x6A83, "the file has no such record"
    NOT_ENOUGH_MEMORY = 0x6A84, "the file on the card has no room for this"
    WRONG_P1P2 = 0x6A86, "the command's parameters are wrong"
    LENGTH_INCONSISTENT = 0x6A87, "the length does not fit the command's parameters"
    REFERENCE_NOT_FOUND = 0x6A88, "the card has no such key, PIN or certificate"
    FILE_EXISTS = 0x6A89, "the card has this already"
    OUT_OF_RANGE = 0x6B00, "the place lies outside the file"
    WRONG_LE = 0x6C00, "the card has another number of bytes than were asked for"
    UNKNOWN_INSTRUCTION = 0x6D00, "the card does not know this command"
    UNKNOWN_CLASS = 0x6E00, "the card does not know this class of commands"
    UNKNOWN_ERROR = 0x6F00, "the card reports an error that it does not name"

    @classmethod
    def of(cls, status: int) -> StatusWord:
        """Return the member that says most about a status; UNKNOWN_ERROR if none does."""
        for candidate in (status, status & 0xFFF0 if status >> 8 == 0x63 else 0, status & 0xFF00):
            found = cls._value2member_map_.get(candidate)
            if isinstance(found, cls):
                return found
        return cls.WARNING if status & 0xFE00 == 0x6200 else cls.UNKNOWN_ERROR


def tries_left(status: int) -> int | None:
    """Return the tries left that 63Cx or 6983 tells, None for another status."""
    if status == StatusWord.BLOCKED:
        return 0
    return status & 0xF if status & 0xFFF0 == StatusWord.TRIES_LEFT else None


def with_tries(tries: int) -> int:
    """Return 63Cx for so many tries left (0 to 15)."""
    return StatusWord.TRIES_LEFT | max(0, min(tries, 15))


def more_data(status: int) -> int | None:
    """Return how many bytes 61xx says can be fetched (256 for 00: or more), None otherwise."""
    return (status & 0xFF or 256) if status >> 8 == 0x61 else None


def right_length(status: int) -> int | None:
    """Return how many bytes 6Cxx says to ask for (256 for 00), None for another status."""
    return (status & 0xFF or 256) if status >> 8 == 0x6C else None


def meaning(status: int) -> str:
    """Return a sentence for a person, with the status in hexadecimal digits."""
    left = tries_left(status)
    said = StatusWord.of(status).meaning
    if left:
        said += f"; {left} {'try is' if left == 1 else 'tries are'} left"
    return f"{said} ({status:04X})"
