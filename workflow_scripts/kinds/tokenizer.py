"""The tokenizer of an encoder, set up so that a text is only ever read as text."""

import json
import re
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError

# Classes that take everything from tokenizer.json; others, such as XLM-R's, may set up a part of it themselves.
GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer of an encoder's folder, for every use in this project. Raises UserError if it has none.

    * A special token that is spelled out in a text, such as `</s>` or `[SEP]`, is cut into pieces like any other text.
      Only the template adds special tokens.
    * The two texts of a pair are separated; see `_separate_pairs`.
    * Truncation and padding that were saved with the tokenizer are off. Texts are cut at their end, regardless of the
      saved side.
    """
    tokenizer = _loader(folder).from_pretrained(folder, split_special_tokens=True, truncation_side="right")
    if not tokenizer.is_fast:
        raise UserError(f"{folder} holds no tokenizer.json: word and answer positions need one")
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    _read_special_tokens_as_text(tokenizer)
    if not tokenizer("a", add_special_tokens=False)["input_ids"]:
        raise UserError(f"the tokenizer in {folder} makes no token of the letter a: English texts need one that does")
    _separate_pairs(tokenizer)
    return tokenizer


def _loader(folder: Path) -> Any:
    """The class that loads the folder's tokenizer. Its import takes a second, so it is imported late."""
    try:
        named = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("tokenizer_class")
    except (OSError, ValueError, AttributeError):
        named = None
    if named in GENERIC and (folder / "tokenizer.json").is_file():
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer  # imports PyTorch: 1.2 s of processor time more than the class above

    return AutoTokenizer


def _read_special_tokens_as_text(tokenizer: Any) -> None:
    """Make the pipeline treat special tokens in texts as text, in both places where it could recognise them.

    The first place is the search for added tokens before everything else, which `split_special_tokens` turns off for
    all that the library knows to be special. The second is the model: SentencePiece's unigram vocabularies list `</s>`
    as a piece with the best of all scores, and BPE and WordPiece find it where a word equals it. So the text is split
    once more after its first character, after normalisation and pre-tokenisation: no model sees it whole.
    """
    from tokenizers import Regex, pre_tokenizers

    backend = tokenizer.backend_tokenizer
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= set(tokenizer.all_special_tokens)
    # Byte fallback writes bytes that no piece covers as `<0x0A>`; in a text that is six characters.
    candidates = special | {f"<0x{byte:02X}>" for byte in range(256)}
    spelled = [token for token in sorted(candidates) if len(token) > 1 and backend.model.token_to_id(token) is not None]
    if not spelled:
        return
    rest_by_first: dict[str, list[str]] = {}
    for token in spelled:
        rest_by_first.setdefault(token[0], []).append(re.escape(token[1:]))
    pattern = "|".join(f"{re.escape(first)}(?={'|'.join(rests)})" for first, rests in rest_by_first.items())
    split = pre_tokenizers.Split(Regex(pattern), behavior="merged_with_previous")
    before = backend.pre_tokenizer
    backend.pre_tokenizer = split if before is None else pre_tokenizers.Sequence([before, split])


def _separate_pairs(tokenizer: Any) -> None:
    """Join the texts of a pair by a line break, where the tokenizer does not separate them.

    Tokenizers of encoders put special tokens between the texts. Those of decoders put nothing there (GPT-2, Qwen) or
    only the token that begins a text (Llama, Gemma), which in pretraining begins a new document. With a line break, a
    pair is read as one text of two lines: `<bos>`, first text, line break, second text. Tokens at the ends, and single
    texts, stay as they are. Like a special token, the line break belongs to neither text, has no offsets, and is never
    truncated.
    """
    from tokenizers import processors

    pair = tokenizer("a", "a")
    parts = pair.sequence_ids(0)
    first, second = parts.index(0), parts.index(1)
    between = [
        number for place, number in enumerate(pair["input_ids"]) if first < place < second and parts[place] is None
    ]
    before, after = around_text(tokenizer)
    if between and (between != before or after):  # with a token at the end, the one at the start may separate
        return
    letters, line = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "a\na"))
    line_break = line[len(letters) : -1]
    if not line_break or line != [*letters, *line_break, line[-1]]:
        return  # a normaliser drops or joins it: the checks of an encoder refuse such a tokenizer without a separator
    named = {name: ids for name, ids in (("before", before), ("line", line_break), ("after", after)) if ids}
    begins, ends = (["before"] if before else []), (["after"] if after else [])
    trimming = _trimming(tokenizer.backend_tokenizer.post_processor)
    template = processors.TemplateProcessing(
        single=[*begins, "$A:0", *ends],
        pair=[*begins, "$A:0", "line", "$B:1", *ends],
        special_tokens=[
            {"id": name, "ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)} for name, ids in named.items()
        ],
    )
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([*trimming, template])


def around_text(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a single text."""
    encoded = tokenizer("a")
    of_text = [place for place, part in enumerate(encoded.sequence_ids(0)) if part is not None]
    return encoded["input_ids"][: of_text[0]], encoded["input_ids"][of_text[-1] + 1 :]


def _trimming(post_processor: Any) -> list[Any]:
    """The parts of a post-processor that take the space before a word out of its offsets: byte-level BPE's."""
    from tokenizers import processors

    if post_processor is None:
        return []
    written = json.loads(post_processor.__getstate__())  # as in tokenizer.json
    found = [part for part in written.get("processors", [written]) if part.get("type") == "ByteLevel"]
    return [processors.ByteLevel(trim_offsets=part["trim_offsets"]) for part in found]
