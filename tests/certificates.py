"""A certificate authority for tests, by the openssl that is installed."""

import subprocess
from pathlib import Path

from tests.brokers import needs

CLIENT = "extendedKeyUsage=clientAuth"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority of our own, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._openssl = folder, needs("openssl", "openssl")
        folder.mkdir(exist_ok=True)
        self.ca = folder / "ca.pem"
        self._run("req", "-x509", *self._key("ca"), "-out", self.ca, "-days", "2", "-subj", "/CN=test authority")

    def certify(self, name: str, extensions: str, *, days: int = 2) -> tuple[Path, Path]:
        """A certificate and its key, both new. With `days = -1` it has expired yesterday."""
        cert, key, request, ext = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        ext.write_text(extensions)
        self._run("req", *self._key(name), "-out", request, "-subj", f"/CN={name}")
        authority = ("-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial")
        self._run("x509", "-req", "-in", request, *authority, "-out", cert, "-days", days, "-extfile", ext)
        return cert, key

    def _key(self, name: str) -> tuple[object, ...]:
        return (*CURVE, "-keyout", self.folder / f"{name}.key")

    def _run(self, *arguments: object) -> None:
        subprocess.run([self._openssl, *map(str, arguments)], check=True, capture_output=True)
