"""Writes docs/results.md and docs/results-tables.md, and their pictures.

    python docs/generate_results.py

The prose is that of the templates beside them; every figure in a table, and what the prose asks
for, comes from a file in ``experiments/results``, made by
``fedpeft report SWEEP --records experiments/results/NAME.jsonl``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from options import DOCS, parser
from quotes import compared, over_users, quote, sweep
from tables import ablation, against, tables
from verdicts import claims, exceptions, swept, tally, targets, verdicts, won

PAGES = ("results.md", "results-tables.md")
GROUPS: dict[str, tuple[str, ...]] = {
    "DEFAULTS": ("P-LoRA", "P-Hash", "P-RQ"),
    "OTHERS": ("P-LoRA r=8", "P-RQ 170 x 4", "P-Hash, int4", "P-RQ, int4"),
    "WIDER": ("P-LoRA, k=64", "P-Hash, k=64", "P-RQ, k=64"),
    "FIFTH": ("P-LoRA, cohort .2", "P-LoRA r=8, int4, cohort .2"),
}
"""Strategies of the grid that stand in one table."""


def draw(name: str, title: str, of: str, strategies: Sequence[str], file: Path) -> None:
    """Draw cells of one facet: accuracy against bytes ("total"), or learning curves ("curves")."""
    from fedpeft.report.sweeps.charts import curves, pareto
    from fedpeft.report.theme import PICTURE, save_png

    facet = next(facet for facet in sweep(name) if facet.title == title)
    facet = replace(facet, cells=[c for c in facet.cells if c.labels["strategy"] in strategies])
    chart = (
        pareto(facet, "total", width=640, theme=PICTURE)
        if of == "total"
        else curves(facet, width=640, theme=PICTURE)
    )
    save_png(chart, file)


def draw_overview(name: str, strategies: Sequence[str], file: Path) -> None:
    """Draw how some strategies differ from the full table, in every facet of a sweep."""
    from fedpeft.report.sweeps.overview import overview
    from fedpeft.report.theme import PICTURE, save_png

    save_png(overview(sweep(name), width=760, theme=PICTURE, only=strategies), file)


def render(page: str, pictures: Path) -> str:
    """Return a page; its pictures are drawn into a folder."""

    def picture(name: str, title: str, of: str, strategies: Sequence[str]) -> str:
        words = "-".join(title.lower().replace(",", "").split())
        file = pictures / f"results-{name}-{words}-{of}.png"
        draw(name, title, of, strategies, file)
        what = {
            "total": "test NDCG@10 full against all bytes of a client",
            "curves": "validation NDCG@10 sampled against megabytes of a client",
        }[of]
        return f"![{title}: {what}](img/{file.name})\n"

    def overview(name: str, strategies: Sequence[str]) -> str:
        file = pictures / f"results-{name}-overview.png"
        draw_overview(name, strategies, file)
        return f"![difference in NDCG@10 full to the full table, cell by cell](img/{file.name})\n"

    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    told = (ablation, against, claims, compared, exceptions, over_users)
    told += (overview, picture, quote, swept, tables, tally, targets, verdicts, won)
    functions = {f.__name__: f for f in told}
    template = environment.from_string((DOCS / f"{page}.j2").read_text(encoding="utf-8"))
    return template.render(**functions, **GROUPS)


def main() -> None:
    """Write the pages and their pictures."""
    out = parser(__doc__).parse_args().out
    (out / "img").mkdir(exist_ok=True)
    for page in PAGES:
        (out / page).write_text(render(page, out / "img"), encoding="utf-8")
        print(out / page)


if __name__ == "__main__":
    main()
