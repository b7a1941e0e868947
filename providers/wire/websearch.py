"""A search of the web that the provider makes by itself: what one wire's bare tool is on another.

A tool with options (domains, dates, a place) says more than the other wire's word for it, and is refused by its name.
"""

from __future__ import annotations

import re
from typing import Any

from providers.unified import Json

# Google's tool, as `providers.wire.gemini.request` keeps it.
_GOOGLES = re.compile(r"tools\[\d+\]\.googleSearch")
# https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool
ANTHROPICS: Json = {"type": "web_search_20250305", "name": "web_search"}


def is_bare(path: str, value: Any) -> bool:
    """Whether a field of another wire's `extra` asks for a search of the web and says no more about it."""
    return bool(_GOOGLES.fullmatch(path)) and value == {"googleSearch": {}}
