"""The builtin domains without state, by the name that a domains file calls them.

Deliberately absent: loading by name. A domain that is not written here does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from stage3_service.adapters.builtin.dates import DATES
from stage3_service.adapters.builtin.hashing import HASHING
from stage3_service.adapters.builtin.json_check import JSON_SCHEMA
from stage3_service.adapters.builtin.pure_domain import PureDomain
from stage3_service.adapters.builtin.text import TEXT
from stage3_service.adapters.builtin.units import UNITS

PURE_DOMAINS: Final[Mapping[str, PureDomain]] = MappingProxyType(
    {
        "text": TEXT,
        "hashing": HASHING,
        "json_schema": JSON_SCHEMA,
        "dates": DATES,
        "units": UNITS,
    }
)
"""Each runs on its caller's thread and needs no time limit, which a thread could not give it: its
methods are bounded, wait for nothing, and spend nearly all of their time holding the interpreter,
so a caller waiting beside them would not run either. Everything that can wait gets a worker."""
