"""The steps of the workflow (modules at the top level) and the packages that they use."""

import sys

from workflow_scripts.core.faults import report_missing_package

# A step's imports run before its error handling: only the interpreter's hook can report a missing package there.
if sys.excepthook is sys.__excepthook__:
    sys.excepthook = report_missing_package
