"""Settings as a person gives them: nothing given is nothing said, a slip is one sentence that names its variable."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas import settings
from schemas.settings import complaint, known_variables, unknown_variables

GROUP_OF = {
    settings.PREFIX + name.upper(): group for group in settings.GROUPS for name in group.model_fields
}  # fmt: skip


def refused(monkeypatch: pytest.MonkeyPatch, **given: str) -> str:
    """What is said of these variables."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        GROUP_OF[next(iter(given))]()
    return complaint(caught.value)


@pytest.mark.parametrize("variable", sorted(known_variables()))
def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    name = variable.removeprefix(settings.PREFIX).lower()
    monkeypatch.delenv(variable, raising=False)
    without = getattr(GROUP_OF[variable](), name)
    monkeypatch.setenv(variable, "")
    assert getattr(GROUP_OF[variable](), name) == without


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300", "315360001"])
@pytest.mark.parametrize("variable", sorted(name for name in known_variables() if name.endswith("_S")))
def test_a_duration_is_at_most_ten_years(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    assert refused(monkeypatch, **{variable: value}).startswith(f"{variable}: ")


@pytest.mark.parametrize("variable", ["FLEET_KAFKA_SESSION_TIMEOUT_MS", "FLEET_GATEWAY_HEARTBEAT_MS"])
def test_so_is_one_in_milliseconds(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    assert refused(monkeypatch, **{variable: "315360000001"}) == f"{variable}: at most 315360000000"


def test_a_number_fits_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, FLEET_BUDGET_DAY_TOKENS=str(2**63))
    assert said == "FLEET_BUDGET_DAY_TOKENS: at most 9223372036854775807"


def test_a_heartbeat_comes_twice_within_the_session_timeout_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, FLEET_KAFKA_HEARTBEAT_MS="3000", FLEET_KAFKA_SESSION_TIMEOUT_MS="5000")
    assert said == (
        "FLEET_KAFKA_HEARTBEAT_MS: at most half of FLEET_KAFKA_SESSION_TIMEOUT_MS (5000), else workers that live are "
        "replaced"
    )


def test_a_turn_is_no_larger_than_the_record_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, FLEET_CONTENT_BYTES="5000000").startswith("FLEET_CONTENT_BYTES: ")


@pytest.mark.parametrize("given", ["k", "k:1", "k-1.example:9092, k_2:9092", "[::1]:9092", "10.0.0.1:9092"])
def test_brokers_are_hosts_with_ports(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("FLEET_KAFKA_BOOTSTRAP", given)
    assert settings.KafkaSettings().kafka_bootstrap == given


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        ("FLEET_KAFKA_BOOTSTRAP", "k:1:2"),
        ("FLEET_KAFKA_BOOTSTRAP", "k:"),
        ("FLEET_KAFKA_BOOTSTRAP", "SASL_SSL://k:9092"),
        ("FLEET_KAFKA_BOOTSTRAP", ","),
        ("FLEET_KAFKA_BOOTSTRAP", "k:1,"),
        ("FLEET_KAFKA_SASL_MECHANISM", "plain"),
        ("FLEET_TOPIC_PREFIX", "a/b"),
    ],
)
def test_what_the_client_of_the_broker_would_stumble_over_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, given: str
) -> None:
    assert refused(monkeypatch, **{variable: given}).startswith(f"{variable}: ")


@pytest.mark.parametrize("given", ["anthropic", "anthropic=", "anthropic=many", "openia=3", "anthropic=-1"])
def test_a_slip_within_a_list_names_the_variable(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    said = refused(monkeypatch, FLEET_MODEL_CONCURRENCY=given)
    assert said.startswith("FLEET_MODEL_CONCURRENCY: ")
    assert "Value error" not in said


def test_a_wrong_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "s3cret" not in refused(monkeypatch, FLEET_WORKER_SLOTS="s3cret")


def test_a_name_that_nobody_reads_is_told_with_the_nearest() -> None:
    given = {"FLEET_WORKER_SLOT": "1", "FLEET_AGENT": "chat", "PATH": "/bin", "FLEET_XYZZY_PLUGH": ""}
    assert unknown_variables(given) == [
        "FLEET_WORKER_SLOT is not a setting; did you mean FLEET_WORKER_SLOTS?",
        "FLEET_XYZZY_PLUGH is not a setting",
    ]
