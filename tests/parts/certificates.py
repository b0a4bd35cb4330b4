"""Certificates for servers that tests start."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.parts.programs import require_program


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """The files of a self-signed certificate for the DNS name ``name``, and of its key."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")
    made = subprocess.run(
        [require_program("openssl"), "req", *kind, *names, "-keyout", str(key), "-out", str(cert)],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    return cert, key
