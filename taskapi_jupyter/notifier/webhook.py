"""Webhooks: a POST of JSON, signed as Standard Webhooks has it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests

from taskapi_jupyter._version import __version__

from .attempt import KEPT, SECONDS, Outcome, Target, texts, within

_LONGEST_PAUSE = 86_400.0  # seconds that a receiver may ask for
_TRANSIENT = (408, 425, 429)  # of 4xx, after which another attempt may succeed


def signature(key: bytes, delivery_id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``."""
    signed = b".".join((delivery_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class Webhook:
    """Sends to one URL, over one connection for as long as that lives."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session = self._new()
        self._used = False

    def _new(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # no .netrc, whose passwords are not meant for it, and no proxy
        return session

    def send(self, delivery_id: str, body: bytes) -> Outcome:
        """Send once, within :data:`SECONDS`; a connection that the receiver has closed meanwhile is made anew."""
        outcome = self._within(delivery_id, body)
        if outcome is None and self._used:
            self._session = self._new()
            outcome = self._within(delivery_id, body)
        self._used = True
        return outcome or Outcome("again", "the connection was closed before there was an answer")

    def _within(self, delivery_id: str, body: bytes) -> Outcome | None:
        """Return what came of it; None where the connection was closed."""
        answered: list[requests.Response] = []
        session = self._session

        def attempt() -> Outcome:
            try:
                return self._post(session, delivery_id, body, answered)
            except requests.RequestException as error:
                if answered:
                    return self._outcome(answered[0], "")
                return Outcome("again", self._target.masked(_why(error)))

        outcome = within(SECONDS, attempt, lambda: self._outcome(answered[0], "") if answered else None)
        if outcome.answer == _CLOSED:
            return None
        if outcome.answer.startswith("no answer"):
            self._session = self._new()  # the other one is still in use
        return outcome

    def _post(
        self, session: requests.Session, delivery_id: str, body: bytes, answered: list[requests.Response]
    ) -> Outcome:
        now = int(time.time())
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"taskapi-jupyter/{__version__}",
            "webhook-id": delivery_id,
            "webhook-timestamp": str(now),
        }
        if self._target.key is not None:
            headers["webhook-signature"] = signature(self._target.key, delivery_id, now, body)
        verify = self._target.destination.verify
        response = session.post(
            self._target.url,
            data=body,
            headers=headers,
            timeout=SECONDS,
            allow_redirects=False,
            stream=True,
            verify=str(Path(verify).expanduser()) if isinstance(verify, str) else verify,
        )
        answered.append(response)
        try:
            text = response.raw.read(KEPT + 1, decode_content=False)[:KEPT].decode("utf-8", "replace")
        except (OSError, requests.RequestException, ValueError, _http_error()):
            text = ""
        size = response.headers.get("content-length", "")
        if size.isdigit() and int(size) <= KEPT:
            response.raw.release_conn()
        else:
            response.close()
        return self._outcome(response, text)

    def _outcome(self, response: requests.Response, text: str) -> Outcome:
        """Return what an answer means."""
        code = response.status_code
        said = self._target.masked(texts((f"{code} {response.reason or ''}".strip(), text)))
        if 200 <= code < 300:
            return Outcome("sent", said)
        if code == 410:
            return Outcome("gone", said)
        if 300 <= code < 400:
            return Outcome("again", self._target.masked(f"{code}: redirects are not followed"))
        if 400 <= code < 500 and code not in _TRANSIENT:
            return Outcome("failed", said)
        return Outcome("again", said, _pause(response.headers.get("retry-after")))


_CLOSED = "the connection was closed"


def _http_error() -> type[Exception]:
    from urllib3.exceptions import HTTPError

    return HTTPError


def _pause(text: str | None) -> float:
    """Return the seconds of a header ``Retry-After``, at most a day."""
    text = (text or "").strip()
    seconds = 0.0
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    elif text:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            seconds = 0.0
    return min(max(seconds, 0.0), _LONGEST_PAUSE)


def _why(error: BaseException) -> str:
    """Return why there was no answer; the library's own text has the URL in it."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {SECONDS:g} s"
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and len(chain) < 20:
        chain.append(found)
        inner = [one for one in (*found.args, getattr(found, "reason", None)) if isinstance(one, BaseException)]
        found = next(iter(inner), None) or found.__cause__ or found.__context__
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"its certificate can't be verified: {one.verify_message}"
    for one in chain:
        if isinstance(one, ssl.SSLError):
            return f"TLS fails: {one.reason or 'no reason is given'}"
    for one in reversed(chain):
        if isinstance(one, ConnectionResetError | BrokenPipeError) or type(one).__name__ == "RemoteDisconnected":
            return _CLOSED
        if isinstance(one, OSError) and one.strerror and not isinstance(one, requests.RequestException):
            return f"can't be reached: {one.strerror}"
    return f"can't be reached: {type(error).__name__}"
