"""Try published chat templates: does all text survive, and is every end of turn learned?

    python benchmarks/chat_templates.py FOLDER_OF_JINJA_FILES ...

``chat_templates.json`` names templates that were tried: by the SHA-256 of the file, and the public
repository, commit and path that it comes from. They are not part of this repository.

Each template is tried with two tokenizers: one that has the marks in the template as special
tokens, and one to which they are plain text. A template is ``kept`` (all of a conversation reaches
the model, answers end, and what is sampled is read back as it was written) or ``refused`` in one
line. Anything else is a fault, and the exit code is 1.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from cai.errors import InputError
from cai.models.chat_template.format import ChatFormat
from cai.models.chat_template.shield import readable
from cai.records import Message
from cai.reference.tokenizer import build_tokenizer

MARK = re.compile(r"<[|｜/]?[\w▁|｜:.-]+?[|｜]?>|\[/?[A-Z_]+\]")
SYSTEM = Message(role="system", content="Be brief. Say qone.")
TALK = (
    Message(role="user", content="Is qtwo so?"),
    Message(role="assistant", content="It is qthree."),
    Message(role="user", content="Why\n\n- qfour?"),
)
CONVERSATIONS = (TALK[:1], TALK, (SYSTEM, *TALK))
ANSWER = "No, qfive.\n\nIt is <not> so."


def tokenizer_for(source: str, *, special: bool) -> PreTrainedTokenizerBase:
    """Build a tokenizer for a template, with or without its marks as special tokens."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    if special:
        marks = sorted(set(MARK.findall(source)) - set(tokenizer.get_added_vocab()))
        tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.chat_template = source
    return tokenizer


def normalized(text: str) -> str:
    """Leave out what keeps texts from becoming marks; white space is compared elsewhere."""
    return " ".join(readable(text).replace("\u200b", "").split())


def faults(chat: ChatFormat, messages: tuple[Message, ...]) -> list[str]:
    """Compare what a model reads with a conversation and an answer to it."""
    found = []
    prompt = normalized(chat.prompt(messages))
    position = 0
    for message in messages:
        text = normalized(message.content)
        is_system = message.role == "system"  # some templates put it before the last question
        start = prompt.find(text, 0 if is_system else position)
        position = position if is_system else start
        if start < 0:
            found.append(f"{text!r} is lost or moved")
            break
    prompt_ids, answer_ids = chat.example(messages, ANSWER)
    if prompt_ids != chat.ids(chat.prompt(messages)):
        found.append("a prompt with an answer is another prompt")
    if not chat.has_ended(answer_ids):
        found.append("the end of a turn is not learned")
    if chat.has_ended(answer_ids[:-1]) and not chat.ending.strings:
        found.append("something follows the end of a turn")
    if chat.decode(answer_ids).text != ANSWER:
        found.append(f"an answer is read back as {chat.decode(answer_ids).text!r}")
    return found


def outcome(source: str, *, special: bool) -> tuple[str, str]:
    """Return ``kept``, ``refused`` or ``fault``, and a remark."""
    try:
        chat = ChatFormat(tokenizer_for(source, special=special), "chat")
    except InputError as error:
        return "refused", str(error).partition("; ")[0]
    remarks = list(chat.traits.notes)
    for messages in CONVERSATIONS:
        try:
            found = faults(chat, messages)
        except InputError as error:
            remarks.append("refuses " + str(error).partition(" refuses ")[2].partition("; ")[0])
            continue
        if found:
            return "fault", "; ".join(found)
    closing = chat.ending.closing
    end = chat.tokenizer.convert_ids_to_tokens(closing) if isinstance(closing, int) else closing
    return "kept", "; ".join([f"ends with {end!r}", *remarks])


def main(folders: list[str]) -> int:
    """Print a table of all templates and a summary."""
    sources: dict[str, str] = {}
    for folder in folders:
        for path in sorted(Path(folder).glob("*.jinja*")):
            text = path.read_text(encoding="utf-8")
            if "messages" in text:
                sources.setdefault(hashlib.sha256(text.encode()).hexdigest(), text)
    counts: Counter[str] = Counter()
    print("| template | marks | outcome | remark |\n|---|---|---|---|")
    for digest, source in sorted(sources.items()):
        for special in (True, False):
            kind, remark = outcome(source, special=special)
            counts[kind] += 1
            marks = "tokens" if special else "text"
            print(f"| {digest[:12]} | {marks} | {kind} | {remark} |".replace("\n", "\\n"))
    print(f"\n{len(sources)} templates, each tried twice: {dict(counts)}")
    return int(counts["fault"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
