"""How an encoder counts positions, told from its configuration alone; a loaded one tells by its position table."""

# These count from the padding token's id + 1, so their position table has rows that no token uses.
AFTER_PADDING = (
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)


def starts_after_padding(model_type: str) -> bool:
    """Whether the first token has the position `pad_token_id + 1`, and not 0."""
    return model_type in AFTER_PADDING
