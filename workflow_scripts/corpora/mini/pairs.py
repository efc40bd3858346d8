"""Sentence pairs: inference from premise to hypothesis, and paraphrases to be distinguished from exchanged roles."""

from random import Random

from workflow_scripts.corpora.mini.wording import Fillers, Wording, load_wording
from workflow_scripts.kinds.protocol import Row

LABELS = ("entailment", "neutral", "contradiction")
# The other pairs reverse the order but keep the meaning (active and passive, sell and buy): a model that only compares
# the order of the names gets this share right.
SHARE_WITH_ORDER_KEPT = 0.75
# Of the false pairs, those in which one of the two is replaced by another of its kind rather than exchanged. From
# exchanges alone the bundled encoder learns nothing in 75 steps of 32 pairs (loss 0.693), and with 0.4 as little
# (0.685 after 60); with 0.7 it reaches 82 % on the English test set.
SHARE_WITH_ONE_REPLACED = 0.7


def inference_rows(wording: Wording, task: str, count: int) -> list[Row]:
    """Premises with hypotheses.

    The hypothesis is drawn independently of the label, and each occurs with all three, so that it alone carries no
    information about the label.
    """
    random = Random(f"{task}/{wording.split}")
    labels = _balanced(LABELS, count, random)
    plan, seen, rows = wording.plan[task], set[str](), list[Row]()
    while len(rows) < count:
        family = random.choice(list(plan))
        hypotheses = plan[family]["hypotheses"]
        number = random.randrange(len(hypotheses))
        premise, *renamings = str(random.choice(hypotheses[number][labels[len(rows)]])).split()
        fillers = wording.draw(plan[family]["slots"], random)
        parts = (
            ((family, "premises", int(premise)), fillers),
            ((family, "hypotheses", number), _renamed(fillers, renamings)),
        )
        _add_pair(rows, seen, wording, task, parts, labels)
    return rows


def paraphrase_rows(wording: Wording, task: str, count: int) -> list[Row]:
    """Two wordings of a fact, label 1, or of a fact and one with other roles, label 0.

    Both labels draw from the same pairs of wordings.
    """
    random = Random(f"{task}/{wording.split}")
    labels = _balanced(("0", "1"), count, random)
    plan, seen, rows = wording.plan[task], set[str](), list[Row]()
    while len(rows) < count:
        relation = random.choice(list(plan))
        wordings = range(len(wording.words[task][relation]))
        order_kept = random.random() < SHARE_WITH_ORDER_KEPT
        first, second = random.choice(_pairs_of_wordings(wordings, plan[relation]["turned"], order_kept))
        fillers = wording.draw(plan[relation]["slots"], random)
        second_fillers = fillers
        if labels[len(rows)] == "0":
            second_fillers = _falsified(wording, fillers, plan[relation]["exchanged"], random)
        parts = (((relation, first), fillers), ((relation, second), second_fillers))
        _add_pair(rows, seen, wording, task, parts, labels)
    return rows


def _add_pair(rows: list[Row], seen: set[str], wording: Wording, task: str, parts: tuple, labels: list[str]) -> None:
    """Add the next row, unless it is a duplicate in English: only English counts, so that the languages stay parallel.

    `parts` holds for each sentence the keys and indices that lead to its template, and its fillers.
    """

    def texts(wording: Wording) -> list[str]:
        return [wording.fill(wording.template(task, *path), fillers).text for path, fillers in parts]

    english = "\n".join(texts(load_wording(wording.split, "en")))
    if english not in seen:
        seen.add(english)
        text, text_pair = texts(wording)
        number = len(rows)
        identity = f"{task}-{wording.split}-{number}"
        rows.append({"id": identity, "text": text, "text_pair": text_pair, "label": labels[number]})


def _pairs_of_wordings(wordings: range, turned: list[int], order_kept: bool) -> list[tuple[int, int]]:
    """Which wordings go together; `turned` ones name the exchanged slots in the other order."""
    return [
        (first, second)
        for first in wordings
        for second in wordings
        if first != second and ((first in turned) == (second in turned)) == order_kept
    ]


def _falsified(wording: Wording, fillers: Fillers, exchanged: list[str], random: Random) -> Fillers:
    """The fillers with two exchanged, or with one of these two replaced by a new one."""
    one, other = exchanged
    replaced = random.choice(exchanged)
    if random.random() >= SHARE_WITH_ONE_REPLACED:
        return _renamed(fillers, [f"{one}={other}", f"{other}={one}"])
    taken = {f"{kind} {key}" for kind, key in fillers.values()}
    return {**fillers, **wording.draw({replaced: fillers[replaced][0]}, random, taken)}


def _renamed(fillers: Fillers, renamings: list[str]) -> Fillers:
    """The fillers after renamings such as `A=B`, all at once: slot A gets what B had."""
    changes = dict(renaming.split("=") for renaming in renamings)
    return {slot: fillers[changes.get(slot, slot)] for slot in fillers}


def _balanced(labels: tuple[str, ...], count: int, random: Random) -> list[str]:
    """As many of each label as possible, in random order."""
    repeated = [labels[number % len(labels)] for number in range(count)]
    random.shuffle(repeated)
    return repeated
