"""Write a tuned model as a folder that transformers or PEFT loads, without this project.

    RESULTS/ENCODER/TASK/SOURCE/ARM/seed-N/  ──> RESULTS/exported/TASK-SOURCE-ARM-ENCODER-seed-N/   or --to FOLDER
            run.json, weights.safetensors          crossprompt.json   what it is, and how it is loaded
                                                   README.md          the model's card
                                                   the model, its tokenizer, and load.py if no standard class fits
                                                   model.onnx         with --onnx

The folder is loaded and checked before it is moved into place: its logits equal those of the run's model.
"""

import argparse
from pathlib import Path

from workflow_scripts.core.step import run, step_parser


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__)
    result.add_argument(
        "run", type=Path, metavar="RUN", help="the folder of a run, such as results/e5-small/xnli/en/lora/seed-13"
    )
    result.add_argument("--to", type=Path, metavar="FOLDER", help="where to write; an earlier export there is replaced")
    result.add_argument(
        "--resources", type=Path, default=Path("resources"), metavar="FOLDER", help="the grid's; default: resources"
    )
    result.add_argument(
        "--merge", action="store_true", help="merge adapters into the encoder, so that transformers alone loads it"
    )
    result.add_argument("--onnx", action="store_true", help="also write model.onnx; needs envs/export.txt")
    result.add_argument("--licence", metavar="ID", help="of the weights as the Hub names it, such as mit; for the card")
    result.add_argument(
        "--push", metavar="REPOSITORY", help="upload the folder to the Hugging Face Hub, with the token in HF_TOKEN"
    )
    return result


def main(arguments: argparse.Namespace) -> None:
    """Export, print how the folder is loaded, and upload it if asked to.

    Raises UserError for what cannot be exported.
    """
    from workflow_scripts.publishing import hub
    from workflow_scripts.publishing.card import write_card
    from workflow_scripts.publishing.export import default_folder, export_run
    from workflow_scripts.tuning.finished import open_run

    if arguments.push:
        hub.token()  # a missing one ends the step before the work
    found = open_run(arguments.run, arguments.resources)
    made = export_run(found, arguments.to or default_folder(found), arguments.merge, arguments.onnx)
    write_card(found, made, arguments.licence)
    print(f"{made.folder} loads with {made.loads_with}; its logits differ by {made.facts['largest_difference']:.1g}:\n")
    print(made.usage(str(made.folder)))
    if arguments.push:
        print(f"\nuploaded to {hub.push(made.folder, arguments.push)}")


if __name__ == "__main__":
    run(main, parser())
