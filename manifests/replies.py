"""What a reply of a service with an error means, as an error that says so in any process.

s3fs keeps the reply as the cause of its error, which is lost on the way to another process, and makes a plain
OSError of a code that it does not know.
"""

LESS_OFTEN = (429, 503)  # HTTP: too many requests, slow down


class Throttled(ConnectionError):
    """A store that all ask has had enough of being asked: whoever uses it should wait."""

    error_class = "SHARED"


def by_reply(error: OSError) -> OSError:
    """The error that a reply's status calls for; the same one where there is none, or it says no more."""
    reply = getattr(error.__cause__, "response", None) or {}
    status = reply.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0
    if status in LESS_OFTEN:
        return Throttled(f"{error} (HTTP {status})")
    if status >= 500 and error.errno is None:
        return ConnectionError(f"{error} (HTTP {status})")
    return error
