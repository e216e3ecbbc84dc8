"""Says why a URL could not be fetched, as far as that can be found out."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from tinyvit_kd.errors import ShardError, TinyVitKdError, reason_of

_KEPT = "then run again; files that were fetched whole are kept"
_ASK_SECONDS = 20.0
_LOGIN = (
    "log in or get access first: hf:// URLs use the login of the Hugging Face command line; for other servers fetch "
    "the files ahead, or give pipe: with a command that sends the token"
)
_STATUS_FIXES = {
    401: _LOGIN,
    403: _LOGIN,
    404: f"there is no such file on the server: correct the URL, {_KEPT}",
    410: f"there is no such file on the server any more: correct the URL, {_KEPT}",
    429: f"the server was asked too often: wait, {_KEPT}",
}
# https://curl.se/docs/manpage.html, "EXIT CODES"
_CURL_CODES = {
    6: "the server's name is not known",
    7: "the server does not answer",
    18: "the connection broke off",
    22: "the server answered with an error",
    28: "the server took too long to answer",
    35: "no encrypted connection could be made",
    60: "the server's certificate is not trusted",
}
_NO_SUCH_PROGRAM = 127  # of a shell, by which webdataset before 1.0 called programs
_OTHER_PROGRAMS = {
    "s3": "pipe:aws s3 cp {url} -",
    "r2": "pipe:aws s3 cp {url} -",
    "az": "pipe:azcopy cp {url} --from-to BlobPipe",
    "hdfs": "pipe:hdfs dfs -cat {url}",
}


class NoHandlerError(LookupError):
    """Nothing opens URLs of this scheme."""


def unreachable(url: str, error: Exception, exit_code: int | None = None) -> ShardError:
    """The error for a URL that cannot be fetched.

    Args:
        url: it.
        error: what was raised while it was fetched.
        exit_code: of the program that fetched it; None if it is not known.
    """
    found, fix = _reason(url, error, exit_code)
    return ShardError("cannot fetch a file of the shard set", where=url, found=found, fix=fix)


def cannot_read(location: object, error: OSError) -> TinyVitKdError:
    """The error for a shard, or a file beside it, that the system or a storage refuses to read."""
    url = str(location)
    is_web = url.startswith(("http:", "https:"))
    if isinstance(error, TinyVitKdError) and (error.can_be_retried or not is_web):
        return error  # it says already what to do
    if is_web:
        return unreachable(url, error)
    if "://" in url and isinstance(error, FileNotFoundError):
        fix = f"there is no such object: correct the URL, or bring it there, {_KEPT}"
        return ShardError("cannot read a shard", where=url, found=reason_of(error), fix=fix)
    return ShardError("cannot read a shard", where=url, found=reason_of(error))


def _reason(url: str, error: Exception, exit_code: int | None) -> tuple[str, str]:
    scheme = urlsplit(url).scheme
    if isinstance(error, NoHandlerError):
        command = _OTHER_PROGRAMS.get(scheme, "pipe:COMMAND").format(url=url)
        return (
            f"nothing here opens {scheme}:// URLs",
            f"give a command that writes the file to its standard output, such as {command}, or copy the shards to a "
            "disk",
        )
    if scheme in ("http", "https") and isinstance(error, OSError):
        return _http_reason(url, exit_code, error)
    if isinstance(error, FileNotFoundError) and error.filename:
        return (
            f"the program {error.filename}, which opens {scheme}:// URLs, is not installed",
            f"install {error.filename}, or copy the shards to a disk, {_KEPT}",
        )
    if isinstance(error, ImportError):
        return (
            f"the Python package {error.name}, which opens {scheme}:// URLs, is not installed",
            f"install {error.name}, {_KEPT}",
        )
    if scheme in ("http", "https"):
        return _http_reason(url, exit_code, None)
    if exit_code == _NO_SUCH_PROGRAM and scheme != "pipe":
        return (
            f"the program that opens {scheme}:// URLs is not installed",
            f"install it, or copy the shards to a disk, {_KEPT}",
        )
    check = f"check the {'command' if scheme == 'pipe' else 'URL and the connection'}, {_KEPT}"
    if exit_code:
        said = f": {_CURL_CODES[exit_code]}" if "curl" in url and exit_code in _CURL_CODES else ""
        return f"the command ended with exit code {exit_code}{said}", check
    return f"{type(error).__name__}: {error}", check


def _http_reason(url: str, exit_code: int | None, error: OSError | TinyVitKdError | None) -> tuple[str, str]:
    """Ask the server again, for one byte: who fetches does not always say which error it was given.

    Args:
        exit_code: of the program that fetched it.
        error: of the storage that read it.
    """
    check = f"check the URL and the connection, {_KEPT}"
    request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})
    try:
        with urllib.request.urlopen(request, timeout=_ASK_SECONDS):
            pass
    except urllib.error.HTTPError as answer:
        phrase = http.client.responses.get(answer.code, "")
        fix = _STATUS_FIXES.get(answer.code, f"wait until the server is well, {_KEPT}")
        if answer.code == http.client.NOT_FOUND and set("*[") & set(urlsplit(url).path):
            fix = f"name the files of a server by braces, such as train-{{000000..000015}}.tar, not by * or [], {_KEPT}"
        return f"the server answered {answer.code} {phrase}".rstrip(), fix
    except (OSError, ValueError, http.client.HTTPException):
        pass  # then what was found out before is all that is known
    if isinstance(error, TinyVitKdError):
        return error.found or error.what, error.fix or check
    if error is not None:
        return reason_of(error), check
    return _CURL_CODES.get(exit_code or 0, f"curl ended with exit code {exit_code}"), check
