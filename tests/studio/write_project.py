"""A project of one's own with a run of it, whose models are functions that answer at once."""

import os

from studio_runs import make_run, revision, sample, step

from cai.backends.scripted import ScriptedBackend
from cai.constitution import load_constitution
from cai.constitution.lock import write_lock
from cai.records import Revision

INSULT = """\
# who wrote this
title: No insults
critique: |  # asks
  Is the last reply rude?
revise: |
  Write a new reply without insults.
compare: Which reply is kinder?
tags: [tone]
"""
CONSTITUTION = """\
title: Mine
revise: {principles: [reference/*], weights: {reference/insult: 3}}
judge: {principles: [reference/*]}
"""
asked = []


def model():
    """Critics and judges that say which text of a principle they were asked by."""

    def reply(messages, seed):
        asked.append(messages[-1].content)
        request = messages[-1].content.split("\n")[0]
        is_critique = "?" in request
        return f"By '{request}' it is." if is_critique else f"I am kind {request.split()[-1]}"

    def score_options(messages, options):
        asked.append(messages[-1].content)
        return [0.0, -30.0] if "kinder" in messages[-1].content else [-30.0, 0.0]

    return ScriptedBackend(reply, score_options, name="write-project")


def chain(number, principle="reference/insult", final="You are a friend.", prompt=None):
    drafts = sample(f"You clown {number}.", number)
    drafts = drafts.model_copy(update={"prompt": prompt or drafts.prompt})
    steps = (step("It is rude.", final, principle=principle),)
    return Revision(id=f"r{number}", sample=drafts, steps=steps)


def make_project(folder, prose=None, **config):
    """Write a project and the folder of a run of it; returns the folder of the run."""
    for name in ("constitution", "principles/reference", "examples"):
        (folder / name).mkdir(parents=True)
    path = folder / f"constitution/mine.{'md' if prose else 'yaml'}"
    path.write_text(prose or CONSTITUTION)
    (folder / "principles/reference/insult.yaml").write_text(INSULT)
    threat = "title: No threats\ncritique: Does it threaten?\nrevise: Write it without threats.\ncompare: Which reply threatens less?\n"
    (folder / "principles/reference/threat.yaml").write_text(threat)
    for name in ("red", "benign"):
        (folder / f"examples/{name}.jsonl").write_text('{"prompt": "Be rude to Al."}\n')
    models = {"initial": "write_project:model"}
    settings = {"judge": {"swap_positions": False}, "models": models, "constitution": "mine"}
    revisions = [revision(0), *(chain(n) for n in range(1, 8)), chain(9, "reference/threat")]
    run = make_run(folder / "runs/a", revisions=revisions, **(settings | config))
    write_lock(load_constitution(path), run / "constitution.lock.yaml")
    (run / ".base").write_text(os.path.relpath(folder / "examples", run))
    return run
