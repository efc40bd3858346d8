"""Writing a tuned model into a folder that standard libraries load.

    FOLDER/crossprompt.json    what the model is, how its texts are tokenised, and how the folder is loaded
           tokenizer.json ...  the tokenizer, which truncates to the run's `max_length` where it is asked to truncate
           and                 model.safetensors, config.json        a class of transformers holds the model, or
                               adapter_config.json, adapter_model.*  PEFT does, or
                               load.py, tuned.safetensors            neither: see `own.py`
           base/               the encoder, where it is not a model of the Hugging Face Hub and not in the files above

Each form that may hold the model is written, loaded again and compared with the run's model on texts; the first whose
logits are equal is kept. A model that no form can hold is refused.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.faults import explain
from workflow_scripts.core.files import naming, read_json, write_json
from workflow_scripts.core.peft_block import one_line
from workflow_scripts.core.places import EXPORTED
from workflow_scripts.encoders.record import read_encoder
from workflow_scripts.encoders.weights import INDEX
from workflow_scripts.publishing import adapters, onnx_file, own, stock
from workflow_scripts.publishing.equality import TOLERANCE, batches, difference, reference
from workflow_scripts.publishing.loading import load, logits_of, usage
from workflow_scripts.publishing.tokenizer import save_tokenizer
from workflow_scripts.publishing.tuned import tuned_model
from workflow_scripts.tuning.finished import FinishedRun
from workflow_scripts.tuning.methods.input_prompt_tuning import InputPrompts
from workflow_scripts.tuning.model import TunedModel
from workflow_scripts.tuning.prompts import Prompts

logger = logging.getLogger(__name__)

FACTS = "crossprompt.json"
Loader = Literal["transformers", "peft", "load.py"]


@dataclass(frozen=True)
class Export:
    """A folder that was written.

    Attributes:
        folder: the folder.
        facts: the content of `crossprompt.json`.
    """

    folder: Path
    facts: dict[str, Any]

    @property
    def loads_with(self) -> Loader:
        """What loads the folder: "transformers" or "peft" by a stock class, or the folder's own "load.py"."""
        loader: Loader = self.facts["loads_with"]
        return loader

    @property
    def files(self) -> list[str]:
        """The files in the folder, by their paths in it."""
        return sorted(file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file())

    def usage(self, folder: str = "") -> str:
        """Return lines of Python that load the model and its tokenizer.

        folder: the folder as the reader should name it; by default its name alone.
        """
        return usage(self.facts, folder or self.folder.name)


@dataclass(frozen=True)
class Form:
    """A form of export that may hold a model.

    Attributes:
        loads_with: see `Export`.
        write: writes the model's files into a folder and returns further facts, or None if this form cannot hold it.
    """

    loads_with: Loader
    write: Callable[[Path], dict[str, Any] | None]


def default_folder(run: FinishedRun) -> Path:
    """Return where a run is exported to by default: `RESULTS/exported/xnli-en-lora-e5-small-seed-13`."""
    encoder, task, source, arm, seed = run.folder.absolute().parts[-5:]
    name = "-".join((task, source, arm, encoder, seed))
    return run.results / EXPORTED / "".join(one if one.isalnum() or one in "._-" else "-" for one in name)


def export_run(run: FinishedRun, to: Path, merge: bool = False, onnx: bool = False) -> Export:
    """Write a run's model into a folder, which replaces an earlier export there.

    Args:
        run: the run.
        to: the folder.
        merge: whether to merge adapters into the encoder's matrices, so that transformers alone loads the model.
        onnx: whether to also write `model.onnx`.

    Raises UserError if the folder contains anything but an export, or if no form of export can hold the model.
    """
    refuse_foreign(to)
    refuse_unsupported(run)
    if onnx:
        onnx_file.require_packages()
    temporary = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        with naming(to):
            facts = _write(run, temporary, merge, onnx)
            write_json(temporary / FACTS, facts)
            _replace(temporary, to)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Export(to, facts)


