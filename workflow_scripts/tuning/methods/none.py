"""No tuning: the unmodified pretrained model answers in words (zero-shot prompting; Brown et al., 2020)."""

from torch import nn

from workflow_scripts.tuning.methods import linear_probe
from workflow_scripts.tuning.settings import TrainingSettings

check, prepare, sentence_vector = linear_probe.check, linear_probe.prepare, linear_probe.sentence_vector


def head(level: str, width: int, outputs: int, settings: TrainingSettings) -> nn.Module:
    """Not used: the head is the pretrained output layer."""
    raise AssertionError("a configuration without tuning and without answers in words")
