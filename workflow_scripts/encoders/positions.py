"""How an encoder counts positions, from the model type alone; for a loaded model see `tuning.backbone.loading`."""

# Model types whose positions start at the padding id + 1. Their position table has rows that no token uses.
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
    """Whether the first token has the position `pad_token_id + 1` instead of 0."""
    return model_type in AFTER_PADDING
