from collections.abc import Callable
from typing import Final, final

from typing_extensions import Buffer

TILE: Final[int]
LINEAR_UNIT: Final[int]
RANDOMIZED: Final[int]

def kernels() -> dict[str, str]: ...
def overlaps(a: Buffer, b: Buffer) -> bool: ...
def lookup(name: str) -> tuple[int, str]: ...

@final
class StreamCipher:
    @property
    def kernel(self) -> int: ...
    def __init__(
        self,
        key: Buffer,
        kernel: int,
        keystream: Callable[[bytes], Callable[[bytes, bytearray | memoryview], None]],
    ) -> None: ...

@final
class Run:
    def __init__(
        self,
        cipher: StreamCipher,
        offset: int,
        length: int,
        *,
        rows: int = 0,
        row_bytes: int = 0,
        split: int = 0,
        first_unit: int = 0,
        method: int = -1,
        sample_bytes: int = 1,
        inverse: bool = False,
        methods: bytes | None = None,
    ) -> None: ...
    @property
    def finished(self) -> bool: ...
    @property
    def methods(self) -> bytes: ...
    @property
    def wanted(self) -> int: ...
    def cut(self, end: int) -> None: ...
    def advance(self, dst: Buffer, dst_offset: int, src: Buffer, src_offset: int) -> int: ...
