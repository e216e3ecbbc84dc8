"""What came of a request that did not succeed, told apart in one place.

obstore gives most of it as text: the status that a server answered with, the code in its XML, and the kind of an error
of the connection. ``tests/storage/test_refusals.py`` has such texts, and lets a server and a proxy cause them. They are
those of obstore 0.12.
"""

from __future__ import annotations

import re
from typing import Literal

from tinyvit_kd.errors import StorageError, StorageUnavailableError
from tinyvit_kd.runtime.wording import printable

Kind = Literal[
    "missing",  # there is no such object
    "exists",  # there is one, and there was to be none
    "past_end",  # a range that begins where the object ends, or behind that
    "changed",  # it was replaced while it was read
    "bucket",  # there is no such bucket or container
    "permission",
    "credentials",  # there are none, or none that the service knows
    "expired",
    "clock",
    "region",
    "address",  # the URL or the endpoint is none
    "unsupported",  # the service does not do this
    "unavailable",  # no answer, half of one, or a request to come again later
    "unknown",
]

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CONNECTION = re.compile(r"HTTP error: ([^\n]*)|kind: (Connect|Timeout|Interrupted|Request|Body|Decode)")
_CAUSE = re.compile(r'message: "([^"]+)"|error: "([^"]+)"')
_NO_CREDENTIALS = re.compile(
    r"/latest/api/token|/latest/meta-data|169\.254\.169\.254|169\.254\.170\.2|metadata\.google\.internal"
    r"|metadata/identity|computeMetadata|NoCredentials|ProfileNotFound|SSOToken|UnauthorizedSSO|No RoleArn"
    r"|Account must be specified|service account|received no credentials"
    r"|Could not find credentials|PartialCredentials|TokenRetrieval|MissingAccessKey"
)
_BY_CODE: dict[str, Kind] = {
    "NoSuchBucket": "bucket",
    "ContainerNotFound": "bucket",
    "InvalidBucketName": "bucket",
    "AccessDenied": "permission",
    "AllAccessDisabled": "permission",
    "AuthorizationPermissionMismatch": "permission",
    "AuthorizationFailure": "permission",
    "InvalidAccessKeyId": "credentials",
    "SignatureDoesNotMatch": "credentials",
    "AuthenticationFailed": "credentials",
    "InvalidToken": "credentials",
    "InvalidClientTokenId": "credentials",
    "ExpiredToken": "expired",
    "ExpiredTokenException": "expired",
    "TokenRefreshRequired": "expired",
    "RequestTimeTooSkewed": "clock",
    "RequestExpired": "clock",
    "AuthorizationHeaderMalformed": "region",
    "PermanentRedirect": "region",
    "IllegalLocationConstraintException": "region",
    "NotImplemented": "unsupported",
    "MethodNotAllowed": "unsupported",
    "NoSuchUpload": "unavailable",
    "RequestTimeout": "unavailable",
    "SlowDown": "unavailable",
    "InternalError": "unavailable",
    "OperationAborted": "unavailable",
    "ConditionalRequestConflict": "unavailable",
}
_BY_STATUS: dict[int, Kind] = {
    301: "region",
    401: "credentials",
    403: "permission",
    405: "unsupported",
    408: "unavailable",
    409: "unavailable",
    416: "past_end",
    429: "unavailable",
    501: "unsupported",
}
_AGAIN = "run the same command again: it goes on with what is missing"
_FOR_AZURE = (
    "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or run where the "
    "machine has an identity"
)
_FOR_S3 = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where the machine has a role; for a "
    "public bucket set AWS_SKIP_SIGNATURE=true"
)
_CREDENTIALS = {  # what to do about them, by scheme
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login, or run where the machine "
    "has a service account; for a public bucket set GOOGLE_SKIP_SIGNATURE=true",
    **dict.fromkeys(("az", "azure", "abfs", "abfss"), _FOR_AZURE),
    **dict.fromkeys(("http", "https"), "use a URL that anybody may read"),
}
_SAID: dict[Kind, tuple[str, str]] = {
    "bucket": (
        "there is no such bucket or container",
        "correct the name in the URL, or make the bucket; with a service of your own, check AWS_ENDPOINT_URL",
    ),
    "permission": (
        "the storage refuses permission",
        "give the account that this runs as the right to list, read and, for a dump, to write below this URL, or use "
        "other credentials",
    ),
    "credentials": ("the storage has no credentials that it accepts", ""),
    "expired": (
        "the credentials of the storage have expired",
        f"renew them (aws sso login, a new token), and {_AGAIN}",
    ),
    "clock": ("the clock of this machine is off", f"set it (timedatectl, chronyc makestep), and {_AGAIN}"),
    "region": ("the bucket is in another region", "set AWS_REGION to the region of the bucket"),
    "address": ("this is not the URL of a storage", "correct the URL, or AWS_ENDPOINT_URL"),
    "unsupported": ("the storage does not do this", "use a service that does, or copy the files to a disk first"),
    "changed": ("an object was replaced while it was read", _AGAIN),
    "unavailable": (
        "the storage does not answer, or asks to come again later",
        f"check the network, AWS_ENDPOINT_URL and the state of the service, and {_AGAIN}",
    ),
    "unknown": ("the storage refuses a request", "see what it says; docs/STORAGE.md names the settings"),
}


