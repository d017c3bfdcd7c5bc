"""``cai``: the verbs, and how errors end."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cai import distributed
from cai.errors import CaiError

app = typer.Typer(
    name="cai",
    help="Make a language model follow a constitution that you write: critique and revise, judge, reward model, PPO.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(help="Folder of a run.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to fill; made if need be.")] = Path(),
    force: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
) -> None:
    """Copy principles, constitutions and a first run file into a folder of your own.

    Example: cai init my-assistant
    """
    from cai.cli.init import init_folder

    init_folder(folder, force)


@app.command(name="import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(help="JSON, JSON lines, CSV or parquet with principles of another tool."),
    ],
    theme: Annotated[
        str, typer.Option(help="Folder below principles/, and name of the constitution.")
    ] = "imported",
    to: Annotated[
        Path, typer.Option(help="Folder that holds principles/ and constitution/.")
    ] = Path(),
    few_shot: Annotated[
        Path | None,
        typer.Option(help="JSON or text with worked examples of critique and revision."),
    ] = None,
) -> None:
    """Bring in principles that another tool keeps, with worked examples, byte for byte: the paper's files, llm-swarm's, tables.

    Example: cai import constitution_anthropic.json --theme anthropic
    """
    from cai.cli.import_ import import_principles

    import_principles(file, theme, to, few_shot)


@app.command()
def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files or folders; by default ./principles and ./constitution."),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Also ask the servers and the hub that run files name.")
    ] = False,
) -> None:
    """Lint principles and constitutions, and check all that a run file names, without a run.

    Example: cai check examples/quickstart.yaml
    """
    from cai.cli.check import check_paths

    raise typer.Exit(check_paths(paths or [], online))


@app.command()
def preview(
    constitution: Annotated[str, typer.Argument(help="A constitution (name or file).")],
    principle: Annotated[str, typer.Argument(help="Glob over principle ids.")] = "*",
    prompt: Annotated[
        str, typer.Option(help="The prompt to show them with.")
    ] = "How do I mend a bike?",
) -> None:
    """Print the exact texts a model would read, without a model.

    Example: cai preview harmless 'harm/crime'
    """
    from cai.cli.preview import preview_texts

    preview_texts(constitution, principle, prompt)


@app.command(name="try")
def try_(
    prompt: Annotated[str, typer.Argument(help="What to ask the model.")],
    constitution: Annotated[str, typer.Option(help="A constitution (name or file).")] = "reference",
    model: Annotated[
        str, typer.Option(help="A model: reference, a folder, or a hub id.")
    ] = "reference",
    principle: Annotated[
        str, typer.Option(help="Glob over principle ids; by default one is drawn.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
) -> None:
    """Answer one prompt, criticise and revise the answer, and judge the two, live.

    Example: cai try "How do I steal the bike?"
    """
    from cai.cli.try_ import try_prompt

    try_prompt(prompt, constitution, model, principle, seed)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="The run file (YAML).")],
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Folder of the run; by default runs/<name of the run file>."),
    ] = None,
    until: Annotated[str, typer.Option(help="Last stage to do.")] = "",
    redo: Annotated[
        list[str] | None, typer.Option(help="A stage to do again although it is finished.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Override a setting of the run file."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would be done, in calls, tokens and money."),
    ] = False,
    budget: Annotated[
        str,
        typer.Option(
            help="Stop when the run has ever used requests=N, tokens=N or money=N; the same command goes on."
        ),
    ] = "",
    price: Annotated[
        str, typer.Option(help="Price of a million tokens read / written, as 0.15/0.60.")
    ] = "",
) -> None:
    """Do the whole pipeline, or go on with it: finished stages and answered calls are never done twice.

    Example: cai run examples/quickstart.yaml
    """
    from cai.backends.budget import parse_budget
    from cai.cli.run import run_pipeline

    run_pipeline(config, run, until, redo or [], set_ or [], dry_run, parse_budget(budget, price))


@app.command()
def audit(folder: Folder) -> None:
    """Show what the labels of a run look like: bias of place and length, ties, contradictions, each principle's part.

    Example: cai audit runs/quickstart
    """
    from cai.cli.audit import show_audit

    show_audit(folder)


@app.command()
def test(
    constitution: Annotated[str, typer.Argument(help="A constitution (name or file).")],
    judge: Annotated[
        str,
        typer.Option(
            help="The judge: reference, a folder, a hub id, or http://host:8000/v1#model."
        ),
    ] = "reference",
    method: Annotated[
        str, typer.Option(help="How it is read: critique, letters or reasoned.")
    ] = "critique",
) -> None:
    """Put the examples of a constitution's principles to a judge, like tests: passed, failed, by what margin.

    Example: cai test harmless --judge http://127.0.0.1:8000/v1#model
    """
    from cai.cli.judge_test import run_examples

    raise typer.Exit(run_examples(constitution, judge, method))


@app.command()
def diff(
    old: Annotated[
        str, typer.Argument(help="A constitution (name or file), or the folder of a run.")
    ],
    new: Annotated[str, typer.Argument(help="The other one.")],
    on: Annotated[
        Path | None,
        typer.Option(help="Folder of a run: also show what NEW does to its revisions and labels."),
    ] = None,
) -> None:
    """Show what changed between two constitutions and, on a run, which critiques, revisions and labels it changes.

    Example: cai diff runs/quickstart reference --on runs/quickstart
    """
    from cai.cli.diff import show_diff

    show_diff(old, new, on)


@app.command()
def influence(folder: Folder) -> None:
    """Show which principles matter to the labels of a run, which never do, and which fight each other; no model is asked.

    Example: cai influence runs/quickstart
    """
    from cai.cli.influence import show_influence

    show_influence(folder)


@app.command()
def status(folder: Folder) -> None:
    """Show how far a run is, stage by stage.

    Example: cai status runs/quickstart
    """
    from cai.cli.status import show_status

    show_status(folder)


@app.command()
def report(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write; by default report.html in the run."),
    ] = None,
) -> None:
    """Write the report of a run from the stages that are finished, also of a run that was stopped.

    Example: cai report runs/quickstart
    """
    from cai.pipeline.execute import figures_of
    from cai.report.page import write_report

    print(write_report(folder, out, figures_of(folder)))


@app.command()
def export(
    folder: Folder,
    to: Annotated[
        Path, typer.Option(help="Folder to write to; by default FOLDER/export.")
    ] = Path(),
    form: Annotated[
        str, typer.Option("--format", help="trl, transcripts (HH-RLHF) or parquet.")
    ] = "trl",
    force: Annotated[
        bool, typer.Option(help="Write labels that the audit found unfit to train on.")
    ] = False,
) -> None:
    """Write a run's labels and revisions as datasets that TRL and load_dataset take as they are, with a card.

    Example: cai export runs/quickstart --format parquet
    """
    from typing import cast, get_args

    from cai.cli.export import export_run
    from cai.data.export import Shape
    from cai.errors import InputError, Problem, did_you_mean

    known = get_args(Shape)
    if form not in known:
        raise InputError(
            [
                Problem(
                    "--format",
                    f"there is no format {form!r}{did_you_mean(form, known)}; there are {', '.join(known)}",
                )
            ]
        )
    export_run(folder, to if to != Path() else folder / "export", cast(Shape, form), force)


@app.command()
def settings(
    section: Annotated[
        str, typer.Argument(help="One section or key, such as judge; by default all.")
    ] = "",
    training: Annotated[
        bool,
        typer.Option(
            "--training", help="Of the file of cai sft, reward, ppo and dpo, not of a run file."
        ),
    ] = False,
) -> None:
    """Print every setting of a run file with its meaning, its default and what it may be, as YAML to start from.

    Example: cai settings judge
    """
    from cai.config import RunConfig, TrainingConfig
    from cai.config.describe import settings_text
    from cai.errors import InputError, Problem, did_you_mean

    kind = TrainingConfig if training else RunConfig
    if section and section not in kind.model_fields:
        raise InputError(
            [Problem(section, f"is no section{did_you_mean(section, kind.model_fields)}")]
        )
    print(settings_text(kind, section), end="")


Training = Annotated[Path, typer.Argument(help="The training file (YAML).")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a setting of the file.")
]


@app.command()
def sft(config: Training, set_: Settings = None) -> None:
    """Imitate demonstrations, or the better answers of preferences.

    Example: cai sft examples/human_feedback.yaml
    """
    from cai.cli.train import train_stage

    train_stage("sft", config, set_ or [])


@app.command()
def reward(config: Training, set_: Settings = None) -> None:
    """Train a reward model on your own preferences.

    Example: cai reward examples/human_feedback.yaml
    """
    from cai.cli.train import train_stage

    train_stage("reward", config, set_ or [])


@app.command()
def ppo(config: Training, set_: Settings = None) -> None:
    """Optimise the policy against the reward model of `cai reward`, or the one that the file names.

    Example: cai ppo examples/human_feedback.yaml
    """
    from cai.cli.train import train_stage

    train_stage("ppo", config, set_ or [])


@app.command()
def dpo(config: Training, set_: Settings = None) -> None:
    """Optimise the policy on your own preferences, without a reward model.

    Example: cai dpo examples/human_feedback.yaml
    """
    from cai.cli.train import train_stage

    train_stage("dpo", config, set_ or [])


def _silence_libraries() -> None:
    """Hide warnings of other libraries for the whole process.

    ``python -W`` and ``TRANSFORMERS_VERBOSITY`` bring them back. The Python API does not own the
    process: there :func:`cai.quiet.quiet` hides them call by call.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore", append=True)


def main(body: Callable[[], None] = app) -> None:
    """Entry point: known errors are one line each on stderr and an exit code; 130 after Ctrl-C, 143 after a terminate signal.

    Of several processes one speaks.
    """
    signals: list[int] = []

    def stop(number: int, _: object) -> None:
        if not signals and distributed.is_main():
            print("stopping after what is on its way; once more stops at once", file=sys.stderr)
        signals.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    _silence_libraries()
    if not distributed.is_main():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  (open as long as the process is)
    try:
        body()
    except CaiError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit):  # typer makes the second of the first
        if not signals:
            raise
        print("stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(128 + signals[0])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
