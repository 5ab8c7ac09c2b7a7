"""A report as one HTML page that fetches nothing: style and drawings are inside it."""

from html import escape
from importlib import resources

from spikebottlenet.lab.report.document import (
    Block,
    Document,
    Figure,
    Folded,
    Notes,
    Section,
    Table,
)
from spikebottlenet.lab.report.plot import mark_svg

_STATES = ("hit", "missed")


def stylesheet(name: str) -> str:
    """A style sheet of this package."""
    return resources.files("spikebottlenet.lab.report").joinpath(name).read_text("utf-8")


def html_page(document: Document) -> str:
    """The whole page."""
    lines = "".join(f"<p>{escape(line)}</p>" for line in document.lines)
    sections = "".join(_section(section) for section in document.sections)
    style = stylesheet("style.css") + stylesheet("plot.css")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>{escape(document.title)}</h1>\n{lines}\n{sections}</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts, figures = list[str](), list[str]()
    for block in section.blocks:
        if isinstance(block, Figure):  # neighbours share a row where there is room
            figures.append(_block(block, 3, section.title))
            continue
        if figures:
            parts.append(f'<div class="plots">{"".join(figures)}</div>')
            figures = []
        parts.append(_block(block, 3, section.title))
    if figures:
        parts.append(f'<div class="plots">{"".join(figures)}</div>')
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{chr(10).join(parts)}\n</section>\n"


def _block(block: Block, level: int, where: str) -> str:
    if isinstance(block, Folded):
        inside = "".join(_block(each, level + 1, where) for each in block.blocks)
        return f"<details><summary>{escape(block.title)}</summary>{inside}</details>"
    heading = f"<h{level}>{escape(block.title)}</h{level}>"
    if isinstance(block, Notes):
        items = "".join(f"<li>{_text(line)}</li>" for line in block.lines)
        return f"{heading}<ul>{items}</ul>"
    note = f'<p class="note">{escape(block.note)}</p>' if block.note else ""
    if isinstance(block, Table):
        return heading + _table(block, where) + note
    items = "".join(
        f"<li>{mark_svg(key.shape, key.colour)}{escape(key.name)}</li>" for key in block.legend
    )
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    return f"<figure>{heading}{legend}{block.svg}<figcaption>{note}</figcaption></figure>"


def _table(table: Table, where: str) -> str:
    head = "".join(
        f'<th scope="col"{_number(table, index)}>{escape(name) or "result"}</th>'
        for index, name in enumerate(table.columns)
    )
    body = "".join(_row(table, row) for row in table.rows)
    label = escape(f"{table.title} ({where})", quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(table: Table, row: tuple[str, ...]) -> str:
    first, *others = row
    cells = f'<th scope="row">{_text(first)}</th>'
    for index, cell in enumerate(others, 1):
        kind = f' class="{cell}"' if cell in _STATES else _number(table, index)
        text = f"<code>{escape(cell)}</code>" if table.columns[index] == "command" else _text(cell)
        cells += f"<td{kind}>{text}</td>"
    return f"<tr>{cells}</tr>"


def _number(table: Table, index: int) -> str:
    return ' class="number"' if index in table.numbers else ""


def _text(line: str) -> str:
    """Text with what stands between backquotes as code."""
    parts = escape(line).split("`")
    if len(parts) % 2 == 0:
        return escape(line)
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))
