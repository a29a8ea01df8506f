"""Passwords and keys do not get into what is kept: logs, the manifest, what a service's client says."""

import logging
import os
import re

MASK = "***"
_SECRET_NAME = re.compile(
    r"(^|_)(API_?KEY|ACCESS_KEY|KEY_ID|ACCOUNT_KEY|STORAGE_KEY|PRIVATE_KEY|SECRET(_\w+)?|\w*TOKEN|PASS(WORD|WD)?|CREDENTIALS?"
    r"|CONNECTION_STRING)$",
    re.IGNORECASE,
)
_IN_URI = re.compile(
    r"(?<=://)[^\s/@:'\"]*:(?!\d+/)[^\s@'\"]*@"
)  # a key may have a slash, where a port would have none
_IN_QUERY = re.compile(r"([?&][\w-]*(?:key|secret|token|password|sig)[\w-]*=)[^&#\s'\"]+", re.IGNORECASE)
_SHORTEST = 8  # a shorter value is no key, and stands in other words


def masked(text: str) -> str:
    """`text` without the users and passwords of URIs, and without the values of variables named as secrets."""
    text = _IN_QUERY.sub(rf"\1{MASK}", _IN_URI.sub(f"{MASK}@", text))
    for value in _secret_values():
        text = text.replace(value, MASK)
    return text


def has_secret(uri: str) -> bool:
    return bool(_IN_URI.search(uri) or _IN_QUERY.search(uri))


def is_secret_name(variable: str) -> bool:
    return bool(_SECRET_NAME.search(variable))


def _secret_values() -> list[str]:
    """The longest first: one may hold another."""
    values = {value for name, value in os.environ.items() if is_secret_name(name)}
    return sorted((v for v in values if len(v) >= _SHORTEST and not v.startswith("/")), key=len, reverse=True)


class MaskingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))
