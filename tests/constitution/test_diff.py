"""What two constitutions say differently."""

from cai.constitution.diff import TextChange, changes
from cai.constitution.schema import Constitution, Principle


def constitution(principles, **weights):
    made = {p.id: p for p in principles}
    whole = {use: {p.id: weights.get(p.id, 1.0) for p in principles} for use in ("revise", "judge")}
    return Constitution(name="t", title="t", principles=made, weights=whole)


def principle(name, critique="Find an insult.", title="T"):
    return Principle(
        id=name, title=title, critique=critique, revise="Remove it.", compare="Which has none?"
    )


def test_what_came_went_and_changed():
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
    found = {change.principle: change for change in changes(old, new)}
    assert {name: change.kind for name, change in found.items()} == {
        "b": "changed",
        "c": "removed",
        "d": "weighted",
        "e": "added",
    }
    assert (
        found["b"].texts == (TextChange("critique", "Find an insult.", "Find any insult."),)
        and not found["b"].weights
    )
    assert found["d"].weights == (("revise", 1.0, 3.0), ("judge", 1.0, 3.0))
    assert [text.after for text in found["c"].texts] == ["", "", ""]
    assert changes(old, old) == []


def test_words_that_went_and_came_are_marked():
    change = TextChange("critique", "Find an old insult in it.", "Find any insult in it, please.")
    assert change.marked() == "Find [-an old-]{+any+} insult in [-it.-]{+it, please.+}"
    assert TextChange("critique", "", "New.").marked() == "{+New.+}"