def refuse_foreign(folder: Path) -> None:
    """Raise UserError for a file, and for a folder that has files but is no export."""
    if folder.is_dir() and ((folder / FACTS).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise UserError(f"--to {folder} exists and is not an export of a model: name another folder")


def refuse_unsupported(run: FinishedRun) -> None:
    """Raise UserError for a run that no form of export can hold."""
    settings = run.settings
    if settings.module:
        raise UserError(f"{run.folder}: the method {settings.method} is your own file, which only crossprompt can load")
    if settings.kind.endswith(".py"):
        raise UserError(
            f"{run.folder}: the kind of task {settings.kind} is your own file, which only crossprompt knows"
        )
    if settings.answers == "words":
        raise UserError(
            f"{run.folder} answers in words (training.answers: words): only models with a head can be exported"
        )
    if settings.quantise:
        raise UserError(
            f"{run.folder} was tuned on weights quantised to {settings.quantise} (training.quantise), which no other"
            " library rounds in the same way: tune without it to export the model"
        )


def _replace(temporary: Path, to: Path) -> None:
    """Replace an earlier folder with a complete one. A killed process leaves one of the two."""
    old = to.with_name(f".{to.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    if to.exists():
        to.rename(old)
    temporary.rename(to)
    shutil.rmtree(old, ignore_errors=True)


def _write(run: FinishedRun, folder: Path, merge: bool, onnx: bool) -> dict[str, Any]:
    """Write all files but the facts, which are returned."""
    ours, facts = reference(run), facts_of(run)
    largest: list[str] = []
    for form in forms(run, merge, onnx):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tokenizer = save_tokenizer(run, ours.encoder, folder)
        with stock.silent():
            further = form.write(folder)
        if further is None:
            continue
        made = {**facts, "loads_with": form.loads_with, **further}
        write_json(folder / FACTS, made)  # load.py reads it
        base = run.encoder if made["base"] else None
        found = _difference(run, ours, folder, made, tokenizer, base)
        if found <= TOLERANCE:
            made["largest_difference"] = found
            return made | (_write_onnx(run, ours, folder, made, tokenizer) if onnx else {})
        logger.info("%s: by %s the logits differ by %g", run.folder, form.loads_with, found)
        largest.append(f"{form.loads_with}: {found:.2g}")
    differences = ", ".join(largest) or "no form holds its parts"
    if merge:
        raise UserError(
            f"--merge: {run.settings.method} of {run.folder}, merged into the encoder, does not compute the same logits"
            f" ({differences}): leave it out"
        )
    raise UserError(
        f"{run.folder}: {run.settings.method} in an encoder of the type {ours.encoder.config.model_type!r} cannot be"
        f" exported: no library computes the same logits ({differences})"
    )


def _write_onnx(
    run: FinishedRun, ours: TunedModel, folder: Path, facts: dict[str, Any], tokenizer: Any
) -> dict[str, Any]:
    """Write the ONNX file of an export; return the facts about it. Raises UserError if its logits differ."""
    model = load(folder, facts)
    example = next(batches(tokenizer, run.settings.max_length))
    file = folder / onnx_file.FILE
    refused = f"--onnx: the model of {run.folder} cannot be written as ONNX"
    try:
        onnx_file.write_onnx(model, logits_of(model, facts), example, file)
        found = difference(ours, onnx_file.runtime_logits(file), tokenizer, run.settings.max_length)
    except Exception as error:  # the exporter and the runtime have errors of their own for each operation
        if explain(error):
            raise
        raise UserError(f"{refused} ({type(error).__name__}: {one_line(error)[:200]}): leave it out") from error
    if found > onnx_file.TOLERANCE:
        raise UserError(f"{refused}: the logits of onnxruntime differ by {found:.2g}; leave it out")
    return {"onnx": {"file": onnx_file.FILE, "largest_difference": found}}


def _difference(
    run: FinishedRun, ours: TunedModel, folder: Path, facts: dict[str, Any], tokenizer: Any, base: Path | None
) -> float:
    """Return by how much an export's logits differ; infinity if PEFT cannot run its model.

    Its prompts rely on architecture details, such as a cache, and fail in a different way for each architecture that
    lacks them.
    """
    try:
        return difference(ours, logits_of(load(folder, facts, base), facts), tokenizer, run.settings.max_length)
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
        if facts["loads_with"] != "peft":
            raise
        logger.info("%s: PEFT cannot run the export: %s", run.folder, error)
        return float("inf")


def facts_of(run: FinishedRun) -> dict[str, Any]:
    """Return the facts about a run before it is exported."""
    settings, tokenising = run.settings, run.tokenising
    encoder, task, source, arm, _ = run.folder.absolute().parts[-5:]
    facts = {
        "made_by": "crossprompt",
        "kind": settings.kind,
        "task": task,
        "labels": settings.labels,
        "outputs": stock.output_names(settings.kind, settings.labels),
        "method": settings.method,
        "arm": arm,
        "source": source,
        "seed": settings.seed,
        "encoder": encoder,
        "base": None,
        "base_options": {},
        "max_length": settings.max_length,
        "stride": tokenising.stride,
        "labelled_subword": tokenising.labelled_subword,
        "versions": {package: version(package) for package in ("torch", "transformers", "peft")},
    }
    return facts | {"score_range": stock.score_range(settings.kind, settings.labels)}


def forms(run: FinishedRun, merge: bool, onnx: bool) -> Iterator[Form]:
    """Yield the forms that may hold a run's model, the one with the fewest requirements first.

    Raises UserError if a method is to be merged and cannot be, or is to be written as ONNX and is not merged.
    """
    tuned = tuned_model(run)
    adapted = hasattr(tuned.encoder, "peft_config")
    if merge and not adapted and (tuned.prompts is not None or hasattr(tuned.encoder, "bottlenecks")):
        raise _not_merged(run)
    if adapted and not merge and onnx:
        raise UserError(f"--onnx: the adapters of {run.folder} must be merged into the encoder: add --merge")
    if adapted and not merge:
        yield Form("peft", lambda folder: _adapters(run, tuned, folder, typed=True))
        yield Form("peft", lambda folder: _adapters(run, tuned, folder, typed=False))
        yield Form(own.LOADER, lambda folder: _own_adapters(run, tuned, folder))
    elif tuned.prompts is None and not hasattr(tuned.encoder, "bottlenecks"):
        yield Form("transformers", lambda folder: _whole_stock(run, tuned, folder, adapted))
        yield Form(own.LOADER, lambda folder: _own_whole(run, tuned, folder, adapted))
    else:
        if onnx:
            raise UserError(
                f"--onnx: the encoder of {run.folder} is not tuned itself ({run.settings.method}): leave it out"
            )
        if isinstance(tuned.prompts, Prompts):
            yield Form("peft", lambda folder: _prompts(run, tuned, folder, adapters.with_prefix))
        elif isinstance(tuned.prompts, InputPrompts) and tuned.level == "token":
            yield Form("peft", lambda folder: _prompts(run, tuned, folder, adapters.with_input_prompts))
        yield Form(own.LOADER, lambda folder: _own_parts(run, tuned, folder))


def _whole_stock(run: FinishedRun, tuned: TunedModel, folder: Path, adapted: bool) -> dict[str, Any] | None:
    """A model of a stock class, with adapters merged into its matrices."""
    made = stock.stock_model(run, tuned)
    if made is None or not _fill(run, tuned, made, adapted, pooler=False):
        return None
    made.model.save_pretrained(folder)
    return {"class": made.auto}


def _own_whole(run: FinishedRun, tuned: TunedModel, folder: Path, adapted: bool) -> dict[str, Any] | None:
    """A tuned encoder with a loader for its head."""
    made = own.pretrained(run)
    if not _fill(run, tuned, made, adapted, pooler=True):
        return None
    made.model.save_pretrained(folder)
    own.write_loader(run, tuned, folder, None, whole=True)
    return {"class": None}


def _fill(run: FinishedRun, tuned: TunedModel, made: stock.StockModel, adapted: bool, pooler: bool) -> bool:
    """Load the tuned encoder into the library's model; return whether it fits."""
    if not adapted:
        return stock.fill_encoder(made.encoder, tuned, pooler)
    model = adapters.with_adapters(made, tuned, run.settings.seed, typed=False, merging=True)
    if model is None:
        return False
    if not adapters.merge(model):
        raise _not_merged(run)
    return True


def _not_merged(run: FinishedRun) -> UserError:
    return UserError(f"--merge: {run.settings.method} of {run.folder} cannot be merged into the encoder: leave it out")


def _adapters(run: FinishedRun, tuned: TunedModel, folder: Path, typed: bool) -> dict[str, Any] | None:
    """Adapters of PEFT for a stock class."""
    made = stock.stock_model(run, tuned)
    model = made and adapters.with_adapters(made, tuned, run.settings.seed, typed)
    if made is None or model is None:
        return None
    return _saved(run, model, folder, made)


def _own_adapters(run: FinishedRun, tuned: TunedModel, folder: Path) -> dict[str, Any] | None:
    """Adapters of PEFT for the encoder alone, with a loader for the head."""
    made = own.pretrained(run)
    model = adapters.with_adapters(made, tuned, run.settings.seed, typed=True)
    if model is None:
        return None
    facts = _saved(run, model, folder, made)
    own.write_loader(run, tuned, folder, facts["base"], whole=False, adapted=True)
    return {**facts, "class": None}


def _prompts(
    run: FinishedRun, tuned: TunedModel, folder: Path, make: Callable[[stock.StockModel, TunedModel], Any]
) -> dict[str, Any] | None:
    """Prompts as PEFT has them, for a stock class."""
    made = stock.stock_model(run, tuned)
    model = made and make(made, tuned)
    if made is None or model is None:
        return None
    positions = tuned.prompt_length if isinstance(tuned.prompts, InputPrompts) else 0
    return {**_saved(run, model, folder, made), "prompt_positions": positions}


def _own_parts(run: FinishedRun, tuned: TunedModel, folder: Path) -> dict[str, Any] | None:
    """What a method adds to the encoder, with a loader for it."""
    base = write_base(run, folder)
    if not own.write_loader(run, tuned, folder, base, whole=False):
        return None
    return {"class": None, "base": base}


def _saved(run: FinishedRun, model: Any, folder: Path, made: stock.StockModel) -> dict[str, Any]:
    """Write a model of PEFT and its encoder; return the facts about both."""
    base = write_base(run, folder)
    adapters.save(model, folder, base)
    return {"class": made.auto, "base": base, "base_options": base_options(made.model.config, base)}


def base_options(config: Any, base: dict[str, Any] | None) -> dict[str, Any]:
    """Return the keyword arguments for loading the encoder, besides those in its own configuration."""
    options: dict[str, Any] = {"dtype": "float32"}
    if base is None:
        return options
    if config.num_labels != 2:  # the library's default
        options["num_labels"] = config.num_labels
    return options


def write_base(run: FinishedRun, folder: Path) -> dict[str, Any] | None:
    """Write the pretrained encoder into `base/`, or return where the Hub has it, by `repository` and `commit`.

    An encoder with fewer layers, or with different attention, differs from the Hub's.
    """
    record = read_encoder(run.encoder / "encoder.json")
    source = record["source"]
    as_published = source.get("layers") is None and run.settings.attention == "pretrained"
    if source.get("source") == "hub" and as_published:
        return {"repository": source["repository"], "commit": source["commit"]}
    (folder / "base").mkdir()
    stock.stock_configuration(run).save_pretrained(folder / "base")
    for name in record["files"]:
        if name.endswith(".safetensors") or name == INDEX:
            shutil.copyfile(run.encoder / name, folder / "base" / name)
    return None


def read_export(folder: Path) -> Export:
    """Return an export that was written before. Raises UserError if the folder is not an export."""
    if not (folder / FACTS).is_file():
        raise UserError(f"{folder} is not an export of a model: it has no {FACTS}")
    return Export(folder, read_json(folder / FACTS))
