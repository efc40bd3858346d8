"""The tests that concern a package, and a small grid from its encoder to its report, with another version of it.

    make test-versions                                  the lowest and the newest version of each package
    make test-versions ARGS="transformers==5.18.0"      one

The lowest versions are those of envs/minimum.txt. Each version is installed into a temporary environment on top of
.venv, which is not changed; all packages that pip does not have to change are the pinned ones.
"""

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.bench import ROOT
from workflow_scripts.experiment.environment import MINIMUM

# The test files that use most of a package.
TESTS = {
    "snakemake": "workflow console module_use working_folder resource_names snakemake_timers",
    "transformers": "architectures deberta few_passes encoders special_tokens tokens gguf generate decoders packed"
    " adapters export_model",
    "peft": "peft adapters quantise export_model",
    "huggingface_hub": "network hub_corpus",
    "snakemake-executor-plugin-slurm": "slurm slurm_cluster",
}
COUNTS = "not documentation and not a_page_counts"  # what the docs say about the types of the pinned PEFT
GRID = ROOT / ".ci/small.yaml"
PROGRAM = "import sys; from snakemake.cli import main; sys.exit(main())"


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("versions", nargs="*", type=requirement, help="PACKAGE==VERSION, of " + ", ".join(TESTS))
    return result


def requirement(text: str) -> str:
    """A requirement that pip understands, of a package that has tests."""
    if name_of(text) not in TESTS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(TESTS)}")
    return text


def name_of(requirement: str) -> str:
    """The package of a requirement."""
    return re.split(r"[^\w-]", requirement)[0]


def main() -> None:
    """Test every version that was asked for, and print a line for each."""
    wanted = parser().parse_args().versions or [*lowest(), *TESTS]
    outcomes = [outcome(version) for version in wanted]
    print(*outcomes, sep="\n")
    sys.exit(any("failed" in line for line in outcomes))


def lowest() -> list[str]:
    """The requirements of the lowest versions."""
    lines = (ROOT / MINIMUM).read_text().splitlines()
    return [line.replace(">=", "==") for line in lines if line.split(">=")[0] in TESTS]


def outcome(version: str) -> str:
    """Install a version, such as `peft==0.18.0`, or `peft` for the newest, test it, and report the outcome."""
    name = name_of(version)
    files = [f"tests/test_{test}.py" for test in TESTS[name].split()]
    with tempfile.TemporaryDirectory(prefix="crossprompt-versions-") as folder:
        python = environment(Path(folder, "environment"), version)
        found = {one.name: one.version for one in distributions(path=[str(packages(Path(folder, "environment")))])}
        grid = ["--cores", "all", "--configfile", str(GRID), "--directory", folder]
        chosen = ["-m", "not slow and not models", "-k", COUNTS]
        passed = {
            "the tests": run(python, "pytest", "-n", "auto", *chosen, *files),
            "the small grid": run(python, "snakemake", "--snakefile", str(ROOT / "Snakefile"), *grid),
        }
    installed = ", ".join(f"{name} {version}" for name, version in sorted(found.items())) or f"{name} as pinned"
    failed = " and ".join(what for what, good in passed.items() if not good)
    return f"{installed}: {failed} failed" if failed else f"{installed}: all passed"


def run(python: Path, module: str, *words: str) -> bool:
    """Run a module with an environment's Python; whether it ended well."""
    variables = {"PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([python, "-m", module, *words], cwd=ROOT, env=os.environ | variables).returncode == 0


def environment(folder: Path, version: str) -> Path:
    """The Python of a new environment that has a version of a package, and otherwise what this Python has."""
    venv.create(folder, symlinks=True)
    python, own = folder / "bin" / "python", sysconfig.get_path("purelib")
    (packages(folder) / "pinned.pth").write_text(f"{own}\n")
    program = python.with_name("snakemake")
    program.write_text(f"#!{python}\n{PROGRAM}\n")
    program.chmod(0o755)
    install = ["install", "--quiet", "--no-compile", "--upgrade", "--disable-pip-version-check", version]
    subprocess.run([python, "-m", "pip", *install], check=True)
    return python


def packages(environment: Path) -> Path:
    """The folder of an environment's packages."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))


if __name__ == "__main__":
    main()
