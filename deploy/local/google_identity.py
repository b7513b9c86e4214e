"""Google's ID tokens on this machine: a key, the server of its certificate, and a proxy that signs pushes.

The emulator of Pub/Sub sends its pushes without a token, so the proxy stands between the emulator and the function:
https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
"""

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from flask import Flask, Response, request
from google.auth import crypt, jwt

from deploy.local.server import LoopbackServer

AUDIENCE = "https://relay.local/deliveries"
ACCOUNT = "push@local-project.iam.gserviceaccount.com"
#: The time for which an ID token is valid, in seconds.
TOKEN_SECONDS = 3600


@dataclass
class GoogleIdentity(LoopbackServer):
    """A server of certificates, in the format of https://www.googleapis.com/oauth2/v1/certs, and of signed pushes.

    `POST /push` forwards a request to `target`, with an ID token.
    """

    key_id: str = "key-1"
    #: The address to which the proxy forwards pushes.
    target: str = ""
    #: The status of the certificates' response, to simulate an outage.
    status: int = 200
    #: The number of requests for the certificates.
    fetches: int = 0
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048), repr=False)
    _session: requests.Session = field(default_factory=requests.Session, repr=False)

    @property
    def certs_url(self) -> str:
        """The URL of the certificates."""
        return f"{self.url}/certs"

    @property
    def push_url(self) -> str:
        """The URL of the signing proxy."""
        return f"{self.url}/push"

    def rotate(self, key_id: str) -> None:
        """Sign with a new key from now on."""
        self._key, self.key_id = rsa.generate_private_key(65537, 2048), key_id

    def token(self, **claims: Any) -> str:
        """Return an ID token like a push's. `claims` replaces claims of the token; None removes a claim."""
        now = int(time.time())
        payload = {
            "aud": AUDIENCE,
            "email": ACCOUNT,
            "email_verified": True,
            "iss": "https://accounts.google.com",
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            **claims,
        }
        signer = crypt.RSASigner(self._key, self.key_id)  # type: ignore[no-untyped-call]
        present = {name: value for name, value in payload.items() if value is not None}
        encoded: bytes = jwt.encode(signer, present)  # type: ignore[no-untyped-call]
        return encoded.decode()

    def routes(self, app: Flask) -> None:
        """Add the routes of the certificates and of the proxy."""

        @app.get("/certs")
        def certs() -> Response:
            self.fetches += 1
            return Response(json.dumps({self.key_id: self._certificate()}), self.status)

        @app.post("/push")
        def push() -> Response:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token()}"}
            try:
                response = self._session.post(self.target, request.get_data(), headers=headers, timeout=600)
            except requests.RequestException:
                return Response(status=503)
            return Response(status=response.status_code)

    def _certificate(self) -> str:
        """Return a certificate of the key that is signed by the key itself, in PEM format."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.system.gserviceaccount.com")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=14))
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()
