"""What a service or a connection refuses is told apart, made again only where that helps, and said plainly."""

from __future__ import annotations

import http.client
import time
from pathlib import Path

import pytest

from tests.storage.s3 import BUCKET, S3Server
from tinyvit_kd.errors import StorageError, StorageUnavailableError
from tinyvit_kd.runtime import request_counts
from tinyvit_kd.storage import requests
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.storage.refusals import Kind, detail_of, kind_of

# As obstore 0.12 raised them.
TEXTS: dict[str, tuple[str, Kind, str]] = {
    "gone": (
        "Server returned non-2xx status code: 503 Service Unavailable: <Code>SlowDown</Code>",
        "unavailable",
        "503",
    ),
    "too many": ("Server returned non-2xx status code: 429 Too Many Requests: ", "unavailable", "429"),
    "bucket": ("status code: 404 Not Found: <Error><Code>NoSuchBucket</Code>", "bucket", "NoSuchBucket"),
    "denied": ("status code: 403 Forbidden: <Error><Code>AccessDenied</Code>", "permission", "AccessDenied"),
    "clock": ("status code: 403 Forbidden: <Code>RequestTimeTooSkewed</Code>", "clock", "RequestTimeTooSkewed"),
    "expired": ("status code: 400 Bad Request: <Code>ExpiredToken</Code>", "expired", "ExpiredToken"),
    "azure": ("status code: 403 Forbidden: <Code>AuthenticationFailed</Code>", "credentials", "AuthenticationFailed"),
    "google": ("status code: 401 Unauthorized: {}", "credentials", "401"),
    "instance": (
        "Error performing PUT http://169.254.169.254/latest/api/token in 1s - HTTP error: error sending request",
        "credentials",
        "no whole answer",
    ),
    "refused": (
        'HTTP error: error sending request\nkind: Connect, message: "Connection refused"',
        "unavailable",
        "Connection refused",
    ),
    "cut": (
        "Generic S3 error: HTTP error: request or response body error\nkind: Interrupted,",
        "unavailable",
        "no whole",
    ),
    "region": ("status code: 301 Moved Permanently: <Code>PermanentRedirect</Code>", "region", "PermanentRedirect"),
}


@pytest.mark.parametrize(("text", "kind", "said"), TEXTS.values(), ids=list(TEXTS))
def test_kinds_are_told_by_what_a_service_says(text: str, kind: Kind, said: str) -> None:
    assert kind_of(Exception(text)) == kind
    assert said in detail_of(Exception(text))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AccessDenied", "refuses permission"),
        ("ExpiredToken", "have expired"),
        ("InvalidAccessKeyId", "no credentials that it accepts"),
        ("SignatureDoesNotMatch", "no credentials that it accepts"),
        ("RequestTimeTooSkewed", "clock of this machine is off"),
    ],
)
def test_a_refusal_that_no_repetition_mends_is_said_at_once(s3: S3Server, code: str, expected: str) -> None:
    storage = open_storage(f"s3://{BUCKET}/refused")
    s3.faults.choose = lambda _number, _method, _path: code
    for ask in (lambda: storage.read("a"), lambda: storage.info("a"), lambda: storage.list()):
        s3.faults.requests.clear()
        with pytest.raises(StorageError, match=expected) as caught:
            ask()
        assert not caught.value.may_pass
        assert len(s3.faults.requests) <= 2  # the second asks why
    with pytest.raises(StorageError, match=expected):
        storage.write("a", b"1")


def test_a_bucket_that_is_not_there_is_no_missing_object(s3: S3Server) -> None:
    storage = open_storage("s3://there-is-no-such-bucket/x")
    del s3
    for ask in (
        lambda: storage.read("a"),
        lambda: storage.info("a"),
        lambda: storage.list(),
        lambda: storage.write("a", b""),
    ):
        with pytest.raises(StorageError, match="no such bucket"):
            ask()


def test_an_endpoint_that_does_not_answer_is_given_up(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    del s3
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(requests, "PATIENCE", 0.5)
    begin = time.monotonic()
    with pytest.raises(StorageUnavailableError, match=r"Connection refused.*times") as caught:
        open_storage(f"s3://{BUCKET}/x").read("a")
    assert caught.value.may_pass
    assert time.monotonic() - begin < 20


def test_refused_requests_are_counted(s3: S3Server) -> None:
    storage = open_storage(f"s3://{BUCKET}/counted")
    storage.write("a", b"12345")
    before = request_counts.total()
    s3.faults.choose = lambda number, _method, _path: "503" if number % 2 == 0 else None
    s3.faults.requests.clear()
    assert storage.read("a") == b"12345"
    assert request_counts.total() - before == request_counts.Counts(requests=2, refused=1, read=5)


def test_without_credentials_a_clear_error_comes_within_seconds(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del s3
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    begin = time.monotonic()
    with pytest.raises(StorageError, match=r"AWS_ACCESS_KEY_ID.*AWS_PROFILE"):
        open_storage(f"s3://{BUCKET}/x").read("a")
    assert time.monotonic() - begin < 10


def test_a_public_bucket_needs_no_credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = http.client.HTTPConnection(s3.direct.removeprefix("http://"))
    connection.request("PUT", f"/{BUCKET}/public/a", b"1", {"x-amz-acl": "public-read"})
    assert connection.getresponse().status == 200
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert open_storage(f"s3://{BUCKET}/public").read("a") == b"1"


def test_a_profile_gives_credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    del s3
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = an-id\naws_secret_access_key = a-secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    storage = open_storage(f"s3://{BUCKET}/profile")
    storage.write("a", b"1")
    assert storage.read("a") == b"1"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match="profile nobody"):
        open_storage(f"s3://{BUCKET}/profile").read("a")
