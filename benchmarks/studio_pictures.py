"""Take the pictures of the studio that the README shows, with Chromium.

    python benchmarks/studio_pictures.py RUN [FOLDER] [--width 1200] [--dark] [--all]

Serves a run as ``cai studio`` does and writes ``studio-chain.png`` and ``studio-label.png`` to the
folder, by default docs/images. With ``--all``, also the other pages, to look at.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

HEIGHTS = {"chain": 840, "label": 640}
"""Pixels of the pictures for the README."""


def chain(run: Path) -> str:
    """Id of the revision whose rounds each find a problem, and whose draft is short."""

    def worth(revision: dict) -> tuple[int, int]:
        found = sum(step["critique"].startswith("Problem") for step in revision["steps"])
        return found, -len(revision["sample"]["response"])

    lines = (run / "revise/records.jsonl").read_text(encoding="utf-8").splitlines()
    return str(max(map(json.loads, lines), key=worth)["id"])


def pages(run: Path, *, every: bool) -> Iterator[tuple[str, str, dict[str, str]]]:
    """The name, the path below that of the run and the parameters of each page."""
    revision = {"id": chain(run)}
    yield "chain", "revise/record", revision
    yield (
        "label",
        "judge/label",
        {"rater": "ann", "by": "reference/insult", "principle": "reference/insult"},
    )
    if every:
        for path in ("", "judge", "judge/rank?rater=ann", "people", "judge/label"):
            name, _, query = path.partition("?")
            yield name.replace("/", "-") or "run", name, {"rater": "ann"} if query else {}
        yield "edit", "revise/edit", revision


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/images"))
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("there is no Chromium")
    command = [sys.executable, "-m", "cai", "studio", str(options.run), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline() if server.stdout else ""
    address = urlsplit(line.removeprefix("open ").strip())
    flags = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
    flags += ["--blink-settings=preferredColorScheme=0"] if options.dark else []
    try:
        for name, path, query in pages(options.run, every=options.all):
            token = {"token": address.query.partition("=")[2]}
            place = f"{address.netloc}/run/{options.run.resolve().name}/{path}"
            page = f"http://{place}?{urlencode(query | token)}"
            size = f"{options.width},{HEIGHTS.get(name, 900)}"
            target = options.folder / f"studio-{name}.png"
            with tempfile.TemporaryDirectory() as profile:
                places = [f"--user-data-dir={profile}", f"--screenshot={target.resolve()}"]
                subprocess.run(
                    [browser, *flags, *places, f"--window-size={size}", page],
                    check=True,
                    stderr=subprocess.DEVNULL,
                )
            print(f"{target}: {target.stat().st_size / 1000:.0f} kB")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
