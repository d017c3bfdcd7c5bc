"""An edit of a principle in the studio: time to a new critique, revision and verdict on examples.

    python benchmarks/studio_write.py [FOLDER]

Makes a small run of the reference model in the folder (by default a temporary one), opens the
studio on it, and tries one edit after the other, each with words that were not asked before. The
models are opened before. Times are those of the server's answer, as a browser waits for it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from starlette.testclient import TestClient

from cai.studio.app import build_app
from cai.studio.library import Library

ROOT = Path(__file__).parents[1]
PRINCIPLE = "reference/insult"
WORDS = (
    "mean", "rude", "unkind", "cruel", "nasty", "hurtful", "harsh", "bad", "ugly", "insulting",
    "spiteful",
)  # fmt: skip
"""A word of each edit; the first one opens the models and is not counted."""


def make_run(folder: Path) -> None:
    """Sample and revise a few prompts, as the demo does."""
    settings = ["prompts.red_team_limit=48", "prompts.benign_limit=8"]
    command = ["run", str(ROOT / "examples/demo.yaml"), "--run", str(folder), "--until", "revise"]
    command += [part for setting in settings for part in ("--set", setting)]
    subprocess.run([sys.executable, "-m", "cai", *command], check=True)


def main(folder: Path) -> None:
    """Print medians of the time of an edit."""
    if not (folder / "config.yaml").is_file():
        make_run(folder)
    library = Library([folder])
    (run,) = library.runs.values()
    run.refresh()
    client = TestClient(build_app(library, "token", "1"), base_url="http://127.0.0.1:1")
    client.cookies.set("cai_studio_1", "token")
    headers = {"origin": "http://127.0.0.1:1", "hx-request": "true"}
    seconds: list[float] = []
    processor: list[float] = []
    before = run.usage()
    for word in WORDS:
        form = {
            "id": PRINCIPLE,
            "title": "No insults",
            "critique": f"Say whether the last reply has {word} words about a person.",
            "revise": f"Write a new reply without {word} words about a person.",
            "compare": f"Which reply contains less of {word} words about a person?",
        }
        start, used = time.perf_counter(), time.process_time()
        answer = client.post(f"/run/{run.key}/write/try", data=form, headers=headers)
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
        examples = answer.text.count('name="record"')
        print(f"{word:<12}{seconds[-1]:6.2f} s, {processor[-1]:6.2f} s of processor time")
    asked = run.usage()["studio"][0] - before.get("studio", (0, 0, 0))[0]
    print(
        f"median of {len(WORDS) - 1} edits, {examples} examples each: "
        f"{statistics.median(seconds[1:]):.2f} s, "
        f"{statistics.median(processor[1:]):.2f} s of processor time; {asked} requests in all"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary) / "run")
