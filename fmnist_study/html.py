"""Tables and forest plots as HTML that stands in a notebook without scripts."""

from collections.abc import Callable, Sequence
from html import escape

from analysis.quantity import Quantity
from analysis.statistics.effects import Effect
from analysis.table_formats import Block, Page
from fmnist_common.text import level_text

ROW, NAMES, WIDTH = 20, 220, 640  # pixels


def page(made: Page, notes: bool = True) -> str:
    """Write the blocks of a table, and how to read them."""
    parts = [f"<b>{escape(made.title)}</b>", *map(_block, made.blocks)]
    if notes and made.notes:
        parts.append(f"<small>{escape(' '.join(made.notes))}</small>")
    return "\n".join(parts)


def _block(block: Block) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in block.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in block.rows
    )
    title = f"<caption>{escape(block.title)}</caption>" if block.title else ""
    return f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def forest(effects: Sequence[Effect], quantity: Quantity) -> str:
    """Draw each difference with its 95 % interval, as SVG; "" where there is none."""
    drawn = [effect for effect in effects if effect.delta is not None]
    if not drawn:
        return ""
    ends = [abs(end) for effect in drawn for end in _ends(effect)]
    reach = max(ends) or 1.0
    middle, scale = (NAMES + WIDTH) / 2, (WIDTH - NAMES) / 2 / reach

    def x(value: float) -> float:
        return round(middle + scale * value, 1)

    height = ROW * (len(drawn) + 1)
    rows = [f'<line x1="{middle}" x2="{middle}" y1="0" y2="{height - ROW}" stroke="#999"/>']
    for number, effect in enumerate(drawn):
        y = ROW * number + ROW // 2
        rows.append(_drawn(effect, y, x))
    words = escape(f"0; the edges are ±{quantity.number(reach)}: difference, 95 % interval")
    rows.append(
        f'<text x="{middle}" y="{height - 4}" text-anchor="middle" '
        f'fill="currentColor">{words}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 10}" height="{height}" '
        f'font-size="12" role="img">{"".join(rows)}</svg>'
    )


def _drawn(effect: Effect, y: int, x: Callable[[float], float]) -> str:
    """Draw an effect at a height: its name, its interval, its dot, filled where it excludes 0."""
    low, high = _ends(effect)
    name = escape(f"{effect.factor} {level_text(effect.level)}"[:34])
    fill = "#1f77b4" if (low > 0 or high < 0) else "#fff"
    return (
        f'<text x="0" y="{y + 4}" fill="currentColor">{name}</text>'
        f'<line x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}" stroke="#1f77b4"/>'
        f'<circle cx="{x(effect.delta or 0)}" cy="{y}" r="4" fill="{fill}" stroke="#1f77b4"/>'
    )


def _ends(effect: Effect) -> tuple[float, float]:
    delta = effect.delta or 0.0
    return (
        delta if effect.delta_low is None else effect.delta_low,
        delta if effect.delta_high is None else effect.delta_high,
    )


def frame(page: str, height: int = 720) -> str:
    """Show a whole page, scripts and all, within another."""
    sandbox = "allow-scripts allow-downloads"
    return (
        f'<iframe srcdoc="{escape(page)}" sandbox="{sandbox}" width="100%" height="{height}" '
        'style="border: 0"></iframe>'
    )
