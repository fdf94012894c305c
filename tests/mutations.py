"""One-line mutations of the fold, each of which the model's test must notice: `python tests/mutations.py`.

Each is tried in a copy of the package; the script fails where one of them survives, or is no longer to be found.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLD = "dealtrail/projections/fold.py"
DEAL = "dealtrail/domain/deal.py"
MUTATIONS = [
    (FOLD, "before.to_at, before.end_known = at, position", "before.to_at, before.end_known = at, before.known_from"),
    (FOLD, "                before.known_to = position\n", "                before.known_to = FOREVER\n"),
    (FOLD, "if place <= last or entry.amends", "if entry.amends"),
    (FOLD, "elif before.from_at == at and before.known_from == position:", "elif before.from_at == at:"),
    (FOLD, "                    period.known_to = position\n", "                    period.known_to = position - 1\n"),
    (FOLD, "if state is not None and _same(state, period.state):", "if state is not None:"),
    (FOLD, "        position = step[-1].position\n", "        position = step[-1].position + 1\n"),
    (FOLD, "        del self._states[same:]\n", "        del self._states[same + 1 :]\n"),
    (FOLD, 'DealDisqualified: "disqualified"', 'DealDisqualified: "lost"'),
    (FOLD, "self.knowns.append(position)", "self.knowns.append(self.known_from)"),
    (DEAL, "entry.position if entry.amends is None else roots[entry.amends]", "entry.position"),
]


def survives(path: str, old: str, new: str) -> bool:
    """Whether the model's test stays green with one line of the code changed."""
    source = (ROOT / path).read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise SystemExit(f"{path}: {old!r} stands there {source.count(old)} times, not once")
    with tempfile.TemporaryDirectory() as folder:
        for part in ("dealtrail", "tests"):
            shutil.copytree(ROOT / part, Path(folder) / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        (Path(folder) / path).write_text(source.replace(old, new), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/test_model.py"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": folder},
            check=False,
            capture_output=True,
            text=True,
        )
    if done.returncode > 1:
        raise SystemExit(done.stdout + done.stderr)
    return done.returncode == 0


def main() -> None:
    """Try each mutation, and say which survived."""
    survivors = []
    for path, old, new in MUTATIONS:
        alive = survives(path, old, new)
        print(f"{'SURVIVED' if alive else 'noticed '} {path}: {old.strip()!r} -> {new.strip()!r}", flush=True)
        survivors += [old] * alive
    print(f"{len(MUTATIONS) - len(survivors)} of {len(MUTATIONS)} noticed")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
