"""A report as Markdown; drawings are files beside it."""

from spikebottlenet.lab.report.document import Block, Document, Figure, Folded, Notes, Table
from spikebottlenet.lab.report.page import stylesheet


def markdown(document: Document) -> str:
    """The whole text."""
    parts = [f"# {_safe(document.title)}", *document.lines]
    for section in document.sections:
        parts.append(f"## {_safe(section.title)}")
        for block in section.blocks:
            parts += _block(block)
    return "\n\n".join(parts) + "\n"


def drawings(document: Document) -> dict[str, str]:
    """Every drawing as an SVG file of its own, by the name that the Markdown calls it."""
    found = {}
    for section in document.sections:
        for block in section.blocks:
            inside = block.blocks if isinstance(block, Folded) else (block,)
            for each in inside:
                if isinstance(each, Figure):
                    found[f"{each.key}.svg"] = _alone(each.svg)
    return found


def _alone(svg: str) -> str:
    """A drawing with its own colours, light and dark."""
    colours = stylesheet("style.css").partition("* {")[0].replace(":root", "svg")
    style = f"<style>{colours}{stylesheet('plot.css')}svg {{ background: var(--paper); }}</style>"
    head, _, rest = svg.partition(">")
    return f"{head}>{style}{rest}\n"


def _block(block: Block) -> list[str]:
    if isinstance(block, Folded):
        return [line for each in block.blocks for line in _block(each)]
    heading = f"### {_safe(block.title)}"
    if isinstance(block, Notes):
        return [heading, "\n".join(f"- {line}" for line in block.lines)]
    note = [block.note] if block.note else []
    if isinstance(block, Table):
        return [heading, _table(block), *note]
    keys = "; ".join(f"{key.name} ({key.shape})" for key in block.legend)
    marks = [f"Marks: {keys}."] if keys else []
    return [heading, f"![{_safe(block.title)}]({block.key}.svg)", *marks, *note]


def _table(table: Table) -> str:
    rule = ["---:" if index in table.numbers else "---" for index in range(len(table.columns))]
    rows = [list(table.columns), rule, *[[_safe(cell) for cell in row] for row in table.rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _safe(text: str) -> str:
    """Text that neither ends a cell nor begins a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
