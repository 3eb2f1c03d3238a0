"""Connection parameters for PostgreSQL from a secret. The operator's program imports this module too.

One place decides which certificates are trusted and what is sent to a server, so that no caller is less strict.
"""

import json
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from load_postgres.errors import UnavailableError

# The server chooses the authentication method. A server that was not verified could ask for the password in clear text.
NO_CLEARTEXT = "!password"
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
CERTIFICATE = re.compile(f"{BEGIN}(.*?){END}", re.DOTALL)


def region_of(secret: str) -> str | None:
    """The region in an ARN; None for a secret's name, which is looked up in the caller's region."""
    parts = secret.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) >= 7 else None


def secret_text(secret: str, client: Callable[[str | None], Any]) -> str:
    """A secret's text, by its name or ARN. `client` returns a Secrets Manager client for a region; its errors pass."""
    return str(client(region_of(secret)).get_secret_value(SecretId=secret).get("SecretString", ""))


def settings_of(text: str) -> dict[str, Any]:
    """The settings in a secret's text. Errors: UnavailableError (not a JSON object)."""
    try:
        found = json.loads(text)
    except ValueError:  # its message could quote the secret
        raise UnavailableError("the secret is not JSON") from None
    if not isinstance(found, dict):
        raise UnavailableError("the secret is not a JSON object")
    return found


def parameters(secret: Mapping[str, Any], *, verify: bool) -> dict[str, Any]:
    """What psycopg connects with. `verify`: the server must prove by its certificate that it is the secret's host.

    Errors: UnavailableError (the secret lacks something).
    """
    # What is pasted often has white space at its ends. A password may have it.
    pasted = {name: str(secret.get(name) or "").strip() for name in ("host", "dbname", "username", "port")}
    needed = {**pasted, "password": secret.get("password")}
    if missing := [name for name in ("host", "dbname", "username", "password") if not needed[name]]:
        raise UnavailableError(f"the secret lacks {', '.join(missing)}")
    given = {"port": pasted["port"]} if pasted["port"] else {}
    # A verified server may ask for the password itself: LDAP, PAM and IAM tokens need that.
    guard = {} if verify else {"require_auth": NO_CLEARTEXT}
    return {
        **given,
        **guard,
        "host": pasted["host"],
        "dbname": pasted["dbname"],
        "user": pasted["username"],
        "password": str(secret["password"]),
        "sslmode": "verify-full" if verify else "require",
        "sslrootcert": authorities(str(secret.get("sslrootcert") or "")) if verify else "",
        "gssencmode": "disable",
        "connect_timeout": 10,
    }


def guarded(conninfo: str) -> str:
    """The connection string, changed to send no clear-text password unless it sets `require_auth` or verifies."""
    given = conninfo_to_dict(conninfo)
    says = "require_auth" in given or "PGREQUIREAUTH" in os.environ
    verifies = given.get("sslmode", os.environ.get("PGSSLMODE")) == "verify-full"
    return conninfo if says or verifies else make_conninfo(conninfo, require_auth=NO_CLEARTEXT)


@cache
def authorities(certificates: str) -> str:
    """The path of a file with the secret's certificates, or with those that the system trusts."""
    if not certificates:
        return ssl.get_default_verify_paths().cafile or "system"
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write("".join(map(with_line_ends, CERTIFICATE.finditer(certificates))) or certificates)
    return file.name


def with_line_ends(certificate: re.Match[str]) -> str:
    """A certificate whose line ends were pasted as blanks, or as the characters that JSON has for them."""
    encoded = re.sub(r"\\[nr]|\s", "", certificate[1])
    return "\n".join([BEGIN, *(encoded[at : at + 64] for at in range(0, len(encoded), 64)), END, ""])
