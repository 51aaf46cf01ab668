"""Small pieces of HTML, every text escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from bmapest_ray.figures.chart_parts import Chart, plotly_javascript


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], caption: str, *, best: int | None = None
) -> str:
    """Return a table whose first column names the row; row `best` is set off."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(_row(row, strong=index == best) for index, row in enumerate(rows))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(cells: Sequence[str], *, strong: bool) -> str:
    kind = ' class="best"' if strong else ""
    rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
    return f'<tr{kind}><th scope="row">{escape(cells[0])}</th>{rest}</tr>'


def chart(name: str, drawn: Chart) -> str:
    """Return a chart's place and its data; the page's script draws it."""
    data = drawn.json.replace("</", "<\\/")
    return (
        f'<figure><div class="chart" id="{name}" role="img" '
        f'aria-label="{escape(drawn.title)}: {escape(drawn.description)}"></div>'
        f"<figcaption>{escape(drawn.description)}</figcaption>"
        f'<script type="application/json" data-chart="{name}">{data}</script></figure>'
    )


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def section(name: str, title: str, *parts: str) -> str:
    """Return a section, or nothing where it has no content."""
    content = "".join(parts)
    if not content:
        return ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{content}</section>'


def bullets(lines: Iterable[str], kind: str) -> str:
    """Return a list; nothing where there are no lines."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def page(title: str, top: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """Return a whole page that needs nothing from outside itself.

    Parameters
    ----------
    title
        Of the window.
    top
        HTML above the table of contents.
    sections
        Name, title and HTML of each section; those without HTML are left out.
    """
    shown = [(name, heading, html) for name, heading, html in sections if html]
    links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in shown)
    here = files("bmapest_ray.report")
    names = ("page.css", "page.js", "maps.js")
    style, script, maps = ((here / name).read_text("utf-8") for name in names)
    body = "".join(section(name, heading, html) for name, heading, html in shown)
    library = plotly_javascript() if "data-chart=" in body else ""  # 5 MB that few pages need
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        '<button id="theme" type="button">Light / dark</button>'
        f'{top}<nav aria-label="Contents">{links}</nav>{body}</main>'
        f"<script>{library}</script><script>{script}</script><script>{maps}</script></body></html>\n"
    )
