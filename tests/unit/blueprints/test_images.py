"""Pictures in a request are checked, and never fetched."""

from __future__ import annotations

import base64

import pytest

from blueprints.compat import images
from blueprints.compat.images import check_count, image_from_url, to_image
from services.errors import InvalidRequest
from services.history import Image

PNG = b"\x89PNG\r\n\x1a\n and more"
DATA = base64.b64encode(PNG).decode()


def test_base64_is_decoded() -> None:
    assert to_image("image/png", DATA, field="f") == Image("image/png", PNG)


@pytest.mark.parametrize("head", ["data:image/png;base64,", "DATA:image/PNG;charset=utf-8;base64,"])
def test_data_url_is_decoded(head: str) -> None:
    assert image_from_url(head + DATA, field="f") == Image("image/png", PNG)


def test_common_misspelling_is_known() -> None:
    jpeg = base64.b64encode(b"\xff\xd8\xff").decode()
    assert to_image("image/jpg", jpeg, field="f").media_type == "image/jpeg"


@pytest.mark.parametrize(
    ("media_type", "data", "issue"),
    [
        ("image/svg+xml", DATA, "media type"),
        ("image/jpeg", DATA, "not image/jpeg"),
        ("image/png", "###", "base64"),
        ("image/png", DATA + "é", "base64"),
        ("image/png", "", "not image/png"),
    ],
)
def test_what_is_no_picture_is_refused(media_type: str, data: str, issue: str) -> None:
    with pytest.raises(InvalidRequest, match=issue) as raised:
        to_image(media_type, data, field="messages[0].content[1]")
    assert raised.value.field == "messages[0].content[1]"


@pytest.mark.parametrize("url", ["http://example.com/a.png", "HTTPS://example.com/a.png"])
def test_address_is_not_fetched(url: str) -> None:
    with pytest.raises(InvalidRequest, match="does not fetch URLs"):
        image_from_url(url, field="f")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "data:image/png,abc", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="expected a data URL"):
        image_from_url(url, field="f")


def test_size_and_number_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "IMAGE_LIMIT_BYTES", 8)
    with pytest.raises(InvalidRequest, match="larger than"):
        to_image("image/png", DATA, field="f")
    with pytest.raises(InvalidRequest, match="at most 100"):
        check_count((Image("image/png", PNG),) * 101)
