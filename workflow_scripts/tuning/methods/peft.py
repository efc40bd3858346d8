"""Any configuration of PEFT that applies to the encoder: DoRA, (IA)3, VeRA, OFT, AdaLoRA and others.

Settings: `peft`, with `peft_type` and the keys of PEFT's configuration class of that type. `target_modules` defaults to
PEFT's choice for the type of the encoder, or for a type whose modules have the same names.

Only the trained tensors are stored. Frozen random tensors, such as VeRA's projections, are drawn again from the run's
seed.
"""

from typing import Any, cast

import torch
import torch.distributed.tensor  # PEFT uses a class of this module without importing it

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.peft_block import configuration_of, one_line
from workflow_scripts.core.settings import given
from workflow_scripts.tuning.acceleration.lean import without_compiler
from workflow_scripts.tuning.methods import linear_probe
from workflow_scripts.tuning.peft_targets import default_targets, matrices, normalisations
from workflow_scripts.tuning.settings import TrainingSettings

with without_compiler():
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.adalora import AdaLoraModel
    from peft.tuners.ia3 import IA3Model
    from peft.tuners.ln_tuning import LNTuningModel
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEEDFORWARD
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as IA3

# Head and sentence vector are those of a linear probe.
head, sentence_vector = linear_probe.head, linear_probe.sentence_vector


def check(encoder: Any, settings: TrainingSettings) -> None:
    """Raise UserError if PEFT refuses the block, or if the encoder lacks the modules to tune."""
    _configuration(encoder, settings)


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Insert PEFT's modules. Raises UserError if PEFT cannot do so in this encoder."""
    configuration = _configuration(model.encoder, settings)
    kind = PEFT_TYPE_TO_TUNER_MAPPING[configuration.peft_type]
    for name, module in model.encoder.named_modules():
        if kind._check_target_module_exists(configuration, name):
            module.float()  # PEFT gives its parameters the format of the module, and decomposes some matrices
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        try:
            tuner = kind(model.encoder, configuration, "default")
        except (ValueError, TypeError, NotImplementedError, RuntimeError, ImportError, KeyError) as error:
            raise UserError(f"methods.{settings.method}.peft: {one_line(error)}") from error
    if isinstance(tuner, AdaLoraModel):
        model.allocation = RankAllocation(tuner, f"methods.{settings.method}.peft")


def _configuration(encoder: Any, settings: TrainingSettings) -> Any:
    """Return PEFT's configuration with the modules to tune filled in."""
    where = f"methods.{settings.method}.peft"
    configuration = configuration_of(given(settings.peft, "peft"), where)
    if getattr(configuration, "target_modules", None) is None:
        tuner = PEFT_TYPE_TO_TUNER_MAPPING[configuration.peft_type]
        found = default_targets(encoder, IA3 if tuner is IA3Model else tuner.target_module_mapping)
        if found is None and tuner is LNTuningModel:
            found = "", normalisations(encoder)
        if found is None:
            layers = matrices(encoder)
            raise UserError(
                f"{where}.target_modules: PEFT has no default for encoders of the type {encoder.config.model_type!r};"
                f" choose from {', '.join(sorted(layers))}"
            )
        model_type, configuration.target_modules = found
        if getattr(configuration, "feedforward_modules", ()) is None:
            configuration.feedforward_modules = set(FEEDFORWARD[model_type])
    return configuration


class RankAllocation:
    """AdaLoRA's allocation of ranks after every step, and the penalty in its loss (Zhang et al., 2023).

    PEFT's own allocator computes it. A training that resumes needs the allocator's state: the sensitivity and
    uncertainty of every trained matrix, and the singular values that are kept.
    """

    SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # PEFT's names

    def __init__(self, tuner: AdaLoraModel, where: str) -> None:
        self.tuner, self.where = tuner, where
        self.configuration = cast(Any, tuner.peft_config["default"])
        self.weight: float = self.configuration.orth_reg_weight
        named = list(tuner.model.named_parameters())
        # As rows: the right singular vectors are rows of A, the left ones are columns of B.
        self.right = [one for name, one in named if ".lora_A." in name]
        self.left = [one for name, one in named if ".lora_B." in name]

    def penalty(self) -> torch.Tensor:
        """Return the weighted mean distance of the singular vectors from orthonormal ones.

        As in PEFT, the Frobenius norms are averaged; equation 4 of the paper sums their squares.
        """
        with torch.autocast(self.right[0].device.type, enabled=False):
            products = [one @ one.T for one in self.right] + [one.T @ one for one in self.left]
            distances = [torch.linalg.matrix_norm(one - torch.eye(len(one), device=one.device)) for one in products]
        return self.weight * torch.stack(distances).mean()

    def after_step(self, step: int, steps: int) -> None:
        """Update the scores from the gradients and mask singular values. Steps are counted from 1.

        Raises UserError if `tinit` and `tfinal` leave no step for the allocation.
        """
        if self.configuration.tinit >= steps - self.configuration.tfinal:
            raise UserError(
                f"{self.where}: tinit {self.configuration.tinit} and tfinal {self.configuration.tfinal} leave none of"
                f" the training's {steps} steps for the allocation of ranks: lower them"
            )
        self.configuration.total_step = steps
        self.tuner.update_and_allocate(step)

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a training that resumes needs."""
        allocator = self.tuner.rankallocator
        found = {f"{part}/{name}": one for part in self.SCORES for name, one in getattr(allocator, part).items()}
        kept = self.configuration.rank_pattern or {}
        return found | {f"kept/{name}": torch.tensor(values) for name, values in kept.items()}

    def load(self, state: dict[str, torch.Tensor], device: torch.device) -> None:
        """Restore what `state` returned."""
        for part in self.SCORES:
            scores = {name.removeprefix(f"{part}/"): one for name, one in state.items() if name.startswith(f"{part}/")}
            setattr(self.tuner.rankallocator, part, {name: one.to(device) for name, one in scores.items()})
        kept = {name.removeprefix("kept/"): one.tolist() for name, one in state.items() if name.startswith("kept/")}
        self.configuration.rank_pattern = kept or None
