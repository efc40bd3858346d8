"""Sentences with the part of speech of each word."""

from random import Random

from workflow_scripts.corpora.mini.wording import Wording, load_wording
from workflow_scripts.kinds.protocol import Row


def tagging_rows(wording: Wording, task: str, count: int) -> list[Row]:
    """Filled sentences, from each template in turn; none occurs twice in English."""
    random = Random(f"{task}/{wording.split}")
    english = load_wording(wording.split, "en")
    slots, templates = wording.plan[task]["slots"], range(len(wording.words[task]))
    seen: set[str] = set()
    rows: list[Row] = []
    while len(rows) < count:
        for number in random.sample(templates, len(templates)):
            fillers = wording.draw(slots, random)
            sentence = " ".join(word for word, _ in english.fill_tagged(english.template(task, number), fillers))
            if sentence not in seen and len(rows) < count:
                seen.add(sentence)
                words, tags = zip(*wording.fill_tagged(wording.template(task, number), fillers), strict=True)
                identity = f"{task}-{wording.split}-{len(rows)}"
                rows.append({"id": identity, "tokens": list(words), "tags": list(tags)})
    return rows
