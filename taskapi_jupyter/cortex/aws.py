"""Cortex's proof of identity: a signed request for ``GetCallerIdentity``, which the operator sends to AWS.

Cortex 0.30 and later; the form is that of its own client (pkg/lib/aws/sts.go). Needs botocore (extra ``aws``), which
finds the credentials where the AWS tools do and renews those that expire.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlsplit

HOLDS = 300.0  # seconds that a signature is used; AWS accepts it for 900, botocore's credentials hold for 600 at least

BODY = "Action=GetCallerIdentity&Version=2011-06-15"


def signature() -> str | None:
    """Return the header's value; None without botocore or without AWS credentials."""
    try:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError:
        return None
    try:
        session: Any = Session()
        credentials = session.get_credentials()
        if credentials is None:
            return None
        region = session.get_config_variable("region") or "us-east-1"
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        request = AWSRequest(
            method="POST",
            url=f"https://sts.{region}.{suffix}/",
            data=BODY,
            headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        )
        SigV4Auth(credentials.get_frozen_credentials(), "sts", region).add_auth(request)
    except BotoCoreError:
        return None  # it can't find or renew credentials; the cluster answers that they are missing
    return encoded(request.method, request.url, dict(request.headers), BODY)


def encoded(method: str, url: str, headers: dict[str, str], body: str) -> str:
    """Return a signed request as the operator reads it: JSON in base64 for URLs, without padding."""
    parts = {
        "Header": {name: [value] for name, value in headers.items()},
        "URL": url,
        "Method": method,
        "Host": urlsplit(url).netloc,
        "Body": body,
        "ContentLength": len(body),
    }
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")
