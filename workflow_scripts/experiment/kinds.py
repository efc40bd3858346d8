"""The kinds of task. A kind decides the row schema, the head, the loss, the decoding and the metrics."""

from typing import Literal

Kind = Literal["classification", "tagging", "question_answering"]
