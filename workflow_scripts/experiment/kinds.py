"""The kinds of task. A kind decides the row schema, the head, the loss, the decoding and the metrics."""

from typing import Literal

Kind = Literal["sentence_pair", "tagging", "question_answering"]
