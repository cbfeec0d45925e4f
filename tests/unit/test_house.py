"""The house keeps its rules: imports, files, locks, and docs that say what the code says. Knows no behaviour."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from docs import chart
from docs.tables import TABLES, with_table
from schemas.export import EXPORTED, documents

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("schemas", "journal", "broker", "gateway", "workers", "loadtest", "fleet")
LOCKS = ("requirements.lock", "requirements-local.lock", "requirements-dev.lock")
SDK_HOMES = {
    "aiokafka": ("broker/kafka*.py", "loadtest/*.py"),
    "pymongo": ("journal/mongo*.py", "fleet/replica_set.py", "loadtest/*.py", "loadtest/scenarios/*.py"),
    "bson": ("journal/mongo*.py",),
    "gridfs": ("journal/mongo*.py",),
    "openai": ("workers/models/openai*.py", "workers/adapters/openai_agents*.py"),
    "agents": ("workers/adapters/openai_agents*.py",),
    "anthropic": ("workers/models/anthropic.py",),
    "google": ("workers/models/google.py",),
    "boto3": ("workers/models/bedrock.py",),
    "botocore": ("workers/models/bedrock.py",),
    "pydantic_ai": (
        "workers/models/library*.py",
        "workers/models/anthropic.py",
        "workers/models/google.py",
        "workers/models/bedrock.py",
        "workers/adapters/pydantic_ai*.py",
    ),
    "langgraph": ("workers/adapters/langgraph*.py",),
    "langchain_core": ("workers/adapters/langgraph*.py",),
    "fastapi": ("gateway/*.py",),
    "starlette": ("gateway/*.py", "workers/health.py"),
    "mcp": ("workers/mcp/*.py",),
    "mcp_types": ("workers/mcp/*.py",),
    "xllamacpp": ("fleet/local_model.py",),
    "testcontainers": (),
}
"""Vendor SDK → the files that may import it."""
HALLS: dict[str, int] = {}
"""Files that outgrew 400 lines, and what they may not outgrow; a row goes when its file is split."""
GROUND = {"schemas", "pydantic", "pydantic_core", "pydantic_settings", "yaml", "orjson"}


def modules() -> list[Path]:
    return sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def imported(path: Path) -> frozenset[str]:
    """The top-level names that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return frozenset(found)


def locked(name: str) -> dict[str, str]:
    """Requirement → its whole block in a lock file."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text())
    return {block.split(" ")[0]: block for block in re.split(r"\n(?=\S)", text.strip())}


def test_imports_keep_the_contracts() -> None:
    # In a process of its own: import-linter sets up logging for the whole process.
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "schemas").rglob("*.py")), ids=named)
def test_the_ground_imports_pydantic_and_yaml_alone(path: Path) -> None:
    assert imported(path) - GROUND - sys.stdlib_module_names == set()


@pytest.mark.parametrize("sdk", SDK_HOMES)
def test_a_vendor_sdk_is_known_to_its_adapter_alone(sdk: str) -> None:
    homes = {path for pattern in SDK_HOMES[sdk] for path in ROOT.glob(pattern)}

    assert [named(path) for path in modules() if path not in homes and sdk in imported(path)] == []


@pytest.mark.parametrize("path", modules(), ids=named)
def test_a_module_says_its_one_job_in_its_first_line(path: Path) -> None:
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]

    assert first.endswith((".", ":"))
    assert len(first.split()) >= 3


@pytest.mark.parametrize("path", modules(), ids=named)
def test_a_module_is_a_room_and_no_hall(path: Path) -> None:
    limit = HALLS.get(named(path), 400)

    assert len(path.read_text().splitlines()) <= limit, "ask which noun is missing"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_each_package_with_hashes(name: str) -> None:
    for requirement, block in locked(name).items():
        assert re.fullmatch(r"[a-z0-9-]+==\S+", requirement), requirement
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}", block), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_no_addresses(name: str) -> None:
    assert re.findall(r"\S*(?:://|--(?!hash=)|file:| @ )\S*", (ROOT / name).read_text()) == []


def test_no_package_is_in_two_locks() -> None:
    names = [package for name in LOCKS for package in {requirement.split("==")[0] for requirement in locked(name)}]

    assert len(names) == len(set(names))


def test_every_declared_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(text for extra in project["project"]["optional-dependencies"].values() for text in extra),
    ]
    pinned = {requirement.split("==")[0] for name in LOCKS for requirement in locked(name)}

    assert {canonical(text) for text in declared} - pinned == {"turnfleet"}  # extras that name other extras


def canonical(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", requirement)[0]).lower()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_the_docs_says_what_the_code_says(name: str) -> None:
    page = (ROOT / "docs" / name).read_text()

    assert "<!-- table -->" in page
    assert page == with_table(page, TABLES[name]()), "run `make docs`"


def test_every_error_code_of_the_contract_has_a_meaning() -> None:
    contract = (ROOT / "docs" / "contract.md").read_text()
    listed = re.search(r"^Codes: (.*)\.$", contract, flags=re.M)
    errors = re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "errors.md").read_text(), flags=re.M)

    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) <= set(errors)


def test_every_setting_of_the_contract_exists() -> None:
    contract = (ROOT / "docs" / "contract.md").read_text()
    settings = set(re.findall(r"^\| `(FLEET_\w+)`", (ROOT / "docs" / "settings.md").read_text(), flags=re.M))
    rows = [line for line in contract.splitlines() if line.startswith("| `FLEET_")]

    assert rows
    assert {name for row in rows for name in re.findall(r"FLEET_[A-Z_]*[A-Z](?![A-Z_])", row)} <= settings


def test_exported_schemas_are_those_of_the_models() -> None:
    kept = {path.name: path.read_text() for path in (ROOT / "docs" / "schemas").glob("*.json")}

    assert kept == documents(), "run `make docs`"


def test_the_chart_takes_the_settings_that_there_are() -> None:
    page = chart.FILE.read_text()

    assert page == chart.text(page), "make docs writes it"


def test_every_topic_has_a_schema() -> None:
    topics = yaml.safe_load((ROOT / "topics.yaml").read_text())["topics"]

    assert [topic["name"] for topic in topics if topic["schema"] not in EXPORTED] == []


def test_every_link_of_the_docs_leads_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "DECISIONS.md", *(ROOT / "docs").glob("*.md")]
    links = [
        (page, target.split("#")[0])
        for page in pages
        for target in re.findall(r"\]\((?!https?:)([^)#][^)]*)\)", page.read_text())
    ]

    assert [f"{named(page)}: {target}" for page, target in links if not (page.parent / target).exists()] == []


def test_every_make_target_stays_within_five_lines() -> None:
    rules = re.split(r"\n(?=[\w.][^\t=]*:(?!=))", (ROOT / "Makefile").read_text())
    targets = {rule.split(":")[0]: rule.rstrip().count("\n\t") for rule in rules if rule[0] != "#"}

    assert {"install", "run", "test", "check", "load", "docs"} <= set(targets)
    assert max(targets.values()) <= 5


def test_no_file_names_a_path_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=False, capture_output=True, text=True)
    if listed.returncode != 0:
        files = [path for part in PARTS for path in (ROOT / part).rglob("*.*")]
    else:
        files = [ROOT / line for line in listed.stdout.splitlines()]
    homes = re.compile(rb"(?:^|[^A-Za-z0-9_.])/(?:work|root|home)/")

    assert [named(path) for path in files if path.is_file() and homes.search(path.read_bytes())] == []
