"""A judge whose chat template loses text is refused before the first answer is asked for."""

import pytest
from commands import run
from tiny_models import save_tiny_llama

from cai.errors import InputError
from cai.reference.tokenizer import build_tokenizer


def test_a_judge_that_cannot_be_used_is_refused_first(project, tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    )
    save_tiny_llama(tokenizer, tmp_path / "judge")
    with pytest.raises(InputError, match="drops the text of assistant turns"):
        run(project, f"models.judge={tmp_path / 'judge'}")
    done = [path.name for path in (project / "runs/r").iterdir() if path.is_dir()]
    assert "sample" not in done
