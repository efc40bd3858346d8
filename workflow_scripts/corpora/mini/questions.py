"""Questions whose answer is a filler of a short paragraph."""

from random import Random

from workflow_scripts.corpora.mini.wording import UNSPACED_LANGUAGES, Fillers, Wording
from workflow_scripts.kinds.protocol import Row

# Facts of the asked relation in a paragraph, the asked one included, and the fewest and most facts of other relations.
# A second fact of the same relation contains a wrong answer of the right type, so TyDiQA's questions also require
# matching the names. XQuAD's paragraphs are short, so that a few hundred rows teach the task.
SAME = {"xquad": 1, "tydiqa": 2}
OTHERS = {"xquad": (1, 1), "tydiqa": (1, 2)}


def question_rows(wording: Wording, task: str, count: int) -> list[Row]:
    """Paragraphs of two to four facts about different people and things, each with a question about one of them."""
    random = Random(f"{task}/{wording.split}")
    plan, words = wording.plan[task], wording.words[task]
    seen: set[str] = set()
    rows: list[Row] = []
    while len(rows) < count:
        asked = random.choice(list(plan))
        others = [name for name in plan if name != asked]
        relations = [asked] * SAME[task] + random.sample(others, random.randint(*OTHERS[task]))
        taken: set[str] = set()
        facts = [_draw_fact(wording, task, relation, random, taken) for relation in relations]
        fillers = facts[0][1]
        number = random.randrange(len(plan[asked]["asked"]))
        order = random.sample(range(len(facts)), len(facts))
        content = f"{asked} {number} {sorted(fillers.items())}"
        if content in seen:
            continue
        seen.add(content)
        context, answer, start = _paragraph(wording, facts, order, plan[asked]["asked"][number])
        rows.append(
            {
                "id": f"{task}-{wording.split}-{len(rows)}",
                "context": context,
                "question": wording.fill(words[asked]["questions"][number], fillers).text,
                "answers": {"text": [answer], "start": [start]},
            }
        )
    return rows


def _draw_fact(wording: Wording, task: str, relation: str, random: Random, taken: set[str]) -> tuple[str, Fillers]:
    """One of the relation's templates, and fillers that the paragraph does not have yet."""
    template = random.choice(wording.words[task][relation]["facts"])
    return template, wording.draw(wording.plan[task][relation]["slots"], random, taken)


def _paragraph(wording: Wording, facts: list[tuple[str, Fillers]], order: list[int], slot: str) -> tuple[str, str, int]:
    """The facts in this order as one text; the answer, which is the first fact's filler of `slot`, and its start."""
    space = "" if wording.language in UNSPACED_LANGUAGES else " "
    context, answer, answer_start = "", "", -1
    for position in order:
        filled = wording.fill(*facts[position])
        context += space if context else ""
        if position == 0:
            start, end = filled.spans[slot]
            answer, answer_start = filled.text[start:end], len(context) + start
        context += filled.text
    return context, answer, answer_start
