"""Which algorithms may be used: a registry with states, presets, and signed policies.

    policy.current().require("ecdsa-p256-sha256", "sign")      raises PolicyError
    policy.current().remark("rsa-oaep-sha256", 1024)           a sentence, or None

A policy restricts algorithms; it validates nothing.
"""

from .rules import PRESETS, STATES, Policy, preset
from .source import current, listen, tell, use

__all__ = ["PRESETS", "STATES", "Policy", "current", "listen", "preset", "tell", "use"]
