"""``X-Cortex-Authorization``: a request to AWS STS for the caller's identity, signed and packed up."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

from .state import Refusal

NAME = "X-Cortex-Authorization"
HOST = re.compile(r"sts(\.[a-z0-9-]+)?\.amazonaws\.com(\.cn)?")
FIELDS = {"Header": dict, "URL": str, "Method": str, "Host": str, "Body": str, "ContentLength": int}
VALID = timedelta(minutes=15)


def check_identity(value: str, expired: bool) -> None:
    """Refuse a header that AWS would not take, or not any more."""
    if not value:
        raise Refusal(f"missing {NAME} header", "endpoints.header_missing")
    signed = unpack(value)
    headers = {name.lower(): values for name, values in signed["Header"].items()}
    if not all(isinstance(values, list) and values for values in headers.values()):
        raise Refusal(f"{NAME}: Header: the value of each must be a list")
    if not headers.get("authorization", [""])[0].startswith("AWS4-HMAC-SHA256 "):
        raise Refusal(f"{NAME}: is not signed")
    date = headers.get("x-amz-date", [""])[0]
    try:
        when = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        raise Refusal(f"{NAME}: X-Amz-Date: {date!r} is not a date") from None
    if expired or datetime.now(timezone.utc) - when > VALID:
        raise Refusal(f"Signature expired: {date} is more than 15 minutes ago")


def unpack(value: str) -> dict[str, Any]:
    """Return the packed request, which must be one to STS."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise Refusal(f"{NAME}: is not unpadded base64url")
    try:
        signed: dict[str, Any] = json.loads(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
    except (binascii.Error, ValueError):
        raise Refusal(f"{NAME}: is not the base64url of JSON") from None
    for name, kind in FIELDS.items():
        if not isinstance(signed, dict) or not isinstance(signed.get(name), kind):
            raise Refusal(f"{NAME}: {name}: must be a {kind.__name__}")
    host = urlsplit(signed["URL"]).hostname or ""
    if not HOST.fullmatch(host) or signed["Host"] != host:
        raise Refusal(f"{NAME}: {signed['URL']} at {signed['Host']} is not AWS STS")
    if "Action=GetCallerIdentity" not in signed["Body"] + signed["URL"]:
        raise Refusal(f"{NAME}: does not ask for the caller's identity")
    if signed["ContentLength"] != len(signed["Body"]):
        raise Refusal(f"{NAME}: ContentLength is not the length of Body")
    return signed
