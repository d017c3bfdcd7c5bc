"""What two constitutions say differently."""

from cai.constitution.diff import ExampleChange, TextChange, changes, example_changes
from cai.constitution.schema import Constitution, Example, FewShotRevision, Principle


def constitution(principles, **weights):
    principles_by_id = {p.id: p for p in principles}
    whole = {use: {p.id: weights.get(p.id, 1.0) for p in principles} for use in ("revise", "judge")}
    return Constitution(name="t", title="t", principles=principles_by_id, weights=whole)


def principle(name, critique="Find an insult.", title="T"):
    return Principle(
        id=name, title=title, critique=critique, revise="Remove it.", compare="Which has none?"
    )


def test_changes_between_constitutions():
    old = constitution([principle("a"), principle("b"), principle("c"), principle("d")])
    new = constitution(
        [
            principle("a", title="Other title"),
            principle("b", "Find any insult."),
            principle("d"),
            principle("e"),
        ],
        d=3.0,
    )
    by_id = {change.principle: change for change in changes(old, new)}
    assert {name: change.kind for name, change in by_id.items()} == {
        "b": "changed",
        "c": "removed",
        "d": "weighted",
        "e": "added",
    }
    assert (
        by_id["b"].texts == (TextChange("critique", "Find an insult.", "Find any insult."),)
        and not by_id["b"].weights
    )
    assert by_id["d"].weights == (("revise", 1.0, 3.0), ("judge", 1.0, 3.0))
    assert [text.after for text in by_id["c"].texts] == ["", "", ""]
    assert changes(old, old) == []


def test_text_change_marks_words():
    change = TextChange("critique", "Find an old insult in it.", "Find any insult in it, please.")
    assert change.marked() == "Find [-an old-]{+any+} insult in [-it.-]{+it, please.+}"
    assert TextChange("critique", "", "New.").marked() == "{+New.+}"


def test_examples_that_changed():
    def of(worse, revision):
        example = Example(prompt="Hi.", better="Hello.", worse=worse)
        shot = FewShotRevision(
            prompt="Hey.", answer="No.", principle="a", critique="Rude.", revision=revision
        )
        (a,) = constitution([principle("a")]).principles.values()
        with_example = a.model_copy(update={"examples": (example,)})
        return constitution([with_example]).model_copy(update={"few_shot": (shot,)})

    old = of("Go!", "Yes.")
    assert example_changes(old, old) == []
    assert example_changes(old, of("Leave!", "Yes.")) == [
        ExampleChange("example", "a", ("Hi.",), ("Hi.",))
    ]
    assert example_changes(old, of("Go!", "Sure.")) == [
        ExampleChange("few_shot", "a", ("Hey.",), ("Hey.",))
    ]
    none = constitution([principle("b")])
    assert [change.added for change in example_changes(old, none)] == [(), ()]
