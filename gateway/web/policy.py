"""The Content-Security-Policy of the page."""

from urllib.parse import urlsplit

POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)


def content_security_policy(public_base_url: str) -> str:
    """Scripts and styles from files of this origin only, and pictures from where the status documents point too.

    The page shows files before they are sent, as `blob:` URLs. It sends requests to its own origin only, because the
    API sends no CORS headers.
    """
    base = urlsplit(public_base_url)
    return "; ".join((*POLICY, f"img-src 'self' blob: {base.scheme}://{base.netloc}"))
