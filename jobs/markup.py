"""HTML as values: an element is text that needs no escaping any more, and everything else is escaped.

Decides: what is escaped. Does not decide: what a page holds.
"""

import html


class Html(str):
    """Text that is HTML already."""


def tag(name: str, /, *children: str | None, **attributes: str | bool | None) -> Html:
    """An element. Children are escaped unless they are Html, attributes always; None and False are left out.

    A trailing underscore is dropped from an attribute's name (`class_`), others become hyphens.
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    start = name + "".join(_attribute(key, v) for key, v in given.items() if v is not None and v is not False)
    inner = "".join(c if isinstance(c, Html) else html.escape(c) for c in children if c is not None)
    return Html(f"<{start}>" if name in ("meta", "img", "track") else f"<{start}>{inner}</{name}>")


def _attribute(name: str, value: str | bool) -> str:
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
