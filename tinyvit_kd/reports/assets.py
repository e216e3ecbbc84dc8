"""Scripts and styles that stand in the page itself, and the policy that lets no others run and nothing be loaded."""

from __future__ import annotations

import base64
import gzip
import hashlib
import pkgutil
from dataclasses import dataclass
from functools import lru_cache

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.reports.markup import Html, element


@dataclass(frozen=True)
class Assets:
    """What a page needs besides its content.

    Attributes:
        head: policy and style, for the page's head.
        scripts: plotly, packed, and the page's own script, for its end.
    """

    head: Html
    scripts: Html


def require_plotly() -> None:
    """Check that plotly is installed, before anything else is done.

    Raises:
        ConfigError: it is not, with the command that installs it.
    """
    _plotly()


@lru_cache(maxsize=1)
def assets() -> Assets:
    """The page's scripts and styles.

    plotly's script has 4.8 MB; it is packed into 2 MB, and unpacked by the page's own script. The policy names the
    hashes of both, so no other script runs, whatever a name in the page may hold.

    Raises:
        ConfigError: plotly is not installed.
    """
    plotly, own = _plotly(), _own("page.js")
    packed = base64.b64encode(gzip.compress(plotly.encode(), 9, mtime=0)).decode()
    policy = (
        f"default-src 'none'; script-src {_hash(own)} {_hash(plotly)}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return Assets(
        head=_head(policy),
        scripts=Html(f'<script type="text/plain" id="plotly">{packed}</script><script>{own}</script>'),
    )


def style_alone() -> Assets:
    """What a page without charts needs: no script runs in it."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return Assets(_head(policy), Html(""))


def _head(policy: str) -> Html:
    style = element("style", Html(_own("page.css")))
    return Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">{style}')


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ConfigError(
            "a report draws its curves with plotly, which is not installed",
            where="tinyvit-kd report",
            fix="pip install 'tinyvit_kd[report]'",
        ) from None
    return str(get_plotlyjs())


def _own(name: str) -> str:
    content = pkgutil.get_data("tinyvit_kd.reports", f"page/{name}")
    assert content is not None
    return content.decode()


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
