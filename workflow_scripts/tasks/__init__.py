"""What a task is: how a row becomes model inputs, and how logits become predictions.

One module for each kind of task, all with the same names:

* `LEVEL`: whether the head sees one vector a text ("sequence") or one a token ("token")
* `HEAD_DROPOUT`: whether dropout acts on what the head reads
* `outputs(labels)`: how many numbers the head gives
* `TARGETS`: the columns that the loss reads, with the filler of the ragged ones
* `tokenise(rows, tokenizer, settings)`: rows -> columns of a token folder, and how many odd rows or words it adjusted
* `loss(logits, batch)`: the mean loss of a batch
* `counted(batch)`: how many targets that mean is over
* `decode(logits, tokens, rows, labels)`: logits of each feature -> {row id: prediction}
"""

import importlib
from types import ModuleType

from workflow_scripts.experiment.kinds import Kind

IGNORED = -100  # a target that does not count; PyTorch's cross-entropy skips it by default


def kind_module(kind: Kind) -> ModuleType:
    """The module of a kind of task."""
    return importlib.import_module(f"{__name__}.{kind}")
