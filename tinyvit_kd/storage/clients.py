"""Makes obstore's clients: endpoints, timeouts, and where credentials come from."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tinyvit_kd.errors import ConfigError, StorageError
from tinyvit_kd.storage.refusals import kind_of, refusal

if TYPE_CHECKING:
    from obstore.store import ObjectStore

S3_SCHEMES = ("s3", "s3a")
OTHER_SCHEMES = ("gs", "az", "azure", "abfs", "abfss")
WEB_SCHEMES = ("http", "https")
CONNECT_TIMEOUT = 5  # seconds
READ_TIMEOUT = 20  # seconds without a byte
_WHOLE_TIMEOUT = 300  # seconds for a request of 16 MiB
FIRST_WAIT, LONGEST_WAIT = 0.1, 8.0  # seconds before a request is made again
_NO_END = 1_000_000  # retries: their time is limited, not their number
# With one of these, obstore finds credentials by itself.
_OWN_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def client_of(url: str, patience: float = 0.0) -> ObjectStore:
    """The client of an object store or web server, below a URL. No request is made yet, but for credentials' files.

    Args:
        patience: seconds for which the client makes a request again by itself, which is not counted; 0: it does not.

    Raises:
        ConfigError: a package is missing.
        StorageError: the URL is none, or the credentials that a profile names cannot be had.
    """
    try:
        import tenacity  # noqa: F401 - requests need it
        from obstore.exceptions import BaseError
        from obstore.store import HTTPStore, from_url
    except ImportError as error:
        raise ConfigError(
            "reading and writing URLs of object stores takes a package that is not installed",
            where=url,
            found=f"no {error.name or 'obstore'}",
            fix=f"pip install 'tinyvit_kd[{_extra(url)}]'",
        ) from None
    scheme = url.partition("://")[0]
    if scheme in WEB_SCHEMES and ("?" in url or "#" in url):
        raise ConfigError(
            "a URL with a query does not name a folder of a web server",
            where=url.partition("?")[0],
            fix="give the URL of the folder, or fetch what it stands for to a disk",
        )
    options: dict[str, Any] = {
        "client_options": {
            "connect_timeout": f"{CONNECT_TIMEOUT}s",
            "read_timeout": f"{READ_TIMEOUT}s",
            "timeout": f"{_WHOLE_TIMEOUT}s",
            "allow_http": True,
        },
        "retry_config": {
            "max_retries": _NO_END if patience else 0,
            "retry_timeout": timedelta(seconds=patience),
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_WAIT),
                "max_backoff": timedelta(seconds=LONGEST_WAIT),
                "base": 2,
            },
        },
    }
    try:
        if scheme in S3_SCHEMES:
            options |= _s3_options()
        # A web server is asked as one, whatever its name: from_url takes some for S3, which wants credentials.
        make: Any = HTTPStore.from_url if scheme in WEB_SCHEMES else from_url
        store: ObjectStore = make(url if scheme in WEB_SCHEMES else _literal(url), **options)
    except (BaseError, ValueError) as error:
        kind = kind_of(error)
        raise refusal(error, "address" if kind == "unknown" else kind, "open it", url) from error
    return store


def _extra(url: str) -> str:
    scheme = url.partition("://")[0]
    return {"gs": "gs", "az": "az", "azure": "az", "abfs": "az", "abfss": "az"}.get(scheme, "s3")


def _s3_options() -> dict[str, Any]:
    """The endpoint, and credentials of a profile where there are no others: obstore itself does not read ~/.aws."""
    options: dict[str, Any] = {}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3"):
        options["endpoint"] = endpoint
    if not os.environ.get("AWS_SKIP_SIGNATURE") and not any(os.environ.get(name) for name in _OWN_CREDENTIALS):
        provider = _profile()
        if provider is not None:
            options["credential_provider"] = provider
    return options


def _profile() -> Any:
    """What gives the credentials of a profile in ~/.aws, single sign-on included; None if there is none."""
    named = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    files = [
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    ]
    if not named and not any(Path(file).expanduser().is_file() for file in files):
        return None
    try:
        import boto3
        import botocore.exceptions
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise ConfigError(
            "the credentials of a profile in ~/.aws take a package that is not installed",
            found=f"no {error.name}",
            fix="pip install 'tinyvit_kd[s3]', or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from None
    try:
        session = boto3.Session()
        return None if session.get_credentials() is None else Boto3CredentialProvider(session)
    except botocore.exceptions.BotoCoreError as error:
        raise StorageError(
            "the credentials of a profile in ~/.aws cannot be had",
            where=f"profile {named or 'default'}",
            found=str(error),
            fix="correct AWS_PROFILE or the files in ~/.aws; with single sign-on run aws sso login",
        ) from error


def _literal(url: str) -> str:
    """A URL of which the names are taken as they are written: obstore would cut off # and ?, and decode %."""
    scheme, _, rest = url.partition("://")
    bucket, slash, prefix = rest.partition("/")
    return f"{scheme}://{bucket}{slash}{quote(prefix)}"
