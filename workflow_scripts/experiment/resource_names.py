"""Names of a cluster's partitions, accounts and the like in a profile: taken as they are typed.

Snakemake evaluates every resource of a profile as a Python expression, and falls back to the text only where that
fails on an unknown name. A partition named `all` or `max` evaluates to a Python function and ends in a traceback.
"""

import re
from collections.abc import Mapping
from typing import Any

# The resources of Snakemake's plugin for SLURM that are texts.
TEXTS = (
    *("slurm_partition", "slurm_account", "slurm_cluster", "cluster", "clusters"),
    *("qos", "constraint", "gres", "gpu_model", "reservation", "slurm_extra"),
)
# No quotes, brackets, operators between spaces, or variables: nobody means an expression by this.
PLAIN = re.compile(r"[\w.,:@+=/&|-]+")


def keep_names(default_resources: Any, overwritten: Mapping[str, Any]) -> None:
    """Make texts of all plain values, in place, before the first rule is defined.

    A job on the cluster gets them as they were typed and does the same.

    Args:
        default_resources: Snakemake's `Resources` of `default-resources`, or None where there are none.
        overwritten: those of `set-resources`, by rule.
    """
    for resources in (default_resources, *overwritten.values()):
        for name in TEXTS:
            typed = resources.get(name).raw if resources else None
            if isinstance(typed, str) and PLAIN.fullmatch(typed):
                resources[name] = typed
