"""Text → the words that a search finds it by. Pure, and the same for every database, so that both find the same.

A word is a run of letters, digits and underscores, without regard to case. Scripts that are written without spaces have
no such runs that a reader would search for, so there each character is a word.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

INDEXED_CHARS = 16_384
"""So much of a prompt, and of an output, can be searched: the index stays small, and a turn's end quick."""
WORD_CHARS = 64
QUERY_WORDS = 16

UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def words_of(text: str) -> list[str]:
    """The distinct words of ``text``, in the order of their first appearance. Words are cut at ``WORD_CHARS``."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return list(dict.fromkeys(word[:WORD_CHARS] for word in WORD.findall(folded)))


def facet(name: str, value: str) -> str:
    """A word that no text has: what does not change of a session (its backend, its folder), so that a search narrows by it too."""
    return f"\N{SECTION SIGN}{hashlib.sha256(f'{name}={value}'.encode()).hexdigest()[:16]}"


def indexed_words(*texts: str | None) -> list[str]:
    return words_of("\n".join(text[:INDEXED_CHARS] for text in texts if text))
