"""The repositories of the tasks' datasets on the Hugging Face Hub, and the revisions that the workflow was written for.

UD-POS is not among them: the hub's copy mixes languages, so it comes from Universal Dependencies itself.
"""

from dataclasses import dataclass

# The commit that converted each repository to parquet. A configuration may name other revisions.
REVISIONS = {
    "facebook/xnli": "b8dd5d7af51114dbda02c0e3f6133f332186418e",
    "google-research-datasets/paws-x": "4cd8187c404bda33cb1f62b49b001115862acf37",
    "rajpurkar/squad": "7b6d24c440a36b6815f21b70d25016731768db1f",
    "google/xquad": "51adfef1c1287aab1d2d91b5bead9bcfb9c68583",
    "google-research-datasets/tydiqa": "da78f23f9119363459acbaf46bf89426ff26c259",
}

# Universal Dependencies: each treebank is a repository with a tag for every release.
TREEBANKS = "https://raw.githubusercontent.com/UniversalDependencies"


@dataclass(frozen=True)
class Part:
    """One split of a task: the files `{folder}/{split}-*.parquet` of a repository."""

    repository: str
    folder: str
    split: str

    def in_language(self, language: str) -> "Part":
        """The part for one language, if the folder's name depends on it."""
        return Part(self.repository, self.folder.format(language=language), self.split)


def _parts(repository: str, folder: str, **splits: str) -> dict[str, Part]:
    return {split: Part(repository, folder, name) for split, name in splits.items()}


PARTS: dict[str, dict[str, Part]] = {
    "xnli": _parts("facebook/xnli", "{language}", train="train", validation="validation", test="test"),
    "pawsx": _parts(
        "google-research-datasets/paws-x", "{language}", train="train", validation="validation", test="test"
    ),
    "xquad": _parts("rajpurkar/squad", "plain_text", train="train", validation="validation")
    | _parts("google/xquad", "xquad.{language}", test="validation"),
    # All languages are in one file, and there is no third split: see `shared.is_held_out`.
    "tydiqa": _parts(
        "google-research-datasets/tydiqa", "secondary_task", train="train", validation="train", test="validation"
    ),
}
