"""How much of a vLLM server's own throughput ``cai`` keeps busy as a client: beside ``vllm bench serve`` on the same prompts.

    pip install "vllm[bench]"
    vllm serve cai/reference/model --served-model-name reference --port 8000
    python benchmarks/server_share.py http://127.0.0.1:8000/v1#reference [--vllm vllm] [--prompts 1000] [--rounds 3]

Both send the same conversations, greedily, with the same limits of tokens and of requests at once, turn by turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from cai.backends.protocol import Completion, GenerateRequest
from cai.backends.server import ServerBackend, ServerSettings
from cai.data.prompts import read_prompts
from cai.shipped import reference_model

ROOT = Path(__file__).parents[1]


def theirs(
    vllm: str, url: str, model: str, texts: list[str], tokens: int, at_once: int, folder: Path
) -> dict[str, float]:
    """Requests and tokens a second by ``vllm bench serve``."""
    asked = folder / "prompts.jsonl"
    asked.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    command = [
        vllm,
        "bench",
        "serve",
        "--backend",
        "openai-chat",
        "--base-url",
        url.removesuffix("/v1"),
        "--endpoint",
        "/v1/chat/completions",
        "--model",
        model,
        "--tokenizer",
        str(reference_model()),
        "--dataset-name",
        "custom",
        "--dataset-path",
        str(asked),
        "--custom-output-len",
        str(tokens),
        "--num-prompts",
        str(len(texts)),
        "--max-concurrency",
        str(at_once),
        "--temperature",
        "0",
        "--disable-shuffle",
        "--save-result",
        "--result-dir",
        str(folder),
        "--result-filename",
        "found.json",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    if done.returncode:
        raise SystemExit(f"vllm bench serve: {done.stderr[-600:]}")
    found = json.loads((folder / "found.json").read_text())
    if found["completed"] != len(texts):
        raise SystemExit(
            f"vllm bench serve: only {found['completed']} of {len(texts)} requests were answered"
        )
    return {"requests": found["request_throughput"], "tokens": found["output_throughput"]}


def ours(url: str, model: str, texts: list[GenerateRequest], at_once: int) -> dict[str, float]:
    """Requests and tokens a second by a server backend, its start-up probe left out."""
    backend = ServerBackend(f"{url}#{model}", settings=ServerSettings(concurrency=at_once))
    list(backend.respond(texts[:1]))
    started = time.perf_counter()
    found = [answer for _, answer in backend.respond(texts)]
    seconds = time.perf_counter() - started
    answers = [
        answer
        for answer in found
        if isinstance(answer, Completion) and answer.finish_reason in ("stop", "length")
    ]
    if len(answers) != len(texts):
        raise SystemExit(f"cai: only {len(answers)} of {len(texts)} calls were answered")
    return {
        "requests": len(answers) / seconds,
        "tokens": sum(answer.tokens_out for answer in answers) / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("server", help="http://host:port/v1#model")
    parser.add_argument("--vllm", default="vllm")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=90)
    parser.add_argument("--at-once", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    url, _, model = options.server.partition("#")
    prompts = [
        p
        for name in ("train_red_team", "train_benign")
        for p in read_prompts(ROOT / f"examples/prompts/{name}.jsonl", "x")
    ]
    prompts = (prompts * (options.prompts // len(prompts) + 1))[: options.prompts]
    calls = [
        GenerateRequest(prompt.messages, seed=0, temperature=0, max_tokens=options.tokens)
        for prompt in prompts
    ]
    for at_once in options.at_once:
        rounds = []
        ours(url, model, calls, at_once)  # the server has seen the prompts before either is timed
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(options.rounds):
                bench = theirs(
                    options.vllm,
                    url,
                    model,
                    [p.text for p in prompts],
                    options.tokens,
                    at_once,
                    Path(folder),
                )
                rounds.append((ours(url, model, calls, at_once), bench))
        middle = {
            f"{who}_{what}_per_second": round(
                statistics.median(row[side][what] for row in rounds), 1
            )
            for side, who in enumerate(("cai", "vllm_bench"))
            for what in ("requests", "tokens")
        }
        share = statistics.median(mine["tokens"] / other["tokens"] for mine, other in rounds)
        print(
            json.dumps(
                {"prompts": len(calls), "at_once": at_once, **middle, "share": round(share, 3)}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
