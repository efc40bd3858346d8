"""Rows of question answering: `context`, `question` and `answers` {`text`, `start`}.

`start` counts code points, and is `ABSENT` for an answer that is nowhere in the context.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.protocol import Row
from workflow_scripts.kinds.values import text

ABSENT = -1
FIELDS = {
    "context": pa.string(),
    "question": pa.string(),
    "answers": pa.struct({"text": pa.list_(pa.string()), "start": pa.list_(pa.int32())}),
}


def from_record(record: Mapping[str, Any], where: str) -> Row:
    """The texts, and the gold answers in SQuAD's form: `answers` {`text`, `answer_start`}, or a list of such pairs."""
    context = text(record, "context", where)
    return {
        "context": context,
        "question": text(record, "question", where),
        "answers": gold_answers(context, record.get("answers"), where),
    }


def problem(row: Row, labels: Sequence[str]) -> str:
    """A question has answers; each is in the context at its stated position, or marked as absent."""
    texts, starts = row["answers"]["text"], row["answers"]["start"]
    if not texts or len(texts) != len(starts):
        return f"question {row['id']!r} has {len(texts)} answer texts and {len(starts)} starts"
    for answer, start in zip(texts, starts, strict=True):
        if not answer:
            return f"question {row['id']!r} has an answer without a text"
        if start != ABSENT and (start < 0 or not row["context"].startswith(answer, start)):
            return f"answer {answer!r} of question {row['id']!r} is not in its context at character {start}"
    return ""


def oddity(row: Row) -> str:
    """A text may occasionally be empty, or an answer absent from its context."""
    for name in ("question", "context"):
        if not row[name].strip():
            return f"{name} is empty"
    if set(row["answers"]["start"]) == {ABSENT}:
        return f"answer {row['answers']['text'][0]!r} is not in its context"
    return ""


def group(row: Row) -> str:
    """The questions about one context."""
    return str(row["context"])


def gold_answers(context: str, answers: Any, where: str) -> dict[str, list[Any]]:
    """The gold answers, each text and start once, in their order; blank ones are left out. Raises UserError."""
    if isinstance(answers, Mapping) and {"text", "answer_start"} <= set(answers):
        pairs = list(zip(answers["text"], answers["answer_start"], strict=False))
    elif isinstance(answers, list) and all(isinstance(answer, Mapping) for answer in answers):
        pairs = [(answer.get("text"), answer.get("answer_start")) for answer in answers]
    else:
        raise UserError(f"{where}: the answers are not in the format of SQuAD 1.1, {{text, answer_start}}")
    for answer, start in pairs:
        if not isinstance(answer, str):
            raise UserError(f"{where}: not in the format of SQuAD 1.1, 'text' is not a text")
        if not isinstance(start, int):
            raise UserError(f"{where}: not in the format of SQuAD 1.1, 'answer_start' is not a number")
    if not any(answer for answer, _ in pairs):
        raise UserError(
            f"{where}: no gold answer: use the labelled file of the dataset's own release (XTREME's scripts strip test"
            " sets of their labels)"
        )
    spans = {(answer, _start(context, answer, start)): None for answer, start in pairs if answer}
    return {"text": [answer for answer, _ in spans], "start": [start for _, start in spans]}


def _start(context: str, answer: str, stated: int) -> int:
    """Where the answer starts in code points: as stated, or else at its nearest occurrence; `ABSENT` without one."""
    if stated >= 0 and context.startswith(answer, stated):
        return stated
    # The nearest one before and after. `find` takes linear time for any text, `rfind` and regular expressions do not.
    at = min(max(stated, 0), len(context))
    after = context.find(answer, at)
    backwards = context[: at + len(answer)][::-1].find(answer[::-1])
    before = min(at + len(answer), len(context)) - backwards - len(answer) if backwards >= 0 else ABSENT
    starts = [start for start in (before, after) if start != ABSENT]
    return min(starts, key=lambda start: abs(start - stated), default=ABSENT)


def placeholder(record: Mapping[str, Any], labels: Sequence[str]) -> Row:
    """The whole context, for a question without gold answers."""
    return {"answers": {"text": [record.get("context")], "answer_start": [0]}}
