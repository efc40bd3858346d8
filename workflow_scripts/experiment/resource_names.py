"""Names of a cluster's partitions, accounts and so on in a profile, protected from evaluation.

Snakemake evaluates every resource of a profile as a Python expression, and takes it as a string only if evaluation
fails on an unknown name. A partition named `all` or `max` evaluates to a Python function and causes a traceback.
"""

import re
from collections.abc import Mapping
from typing import Any

# The resources of Snakemake's SLURM plugin that are strings.
TEXTS = (
    *("slurm_partition", "slurm_account", "slurm_cluster", "cluster", "clusters"),
    *("qos", "constraint", "gres", "gpu_model", "reservation", "slurm_extra"),
)
# Without quotes, brackets, spaces and variables: such a value is never intended as an expression.
PLAIN = re.compile(r"[\w.,:@+=/&|-]+")


def keep_names(default_resources: Any, overwritten: Mapping[str, Any]) -> None:
    """Turn plain values into strings, in place, before the first rule is defined.

    Jobs on the cluster get the values as the profile has them, and call this as well.

    Args:
        default_resources: Snakemake's `Resources` of `default-resources`, or None where there are none.
        overwritten: those of `set-resources`, by rule.
    """
    for resources in (default_resources, *overwritten.values()):
        for name in TEXTS:
            typed = resources.get(name).raw if resources else None
            if isinstance(typed, str) and PLAIN.fullmatch(typed):
                resources[name] = typed
