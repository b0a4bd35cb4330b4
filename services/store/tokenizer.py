"""Tokenizer of the full-text search. Pure, and the same for every database, so that results are the same.

A word is a case-folded run of letters, digits and underscores. In scripts written without spaces, each character is a word.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

INDEXED_CHARS = 16_384
"""How much of a prompt, and of an output, is indexed. Keeps the index small and recording a turn fast."""
WORD_CHARS = 64
QUERY_WORDS = 16

UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def words_of(text: str) -> list[str]:
    """The distinct words of ``text`` in order of first occurrence, truncated to ``WORD_CHARS``."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return list(dict.fromkeys(word[:WORD_CHARS] for word in WORD.findall(folded)))


def filter_term(name: str, value: str) -> str:
    """A filter term that occurs in no text, for an immutable property of a session (owner, backend, workdir), to restrict a search."""
    return f"\N{SECTION SIGN}{hashlib.sha256(f'{name}={value}'.encode()).hexdigest()[:16]}"


def filter_terms(owner: str, backend: str, workdir: str) -> list[str]:
    """Those of a session's documents. Documents that version 2 of the store wrote lack the owner's."""
    return [filter_term("owner", owner), filter_term("backend", backend), filter_term("workdir", workdir)]


def indexed_words(*texts: str | None) -> list[str]:
    return words_of("\n".join(text[:INDEXED_CHARS] for text in texts if text))
