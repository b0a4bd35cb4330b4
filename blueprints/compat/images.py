"""Validates images in requests: base64 and data URLs. Never fetches a URL. Pure."""

from __future__ import annotations

import base64
import binascii
import re

from services.errors import InvalidRequest
from services.history import Image

IMAGE_LIMIT_BYTES = 20 << 20
IMAGES_LIMIT = 100

SIGNATURES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
"""The media types that the model vendors accept, with the leading bytes of their data."""

SYNONYMS = {"image/jpg": "image/jpeg"}

DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[^;,]*)*;base64,", re.IGNORECASE)


def to_image(media_type: str, data: str, *, field: str) -> Image:
    """Decode ``data`` (base64). Raises InvalidRequest, naming ``field``."""
    kind = media_type.lower()
    kind = SYNONYMS.get(kind, kind)
    if kind not in SIGNATURES:
        raise _refused(field, f"media type {media_type[:80]!r} is not supported; send {', '.join(SIGNATURES)}")
    if len(data) > IMAGE_LIMIT_BYTES * 4 // 3 + 4:
        raise _refused(field, f"the image is larger than {IMAGE_LIMIT_BYTES >> 20} MiB")
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise _refused(field, "the image is not valid base64") from None
    if not SIGNATURES[kind].match(content):
        raise _refused(field, f"the data is not {kind}")
    return Image(kind, content)


def image_from_url(url: str, *, field: str) -> Image:
    """Decode a data URL. Raises InvalidRequest, also for http(s) URLs, which this server does not fetch."""
    if found := DATA_URL.match(url):
        return to_image(found.group(1), url[found.end() :], field=field)
    if url[:8].lower().startswith(("http://", "https://")):
        raise _refused(field, "this server does not fetch URLs; send the image as base64 or a data URL")
    raise _refused(field, "expected a data URL: data:image/png;base64,…")


def check_count(images: tuple[Image, ...], *, field: str = "messages") -> None:
    if len(images) > IMAGES_LIMIT:
        raise _refused(field, f"{len(images)} images; at most {IMAGES_LIMIT}")


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {issue}", field=field, issue=issue)
