"""Loads exports in a separate process, as their users do: `python -I load_exports.py FOLDER`.

It runs the code that each export gives for loading, and prints by how much its logits differ from the expected ones.
Nothing of this project may be importable.
"""

import importlib.util
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

assert importlib.util.find_spec("workflow_scripts") is None, "this project can be imported"


def logits_of(output, positions):
    """The logits of any of the libraries' outputs; of answers, start and end in the last dimension."""
    if torch.is_tensor(output):
        return output
    values = torch.stack((output.start_logits, output.end_logits), -1) if "start_logits" in output else output.logits
    return values[:, positions:]


found = {}
for file in sorted(Path(sys.argv[1]).glob("*.json")):
    case = json.loads(file.read_text())
    names = {}
    exec(case["usage"], names)
    model, tokenizer = names["model"], names["tokenizer"]
    saved = load_file(file.with_suffix(".safetensors"))
    expected = saved.pop("logits")
    if case["texts"]:
        saved = dict(tokenizer(*case["texts"], padding=True, truncation=True, return_tensors="pt"))
    with torch.inference_mode():
        logits = logits_of(model(**saved), case["prompt_positions"])
    if logits.dim() == 3:
        logits = logits[saved["attention_mask"].bool()]
    assert logits.shape == expected.shape, (file.stem, logits.shape, expected.shape)
    config = getattr(model, "config", None)
    found[file.stem] = {
        "difference": (logits - expected).abs().max().item(),
        "largest": expected.abs().max().item(),
        "class": type(model).__name__,
        "labels": dict(getattr(config, "id2label", {})),
        "max_length": tokenizer.model_max_length,
    }
assert not [name for name in sys.modules if name.startswith("workflow_scripts")]
print(json.dumps(found))