def kind_of(error: BaseException) -> Kind:
    """What sort of refusal an error of obstore, or of what gives it credentials, is."""
    text = str(error)
    name = type(error).__name__
    if _NO_CREDENTIALS.search(text) or _NO_CREDENTIALS.search(name):
        return "credentials"
    if (code := _CODE.search(text)) and code[1] in _BY_CODE:
        return _BY_CODE[code[1]]
    if isinstance(error, FileNotFoundError):
        return "missing"
    by_class: dict[str, Kind] = {
        "AlreadyExistsError": "exists",
        "PreconditionError": "changed",
        "NotSupportedError": "unsupported",
        "NotImplementedError": "unsupported",
        "UnauthenticatedError": "credentials",
        "UnknownConfigurationKeyError": "address",
        "InvalidPathError": "address",
    }
    if name in by_class:
        return by_class[name]
    if status := _STATUS.search(text):
        number = int(status[1])
        return _BY_STATUS.get(number, "unavailable" if number >= 500 else "unknown")
    if name == "PermissionDeniedError":
        return "permission"
    if _CONNECTION.search(text) or isinstance(error, TimeoutError | ConnectionError):
        return "unavailable"
    return "address" if "URL" in text else "unknown"


def detail_of(error: BaseException) -> str:
    """What a server or the connection said, in some words: "503 SlowDown", "Connection refused"."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    if status or code:
        return printable(" ".join(found[1] for found in (status, code) if found))
    if _CONNECTION.search(text):
        causes = [one or other for one, other in _CAUSE.findall(text)]
        return printable(causes[-1] if causes else "no whole answer came in time")
    return printable(text.partition("\n")[0])[:200] or type(error).__name__


def refusal(error: BaseException, kind: Kind, action: str, url: str, tries: int = 1) -> StorageError:
    """The error for people.

    Args:
        action: what was asked for, such as ``read``.
        tries: how often it was.
    """
    what, fix = _SAID.get(kind, _SAID["unknown"])
    if kind in ("credentials", "permission"):
        scheme = url.partition("://")[0]
        fix = f"{fix}; or {_CREDENTIALS.get(scheme, _FOR_S3)}".removeprefix("; or ")
    made = StorageUnavailableError if kind in ("unavailable", "changed") else StorageError
    often = f", {tries} times" if tries > 1 else ""
    refused = made(what, where=url, found=f"{detail_of(error)}, when asked to {action}{often}", fix=fix)
    refused.kind = kind
    return refused
