"""HTML and SVG that cannot be injected into: every text is escaped on its way in, unless this module made it."""

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"br", "circle", "img", "line", "meta", "path", "rect"})


class Markup(str):
    """Text that is markup already. Made by `tag` and `join` alone."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. Children that are not `Markup` are escaped; `None` among children and attributes is left out.

    Attribute names give `_` for `-`; a trailing `_` is dropped.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Markup:
    """Several pieces one after the other, escaped where they are not markup."""
    return Markup("".join(_safe(child) for child in children if child is not None))


def table(head: Iterable[object], rows: Iterable[Iterable[object]], *, foot: Iterable[object] = ()) -> Markup:
    """A table that scrolls sideways where it does not fit. Headings that start with `#` are numbers, set right.

    >>> "<td>x</td>" in table(["name"], [["x"]])
    True
    """
    titles = list(head)
    numeric = [isinstance(title, str) and title.startswith("#") for title in titles]

    def cells(kind: str, row: Iterable[object]) -> Markup:
        return join(
            tag(kind, cell, class_="number" if is_number else None)
            for cell, is_number in zip(row, numeric, strict=True)
        )

    shown = [title.removeprefix("#") if isinstance(title, str) else title for title in titles]
    bottom = list(foot)
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", cells("th", shown))),
            tag("tbody", *(tag("tr", cells("td", row)) for row in rows)),
            tag("tfoot", tag("tr", cells("td", bottom))) if bottom else None,
        ),
        class_="scroll",
    )


def _safe(child: object) -> str:
    """Escaped, and with a number held on the line of its percent sign."""
    return child if isinstance(child, Markup) else escape(str(child)).replace(" %", "\u00a0%")
