"""A plot of requests per second as SVG, made by hand: a panel of bars for each kind of work."""

from __future__ import annotations

from html import escape

from .report import ROWS, number
from .results import Results
from .servers import SERVERS

CELLS = (
    "hello h2",
    "hello h1-tls",
    "post h2",
    "post h1-tls",
    "download h2",
    "upload h2",
    "fastapi h2",
    "hello h2c",
)
WIDTH, COLUMNS = 900, 2
PANEL_WIDTH = WIDTH / COLUMNS
NAME_WIDTH, NUMBER_WIDTH = 120, 70
TITLE_HEIGHT, BAR_HEIGHT, PANEL_GAP = 30, 20, 16

# Seen on a white and on a dark page alike: the page decides which of the two.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 13px; }
.own { fill: #1a7f5a; } .rival { fill: #8b98a9; } .limit { fill: #cfd6de; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .own { fill: #3fb984; } .rival { fill: #6e7b8b; } .limit { fill: #3c4653; }
}
"""


def svg(results: Results) -> str:
    """The cells that were measured, two panels beside each other."""
    cells = [cell for cell in CELLS if _bars(results, cell)]
    parts, top = [], 0.0
    for start in range(0, len(cells), COLUMNS):
        row = cells[start : start + COLUMNS]
        for column, cell in enumerate(row):
            parts.append(_panel(results, cell, column * PANEL_WIDTH, top))
        top += max(_panel_height(results, cell) for cell in row)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:g}" role="img">'
    title = "<title>Requests per second of each server, by kind of work</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"


def _bars(results: Results, cell: str) -> list[tuple[str, float]]:
    """Servers with their rates, the fastest first."""
    rates = [(name, results.value(cell, name, "rate") or 0.0) for name in SERVERS]
    return sorted([bar for bar in rates if bar[1]], key=lambda bar: -bar[1])


def _panel_height(results: Results, cell: str) -> float:
    return TITLE_HEIGHT + BAR_HEIGHT * len(_bars(results, cell)) + PANEL_GAP


def _panel(results: Results, cell: str, left: float, top: float) -> str:
    bars = _bars(results, cell)
    longest = PANEL_WIDTH - NAME_WIDTH - NUMBER_WIDTH
    # nginx may be far ahead of all applications: its bar is cut rather than theirs shrunk.
    most = max([rate for name, rate in bars if name != "nginx"], default=bars[0][1]) * 1.05
    lines = [f'<text class="title" x="{left + 8:g}" y="{top + 20:g}">{escape(ROWS[cell])}</text>']
    for number_of_bar, (name, rate) in enumerate(bars):
        y = top + TITLE_HEIGHT + BAR_HEIGHT * number_of_bar
        width = longest * min(1.0, rate / most)
        server = SERVERS[name]
        kind = "own" if server.own else "rival" if server.rival else "limit"
        x = left + NAME_WIDTH
        cut = " →" if rate > most else ""
        lines += [
            f'<text x="{x - 8:g}" y="{y + 14:g}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{x:g}" y="{y + 3:g}" width="{width:.1f}" height="14"/>',
            f'<text x="{x + width + 6:.1f}" y="{y + 14:g}">{number(rate)}{cut}</text>',
        ]
    return "\n".join(lines)
