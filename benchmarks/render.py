"""`python -m benchmarks.render`: the table of `docs/performance.md` and its plot, from the JSON of the runs."""

from pathlib import Path

from benchmarks.__main__ import PARTS, read
from benchmarks.harness import Figure, number
from benchmarks.workload import SIZES

_DOCS = Path(__file__).parent.parent / "docs"
_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"
_PLOTTED = {
    "pipeline-duckdb": ("pipeline report", "DuckDB, pipeline report"),
    "funnel-duckdb": ("funnel of one quarter", "DuckDB, funnel"),
    "funnel-pandas": ("", "pandas, funnel"),
    "fresh-1000": ("first answer after 1,000 events", ""),
    "rebuild": ("rebuild", "rows written again"),
}


def figures(size: str) -> list[Figure]:
    """Every figure of a size."""
    parts = read(size).parts
    return [line for part in PARTS if part in parts for line in parts[part][2]]


def tables() -> str:
    """A table for each size, the largest first, with what each figure is about below it."""
    parts = []
    for size in "LMS":
        found = figures(size)
        if not found:
            continue
        parts.append(f"### {size}: {SIZES[size].deals:,} deals\n")
        parts.append("| what | against | ratio | bar | ours | theirs | rounds |\n|---|---|--:|---|--:|--:|--:|")
        parts += [_row(line) for line in found]
        parts.append("\nWhat is timed, and how either side is set:\n")
        parts += [f"- {what}: {timed}." for timed, what in _settings(found).items()]
        about = read(size).parts.items()
        parts.append("\n" + "\n".join(f"- Measured `{part}` on {day}: {on}." for part, (day, on, _) in about) + "\n")
    return "\n".join(parts)


def _row(line: Figure) -> str:
    verdict = {True: " ✓", False: " **missed**", None: ""}[line.met]
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}×"
    theirs = "" if line.theirs is None else f"{number(line.theirs)} {line.unit}"
    what = line.what if line.size != "H" else f"{line.what} (H)"
    ours = f"{number(line.ours)} {line.unit}"
    return f"| {what} | {line.against} | {ratio} | {line.bar}{verdict} | {ours} | {theirs} | {line.rounds} |"


def _settings(found: list[Figure]) -> dict[str, str]:
    """What each setting belongs to, those that several lines share said once."""
    shared: dict[str, list[str]] = {}
    for line in found:
        shared.setdefault(line.timed, []).append(f"{line.what} ({line.against})" if line.against else line.what)
    return {timed: "; ".join(dict.fromkeys(whats)) for timed, whats in shared.items()}


def plot(path: Path) -> None:
    """Times against sizes, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "dealtrail"
    from matplotlib import pyplot

    chart, axes = pyplot.subplots(figsize=(8, 5))
    by_size = {size: {line.row: line for line in figures(size)} for size in "SML"}
    for color, (row, labels) in enumerate(_PLOTTED.items()):
        for label, field, style in ((labels[0], "ours", "o-"), (labels[1], "theirs", "s--")):
            if not label:
                continue
            points = [
                (SIZES[size].deals, getattr(lines[row], field) * (1_000 if lines[row].unit == "s" else 1))
                for size, lines in by_size.items()
                if row in lines
            ]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=f"C{color}", label=label)
    axes.set(xscale="log", yscale="log", xlabel="deals (about 6 events each)", ylabel="milliseconds")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize="small")
    chart.tight_layout()
    chart.savefig(path, metadata={"Date": None})


def main() -> None:
    """Write both."""
    page = _DOCS / "performance.md"
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}\n\n{tables()}\n{_END}{after}")
    plot(_DOCS / "performance.svg")


if __name__ == "__main__":
    main()
