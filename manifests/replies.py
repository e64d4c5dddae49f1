"""What a service's reply with an error means, as an error that says so in any process.

Clients of services keep a reply beside their errors, where it is lost on the way to another process, and have
no common word for a status. Decides: of which class an error is. Does not decide what is done (patience).
"""

LESS_OFTEN = frozenset({429, 503})  # HTTP: too many requests, slow down
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class Throttled(ConnectionError):
    """A store that all ask has had enough of being asked: whoever uses it should wait."""

    error_class = "SHARED"


class UploadGone(ConnectionError):
    """An upload in parts that the service does not know: a request whose reply was lost may have ended it."""


def meant(status: int, said: str) -> OSError:
    """The error that a reply of this HTTP status is: ConnectionError if the same request may do better."""
    told = f"{said} (HTTP {status})"
    if status in LESS_OFTEN:
        return Throttled(told)
    if status in PASSING:
        return ConnectionError(told)
    if status in (401, 403):
        return PermissionError(told)
    if status == 404:
        return FileNotFoundError(told)
    return FileExistsError(told) if status == 412 else OSError(told)
