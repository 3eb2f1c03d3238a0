"""Who may use the local AWS: programs on this machine that know its key, and callers of the webhook.

The local AWS runs functions as the developer's user. Any web page that the developer visits, and any account on the
machine, can send requests to a loopback port, so the address alone must not be enough. (MiniStack accepts any key.)
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

type Scope = Mapping[str, Any]
type Application = Callable[..., Awaitable[None]]

# Browsers send these headers to say where a request comes from; programs do not.
OF_BROWSERS = ("origin", "sec-fetch-site")
# Paths that need no key: the webhook, as in AWS; the health check; answers to CloudFormation, whose URL is secret.
OPEN_PATHS = ("/_alb/", "/_aws/execute-api/", "/_ministack/health", "/_ministack/cfn-response/")


class Guard:
    """An ASGI application in front of MiniStack's. `knows`: whether this local AWS issued a key."""

    def __init__(self, application: Application, hosts: frozenset[str], knows: Callable[[str], bool]) -> None:
        self.application = application
        self.hosts = hosts
        self.knows = knows

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or (reason := self.refusal(scope)) is None:
            await self.application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = reason.encode() + b"\n"
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def refusal(self, scope: Scope) -> str | None:
        """Why the request is refused; None if it is not."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        if any(name in headers for name in OF_BROWSERS):
            return "The local AWS answers no browser: this request has an Origin or Sec-Fetch-Site header."
        if host_name(headers.get("host", "")) not in self.hosts:
            return "The local AWS answers to its own address only: the Host header names another."
        if not scope["path"].startswith(OPEN_PATHS) and not self.knows(access_key(headers, scope["query_string"])):
            return "The local AWS does not know this access key: take the environment that `make local` prints."
        return None


def host_name(host: str) -> str:
    """Without the port."""
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0].lower()


def access_key(headers: Mapping[str, str], query: bytes) -> str:
    """The access key of a signed request or a signed link; '' if there is none."""
    authorization = headers.get("authorization", "")
    if "Credential=" in authorization:
        return authorization.partition("Credential=")[2].partition("/")[0]
    asked = parse_qs(query.decode("latin-1"))
    credential: str = (asked.get("X-Amz-Credential") or asked.get("AWSAccessKeyId") or [""])[0]
    return credential.partition("/")[0]
