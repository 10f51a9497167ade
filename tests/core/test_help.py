"""The help of every verb comes at once: it imports no library that takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tacit.cli import VERBS

SLOW = (
    "torch",
    "transformers",
    "scipy",
    "sklearn",
    "diffusers",
    "accelerate",
    "onnx",
    "numba",
    "tensorboard",
)

ASK = """
import contextlib, io, json, sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in SLOW:
            raise ImportError(f"{name} is slow")

SLOW = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Refuses())
from tacit.cli import VERBS, main
found = {}
for verb in VERBS:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            found[verb] = main([*verb.split(), "--help"])
        except SystemExit as end:
            found[verb] = end.code
        except ImportError as error:
            found[verb] = str(error)
    if found[verb] == 0 and "usage" not in said.getvalue():
        found[verb] = said.getvalue()[:200]
    elif found[verb] == 2:
        found[verb] = said.getvalue()
print(json.dumps(found))
"""


def test_no_help_imports_a_library_that_takes_seconds() -> None:
    words = [sys.executable, "-c", ASK, json.dumps(SLOW)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    missing = {verb for verb, said in found.items() if "not installed here" in str(said)}
    assert {verb: said for verb, said in found.items() if said != 0 and verb not in missing} == {}
    assert set(found) == set(VERBS)
