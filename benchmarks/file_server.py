"""A folder as buckets that can be read: what GET, HEAD and listing of the S3 protocol ask for, ranges included.

Command:  python -m benchmarks.file_server FOLDER PORT
Result:   none; it serves until it is killed. FOLDER/BUCKET/KEY is an object.

moto's server copies a whole object for each range of it, so that requests take the longer the larger shards are. This
one reads what is asked for, as real services do. It takes any credentials and refuses to write.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

from flask import Flask, Response, request, send_from_directory
from werkzeug.serving import run_simple

from benchmarks.loopback import LOOPBACK


def application(folder: Path) -> Flask:
    """The server of a folder."""
    served = Flask(__name__)

    @served.get("/<bucket>")
    def listed(bucket: str) -> Response:
        prefix = request.args.get("prefix", "")
        files = [path for path in sorted((folder / bucket / prefix).glob("*")) if path.is_file()]
        objects = "".join(_described(path, f"{prefix}{path.name}") for path in files)
        return Response(f"<ListBucketResult>{objects}</ListBucketResult>", mimetype="application/xml")

    @served.get("/<path:name>")
    def read(name: str) -> Response:
        return send_from_directory(folder, name, conditional=True)

    return served


def _described(path: Path, key: str) -> str:
    info = path.stat()
    modified = datetime.fromtimestamp(info.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified><ETag>{info.st_ino}</ETag>"
        f"<Size>{info.st_size}</Size></Contents>"
    )


if __name__ == "__main__":
    run_simple(LOOPBACK, int(sys.argv[2]), application(Path(sys.argv[1]).resolve()), threaded=True)
