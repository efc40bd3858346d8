"""The steps of the workflow (top level) and the rooms that they are built from."""

import sys

from workflow_scripts.experiment.faults import report_missing_package

# A step's own imports run before the step: what they lack, the interpreter has to tell.
if sys.excepthook is sys.__excepthook__:
    sys.excepthook = report_missing_package
