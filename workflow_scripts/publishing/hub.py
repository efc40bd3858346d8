"""Uploading an export to the Hugging Face Hub."""

import os
from pathlib import Path

from workflow_scripts.core.errors import UserError
from workflow_scripts.network.failures import explanation

TOKEN = "HF_TOKEN"
# What exports consist of: files of an earlier one that the new one lacks are deleted. Others stay.
REPLACED = ("adapter_*", "base/*", "load.py", "model*.safetensors*", "model.onnx*", "tuned.safetensors")


def token() -> str:
    """Return the token of the environment. Raises UserError if there is none."""
    found = os.environ.get(TOKEN, "").strip()
    if not found:
        raise UserError(
            f"--push needs a token with write permission in the environment variable {TOKEN}: make one at"
            " https://huggingface.co/settings/tokens"
        )
    return found


def push(folder: Path, repository: str) -> str:
    """Upload an export as one commit; return the URL of the repository's page.

    A repository that does not exist is created, and is private at first.

    Args:
        folder: of the export.
        repository: `owner/name`, or a name in the account of the token.

    Raises UserError if there is no token, or if the Hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(endpoint=constants.ENDPOINT, token=token())
    try:
        made = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            commit_message=f"Export of {folder.name}",
            delete_patterns=list(REPLACED),
        )
    except Exception as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        if status in (401, 403):
            way = f"access was refused ({status}): {TOKEN} may have expired, or lack write permission there"
        elif isinstance(cause, HFValidationError):
            way = "this is not a valid repository name: write OWNER/NAME"
        elif isinstance(cause, OfflineModeIsEnabled):
            way = "HF_HUB_OFFLINE is set: unset it"
        else:
            way = ": ".join(explanation(cause, f"HF_ENDPOINT ({constants.ENDPOINT})", "the disk"))
        raise UserError(f"--push {repository}: {folder} cannot be uploaded: {way}") from error
    return str(made)
