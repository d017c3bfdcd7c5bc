"""Records through sample, revise (4 rounds) and judge with a model that answers at once: what everything but the model costs.

    python benchmarks/scripted_records.py --records 100000

Prints calls per second of each stage, the peak memory of the process, and the time of doing it all once more from the memo.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cai.backends.scripted import ScriptedBackend
from cai.config import load_config
from cai.constitution import load_constitution
from cai.files import stream_records, write_records
from cai.pipeline.run import Run, open_run
from cai.pipeline.stage import StageContext
from cai.pipeline.stages import plan_stages
from cai.records import Comparison, Message, Revision

RUN = """
constitution: harmless
models: {initial: scripted, judge: scripted}
prompts: {red_team: red.jsonl, benign: benign.jsonl}
judge: {method: option_logprobs}
"""


def reply(messages: Sequence[Message], seed: int) -> str:
    return f"An answer of some twenty words, as a small model gives them when it is asked, with a number so that none are alike: {seed}."


def weigh(messages: Sequence[Message], options: tuple[str, ...]) -> list[float]:
    share = 0.2 + 0.6 * (sum(map(len, (m.content for m in messages))) % 97) / 97
    return [share, 1 - share]


def work(run: Run) -> None:
    planned = {stage.name: stage for stage in plan_stages(run.config)}
    for name in ("prompts", "sample", "revise", "judge"):
        context = StageContext(run, planned[name])
        if name == "judge":
            revised = stream_records(run.folder / "revise/records.jsonl", Revision)
            write_records(
                run.folder / "compare/records.jsonl",
                (Comparison.of(r.sample.prompt, r.sample.response, r.final) for r in revised),
            )
        started = time.perf_counter()
        planned[name].stage.work(context)
        seconds, counts = time.perf_counter() - started, run.cache.usage.get(name)
        if counts:
            asked = counts.requests + counts.cached
            print(
                f"| {name} | {counts.requests:,} | {counts.cached:,} | {seconds:.1f} | {asked / seconds:,.0f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=100_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    with (folder / "red.jsonl").open("w") as file:
        for number in range(options.records):
            file.write(
                json.dumps(
                    {
                        "prompt": f"Tell me, for the {number}th time, how to do what nobody should do."
                    }
                )
                + "\n"
            )
    (folder / "benign.jsonl").write_text(json.dumps({"prompt": "How do I wash a dog?"}) + "\n")
    (folder / "run.yaml").write_text(RUN)
    config, constitution = load_config(folder / "run.yaml"), load_constitution("harmless")
    print("| stage | calls made | remembered | seconds | calls per second |\n|---|---|---|---|---|")
    for _ in range(2):
        run = open_run(folder / "run", config, constitution, folder)
        run.backends.put("scripted", ScriptedBackend(reply, weigh))
        with run.cache:
            work(run)
        if run.lock:
            run.lock.release()
    print(
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB, memo {(folder / 'run/responses.sqlite').stat().st_size / 1e6:.0f} MB"
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
