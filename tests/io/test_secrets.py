"""What a client may make of a secret, and what is left of it in a text."""

from __future__ import annotations

from typing import Any

import pytest

from xarray_nd2.io.secrets import without_secrets


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("hunter2hunter", "hunter2hunter"),
        (b"hunter2hunter", "b'hunter2hunter'"),
        (12345678, "12345678"),
        ("hun'ter\\2", repr("hun'ter\\2")),
        ("hun+ter/2==", "hun%2Bter%2F2%3D%3D"),
    ],
)
def test_options(secret: Any, text: str) -> None:
    for options in ({"password": secret}, {"client_kwargs": {"auth": ["me", secret]}}):
        left = without_secrets(f"login of me with {text} failed", "s3://bucket/run.nd2", options)
        assert "***" in left
        assert "unter" not in left
        assert "ter" not in left
        assert "1234" not in left


def test_urls() -> None:
    url = "sftp://me:hun%40ter%2F2@host/run.nd2"
    for text in ("hun@ter/2", "hun%40ter%2F2"):
        assert without_secrets(f"{text} is wrong", url, {}) == "*** is wrong"


def test_what_is_no_secret() -> None:
    options = {"anon": True, "port": 8080, "use_ssl": False, "key": ""}
    assert without_secrets("port 8080: True", "s3://bucket/run.nd2", options) == "port 8080: True"
