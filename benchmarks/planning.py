"""How long Snakemake takes to plan the paper's grid, and to find it finished; and a grid of ten times as many jobs.

    python -m benchmarks.planning --encoders 1 10

The finished grid is made of empty files. Snakemake itself writes what it remembers of each job (`--touch`), for one
encoder; for more, that encoder's files and memory are copied under the other names. Prints one line of JSON a grid.
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
# `--touch` sleeps 0.1 s a job so that files differ in time on any disk: minutes, for nothing on a disk of nanoseconds.
TOUCH = (
    "import sys; from snakemake.executors.touch import Executor; Executor.SLEEPING_TIME = 0.001;"
    " from snakemake.cli import main; main(sys.argv[1:])"
)


class Place:
    """A working folder for the paper's grid with some encoders."""

    def __init__(self, folder: Path, encoders: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        configuration = yaml.safe_load((ROOT / "configs/paper.yaml").read_text(encoding="utf-8"))
        (encoder,) = configuration["encoders"].values()
        configuration["encoders"] = {encoder_name(number): encoder for number in range(encoders)}
        (folder / "paper.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")

    def measured(self, *words: str) -> tuple[str, dict[str, float]]:
        """Run Snakemake: what it said, and its seconds, those of the processor, and its peak memory."""
        command = [sys.executable, "-c", TOUCH] if "--touch" in words else [sys.executable, "-m", "snakemake"]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder)]
        command += ["--configfile", str(self.folder / "paper.yaml"), *words]
        said = self.folder / "said"
        with said.open("w") as file:
            begun = time.monotonic()
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        text = said.read_text()
        if process.returncode:
            raise SystemExit(text)
        seconds = round(time.monotonic() - begun, 1)
        processor = round(usage.ru_utime + usage.ru_stime, 1)
        return text, {"seconds": seconds, "processor_seconds": processor, "megabytes": round(usage.ru_maxrss / 1000)}

    def make_outputs(self, plan: str) -> None:
        """Empty files for every output of a plan; `selected.json` alone is read while planning."""
        for line in re.findall(r"^    output: (.*)$", plan, re.MULTILINE):
            for name in line.split(", "):
                path = self.folder / name
                if path.suffix:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text('{"learning_rate": 0.001}' if path.name == "selected.json" else "")
                else:
                    path.mkdir(parents=True, exist_ok=True)

    def adopt(self, finished: Path, encoders: int) -> None:
        """Take over a finished grid of the first encoder, and give the others copies of it."""
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
    """The name of an encoder, of the same length for all."""
    return f"encoder-{number:03d}"


def measure(encoders: int, folder: Path) -> dict[str, Any]:
    """What a plan for an empty folder takes, and a plan for a finished grid."""
    place = Place(folder / f"grid-{encoders}", encoders)
    plan, planned = place.measured("--dry-run")
    jobs = int(re.findall(r"^total +(\d+)$", plan, re.MULTILINE)[0])
    if encoders == 1:
        place.make_outputs(plan)
        place.measured("--touch", "--forceall", "--cores", "2")
    else:
        one = folder / "grid-1"
        if not one.exists():
            measure(1, folder)
        place.adopt(one, encoders)
        place.measured("--touch", "--cores", "2")  # the sums, which are those of another grid now
    said, found = place.measured("--dry-run")
    if "Nothing to be done" not in said or "missing provenance" in said:
        raise SystemExit(f"the finished grid of {encoders} encoders is not found finished:\n{said[:2000]}")
    return {"encoders": encoders, "jobs": jobs, "plan": planned, "finished": found}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--encoders", type=int, nargs="+", default=[1, 10], help="how many; default: 1 10")
    return result


def main() -> None:
    """Measure each grid and print a line for it."""
    with tempfile.TemporaryDirectory() as folder:
        for encoders in parser().parse_args().encoders:
            print(json.dumps(measure(encoders, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
