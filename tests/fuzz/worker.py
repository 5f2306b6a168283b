"""Runs cases on request: reads "FAMILY NUMBER" lines, answers each with a line of JSON."""

import json
import os
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ["COLUMNS"] = "200"


def run_case(name: str, number: int) -> dict[str, str]:
    """The outcome of one case, and what was said."""
    from subliminal_jax.errors import InputError
    from tests.fuzz.families import FAMILIES, Wrong

    family = FAMILIES[name]
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-{number}-"))
    here = Path.cwd()
    try:
        os.chdir(folder)
        with warnings.catch_warnings(action="ignore"):
            note = family.run(random.Random(f"{name}:{number}"), folder)
        return {"outcome": "accepted", "message": note or ""}
    except InputError as error:
        message = str(error)
        outcome = "refused" if message and "\n" not in message else "wrong"
        return {"outcome": outcome, "message": message}
    except Wrong as error:
        return {"outcome": "wrong", "message": str(error)}
    except BaseException:  # the panics of tokenizers' Rust code derive from it
        return {"outcome": "traceback", "message": traceback.format_exc()}
    finally:
        os.chdir(here)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what cases print
    for request in sys.stdin:
        name, number = request.split()
        from tests.fuzz.families import FAMILIES

        FAMILIES[name].prepare()
        print("started", file=answers, flush=True)
        print(json.dumps(run_case(name, int(number))), file=answers, flush=True)


if __name__ == "__main__":
    main()
