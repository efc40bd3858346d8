"""How long Snakemake takes to plan the paper's grid, and to recognise a finished grid; also with ten times the jobs.

    python -m benchmarks.planning --encoders 1 10

The finished grid consists of empty files. For one encoder, Snakemake itself writes the metadata of each job
(`--touch`); for more encoders, the first one's files and metadata are copied under the other names. Prints one line of
JSON per grid.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
# `--touch` sleeps 0.1 s per job, so that time stamps differ on any file system. With nanosecond time stamps 1 ms is
# enough.
TOUCH = (
    "import sys; from snakemake.executors.touch import Executor; Executor.SLEEPING_TIME = 0.001;"
    " from snakemake.cli import main; main(sys.argv[1:])"
)


class WorkingFolder:
    """A working folder for the paper's grid with a number of encoders."""

    def __init__(self, folder: Path, encoders: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        configuration = yaml.safe_load((ROOT / "configs/paper.yaml").read_text(encoding="utf-8"))
        (encoder,) = configuration["encoders"].values()
        configuration["encoders"] = {encoder_name(number): encoder for number in range(encoders)}
        (folder / "paper.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")

    def run_snakemake(self, *words: str) -> tuple[str, dict[str, float]]:
        """Run Snakemake; return its output, and its elapsed seconds, processor seconds and peak memory (MB)."""
        command = [sys.executable, "-c", TOUCH] if "--touch" in words else [sys.executable, "-m", "snakemake"]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder)]
        command += ["--configfile", str(self.folder / "paper.yaml"), *words]
        output = self.folder / "output"
        with output.open("w") as file:
            started = time.monotonic()
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        text = output.read_text()
        if process.returncode:
            raise SystemExit(text)
        seconds = round(time.monotonic() - started, 1)
        processor = round(usage.ru_utime + usage.ru_stime, 1)
        return text, {"seconds": seconds, "processor_seconds": processor, "megabytes": round(usage.ru_maxrss / 1000)}

    def make_outputs(self, plan: str) -> None:
        """Create an empty file for every output of a plan; `selected.json` gets content, since planning reads it."""
        for line in re.findall(r"^    output: (.*)$", plan, re.MULTILINE):
            for name in line.split(", "):
                path = self.folder / name
                if path.suffix:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text('{"learning_rate": 0.001}' if path.name == "selected.json" else "")
                else:
                    path.mkdir(parents=True, exist_ok=True)

    def copy_finished(self, finished: Path, encoders: int) -> None:
        """Copy a finished grid of the first encoder, and copy it again under the names of the others."""
        for top in ("resources", "results"):
            shutil.copytree(finished / top, self.folder / top, copy_function=shutil.copy2)
        memory = self.folder / ".snakemake/metadata"
        shutil.copytree(finished / ".snakemake/metadata", memory, dirs_exist_ok=True)
        first = encoder_name(0)
        folders = [folder for folder in self.folder.glob(f"re*/**/{first}") if folder.is_dir()]
        records = {file: base64.b64decode(file.name).decode() for file in memory.iterdir()}
        for name in map(encoder_name, range(1, encoders)):
            for folder in folders:
                shutil.copytree(folder, folder.with_name(name), copy_function=shutil.copy2)
            for file, output in records.items():
                if first in output:
                    copy = memory / base64.b64encode(output.replace(first, name).encode()).decode()
                    copy.write_text(file.read_text().replace(first, name))


def encoder_name(number: int) -> str:
    """Return the name of an encoder; all have the same length."""
    return f"encoder-{number:03d}"


def measure(encoders: int, folder: Path) -> dict[str, Any]:
    """Measure planning in an empty folder and in a finished grid."""
    working_folder = WorkingFolder(folder / f"grid-{encoders}", encoders)
    plan, planned = working_folder.run_snakemake("--dry-run")
    jobs = int(re.findall(r"^total +(\d+)$", plan, re.MULTILINE)[0])
    if encoders == 1:
        working_folder.make_outputs(plan)
        working_folder.run_snakemake("--touch", "--forceall", "--cores", "2")
    else:
        one = folder / "grid-1"
        if not one.exists():
            measure(1, folder)
        working_folder.copy_finished(one, encoders)
        working_folder.run_snakemake(
            "--touch", "--cores", "2"
        )  # the grid-wide outputs, which belong to the smaller grid
    output, found = working_folder.run_snakemake("--dry-run")
    if "Nothing to be done" not in output or "missing provenance" in output:
        raise SystemExit(f"Snakemake does not recognise the grid of {encoders} encoders as finished:\n{output[:2000]}")
    return {"encoders": encoders, "jobs": jobs, "plan": planned, "finished": found}


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--encoders", type=int, nargs="+", default=[1, 10], help="numbers of encoders; default: 1 10")
    return result


def main() -> None:
    """Measure each grid and print its line."""
    with tempfile.TemporaryDirectory() as folder:
        for encoders in parser().parse_args().encoders:
            print(json.dumps(measure(encoders, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
