"""How many tokens a tokenizer needs for a language, counted in token folders.

The measure is the *premium* (Petrov et al. 2023, arXiv 2305.15425): the tokens of texts in a language for each token of
the same texts in the source language. It is defined for every script, unlike tokens per word, and does not depend on
the script, unlike tokens per character. Only test sets with the same ids have the same texts. In others whose rows are
lists of words, it is the ratio of the tokens per word (*fertility*; Rust et al. 2021). In all others it is unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workflow_scripts.kinds.tokens import Tokens

FEWEST_ROWS = 20  # that a ratio is made from


@dataclass(frozen=True)
class Pieces:
    """The pieces of a test set. Special tokens do not count.

    Attributes:
        ids: of the rows.
        pieces, features: (rows,), of each row. A long text is cut into several features, which may overlap.
        whole: (rows,), whether nothing of the row was cut.
        words: (rows,), if the rows are lists of words; else None.
        unknown: the share of pieces that are the unknown token, percent; NaN if the tokenizer has none.
    """

    ids: Sequence[str]
    pieces: np.ndarray
    features: np.ndarray
    whole: np.ndarray
    words: np.ndarray | None
    unknown: float


def special_ids(tokenizer: Any) -> tuple[set[int], int | None]:
    """The ids that do not occur in plain text, and the id of the unknown token; None if it also has other uses."""
    unknown = tokenizer.unk_token_id
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
    others = {getattr(tokenizer, name, None) for name in names}
    if unknown in others:  # byte-level tokenizers know every text, and name any token
        unknown = None
    return set(tokenizer.all_special_ids) - {unknown}, unknown


def count_pieces(
    tokens: Tokens, ids: Sequence[str], words: Sequence[int] | None, special: set[int], unknown: int | None
) -> Pieces:
    """Count the pieces of a test set; ids and numbers of words are those of its rows."""
    column = tokens.ragged("input_ids")
    values, starts = np.asarray(column.values), np.asarray(column.starts)
    inside = values[starts[0] : starts[-1]]
    counted = np.concatenate([[0], np.cumsum(~np.isin(inside, list(special)))])
    by_feature = np.diff(counted[starts - starts[0]])
    rows, size = tokens.plain("row"), len(ids)
    lengths = column.lengths()
    full = lengths == tokens.record["longest"] if tokens.record["at_max_length"] else np.zeros(len(lengths), bool)
    pieces = np.bincount(rows, by_feature, size)
    share = np.nan if unknown is None or not pieces.sum() else 100 * float((inside == unknown).sum() / pieces.sum())
    return Pieces(
        ids=ids,
        pieces=pieces,
        features=np.bincount(rows, minlength=size),
        whole=np.bincount(rows, full, size) == 0,
        words=None if words is None else np.asarray(words),
        unknown=share,
    )


def premium(of: Pieces, source: Pieces, parallel: bool) -> float:
    """The pieces of a language for each piece of the source language; NaN if the texts cannot be compared.

    Rows that were cut in one of the languages do not count.
    """
    if parallel:
        place = {name: row for row, name in enumerate(source.ids)}
        pairs = np.array([(row, place[name]) for row, name in enumerate(of.ids) if name in place], dtype=int)
        if len(pairs) < FEWEST_ROWS:
            return np.nan
        rows, others = pairs.T
        kept = of.whole[rows] & source.whole[others] & (of.features[rows] == source.features[others])
        return _ratio(of.pieces[rows[kept]], source.pieces[others[kept]], int(kept.sum()))
    if of.words is None or source.words is None:
        return np.nan
    fertility = [_ratio(one.pieces[one.whole], one.words[one.whole], int(one.whole.sum())) for one in (of, source)]  # type: ignore[index]
    return fertility[0] / fertility[1]


def _ratio(above: np.ndarray, below: np.ndarray, rows: int) -> float:
    return float(above.sum() / below.sum()) if rows >= FEWEST_ROWS and below.sum() else np.nan


def premium_of_union(of: Pieces, sources: Mapping[str, Pieces], parallel: bool) -> float:
    """The same for a model that was tuned on several languages: the geometric mean of their premiums."""
    found = [premium(of, source, parallel) for source in sources.values()]
    return float(np.exp(np.mean(np.log(found)))) if found else np.nan
