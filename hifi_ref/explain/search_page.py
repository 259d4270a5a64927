"""How a format's encoder searched the worked block, as parts of its page."""

from __future__ import annotations

from typing import Any

from hifi_ref.explain.parts import Part


def search_parts(e: dict[str, Any]) -> list[Part]:
    return []
