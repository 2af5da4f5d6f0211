"""The block layer: the source paper's randomised encryption of image blocks and tags.

Alone it authenticates nothing; `dicomcrypt.encrypt` seals what it produces. It is
open to those who measure, teach or build on it: `transform_into`, `active_kernel`.
"""

from .transform import METHODS, active_kernel, transform_into

__all__ = ["METHODS", "active_kernel", "transform_into"]
