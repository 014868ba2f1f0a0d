"""``python -m training``: the command line of `training.cli`, or a message if a package is missing."""

import sys

try:
    from training.cli import main
except ModuleNotFoundError as error:
    if error.name not in ("torch", "onnx", "rich"):
        raise
    sys.exit(
        f"error: {error.name} is not installed: training needs more than serving. "
        "Run `make train` or `make test` once, or install the extra `training`."
    )

main()
