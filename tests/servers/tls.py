"""A certificate authority that only the tests trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .process import program, run

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """Paths of the authority's certificate, and of one for 127.0.0.1 with its key."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and have it sign a certificate for this machine."""
    openssl = program("openssl", "apt-get install openssl")
    made = Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority_key, request, names = folder / "ca.key", folder / "csr", folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    self_signed = ["-x509", "-days", "2", "-subj", "/CN=test", "-addext", "keyUsage=keyCertSign"]
    run(openssl, "req", *self_signed, *new_key, "-keyout", authority_key, "-out", made.authority)
    run(openssl, "req", *new_key, "-keyout", made.key, "-out", request, "-subj", "/CN=127.0.0.1")
    signed_by = ["-CA", made.authority, "-CAkey", authority_key, "-CAcreateserial"]
    run(
        openssl,
        "x509",
        "-req",
        "-in",
        request,
        *signed_by,
        "-days",
        "2",
        "-extfile",
        names,
        "-out",
        made.certificate,
    )
    return made
