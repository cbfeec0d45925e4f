"""What the chart makes of its values: valid objects, settings that arrive as they were given, secrets that do not."""

from __future__ import annotations

import json
import math
from typing import Any

import kubernetes_validate
import pytest
import yaml

from docs import chart as generated
from schemas import settings
from schemas.settings import KafkaSettings, WorkerSettings, known_variables
from tests.chart.conftest import ROOT, Chart, Rendered
from workers.watchdog import Limits

PARTS = ("gateway", "worker")
SECRETS = {
    "FLEET_ANTHROPIC_KEY",
    "FLEET_BEDROCK_KEY",
    "FLEET_GOOGLE_KEY",
    "FLEET_KAFKA_SASL_PASSWORD",
    "FLEET_MODEL_KEY",
    "FLEET_MONGO_URI",
}


def environment(rendered: Rendered, part: str) -> dict[str, Any]:
    """What a container of this part has in its environment: text, or where the text comes from."""
    container = rendered.container(part)
    found: dict[str, Any] = {}
    for source in container.get("envFrom", []):
        found |= rendered.one("ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def test_lint_finds_nothing(chart: Chart, full: dict[str, Any]) -> None:
    for values in ({}, full):
        code, text = chart.run("lint", "--strict", values=values)
        assert code == 0, text


@pytest.mark.parametrize("version", ["1.29", "1.34"])
def test_every_object_is_one_of_kubernetes(chart: Chart, full: dict[str, Any], version: str) -> None:
    both = chart.render() + chart.render(full)
    foreign = [one["kind"] for one in both if "monitoring.coreos.com" in one["apiVersion"]]
    for one in both:
        if one["kind"] not in foreign:
            kubernetes_validate.validate(one, version, strict=True)
    assert foreign == ["PodMonitor"]
    assert len(both) == 8 + 11


def test_optional_parts_are_there_when_asked_for(chart: Chart, full: dict[str, Any]) -> None:
    optional = {"Ingress", "HorizontalPodAutoscaler", "PodMonitor"}
    assert chart.render(full).kinds() - chart.render().kinds() == optional
    assert "replicas" not in chart.render(full).one("Deployment", "-gateway")["spec"]
    assert "Job" not in chart.render({"topics": {"job": False}}).kinds()


def test_every_setting_can_be_said_but_the_charts_own_and_secrets() -> None:
    page = generated.FILE.read_text()
    named = set(json.loads(page)["properties"]["settings"]["properties"])
    fixed = {settings.PREFIX + name.upper() for name in generated.OURS}
    of_fleet_up = {settings.PREFIX + name.upper() for name in settings.LocalSettings.model_fields}
    assert set(json.loads(page)["properties"]["secrets"]["properties"]) == SECRETS
    assert named == set(known_variables()) - SECRETS - fixed - of_fleet_up


def test_every_value_can_be_said_and_every_object_of_values_is_closed() -> None:
    values = yaml.safe_load((ROOT / "helm" / "values.yaml").read_text())

    def compare(schema: dict[str, Any], value: dict[str, Any], path: str) -> None:
        if "properties" not in schema:
            return
        assert schema["additionalProperties"] is False, path
        assert set(value) <= set(schema["properties"]), path
        for name, inner in value.items():
            if isinstance(inner, dict):
                compare(schema["properties"][name], inner, f"{path}.{name}")

    compare(json.loads(generated.FILE.read_text()), values, "")


def test_every_setting_arrives_as_it_was_given(chart: Chart) -> None:
    given: dict[str, Any] = {}
    for variable, schema in json.loads(generated.FILE.read_text())["properties"]["settings"]["properties"].items():
        number = schema["type"] in {"integer", "number"}
        default = next(
            group.model_fields[variable.removeprefix(settings.PREFIX).lower()].get_default(call_default_factory=True)
            for group in settings.GROUPS
            if variable.removeprefix(settings.PREFIX).lower() in group.model_fields
        )
        given[variable] = default if number else str(default or "")
    given |= {"FLEET_WORKER_POOL_BYTES": 2**40, "FLEET_AGENTS": "a:b,c:d", "FLEET_KAFKA_BOOTSTRAP": "k:1"}
    data = chart.render({"settings": given}).one("ConfigMap")["data"]
    assert set(data) == set(given)
    for variable, value in given.items():
        assert (float(data[variable]) if isinstance(value, int | float) else data[variable]) == value, variable
        assert not isinstance(value, int) or data[variable] == str(value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"settings": {"FLEET_WORKER_SLOT": 8}}, "FLEET_WORKER_SLOT"),
        ({"settings": {"FLEET_WORKER_SLOTS": "many"}}, "FLEET_WORKER_SLOTS"),
        ({"settings": {"FLEET_WORKER_SLOTS": 0}}, "FLEET_WORKER_SLOTS"),
        ({"settings": {"FLEET_LOG_LEVEL": "loud"}}, "FLEET_LOG_LEVEL"),
        ({"settings": {"FLEET_WORKER_PORT": 9}}, "FLEET_WORKER_PORT"),
        ({"settings": {"FLEET_MODEL_KEY": "sk-1"}}, "FLEET_MODEL_KEY"),
        ({"settings": {"FLEET_KAFKA_BOOTSTRAP": None}}, "FLEET_KAFKA_BOOTSTRAP"),
        ({"secrets": {"FLEET_MODEL_KEY": "sk-1"}}, "FLEET_MODEL_KEY"),
        ({"secrets": {"FLEET_MODEL_KEY": {"value": "sk-1"}}}, "value"),
        ({"secrets": {"FLEET_AGENTS": {"name": "a", "key": "b"}}}, "FLEET_AGENTS"),
        ({"worker": {"env": [{"name": "FLEET_WORKER_GRACE_S", "value": "900"}]}}, "env"),
        ({"worker": {"replica": 2}}, "replica"),
    ],
)
def test_what_nobody_reads_and_what_cannot_be_is_refused(chart: Chart, values: dict[str, Any], said: str) -> None:
    assert said in chart.refused(values)


def test_a_secret_is_only_ever_referred_to_and_only_where_it_is_needed(chart: Chart, full: dict[str, Any]) -> None:
    rendered = chart.render(full)
    assert "Secret" not in rendered.kinds()
    assert not SECRETS & set(rendered.one("ConfigMap")["data"])
    held = {part: SECRETS & set(environment(rendered, part)) for part in (*PARTS, "topics")}
    kafka = "FLEET_KAFKA_SASL_PASSWORD"
    assert held == {"worker": SECRETS, "gateway": {kafka, "FLEET_MONGO_URI"}, "topics": {kafka}}
    for part, names in held.items():
        assert {tuple(environment(rendered, part)[name]) for name in names} == {("secretKeyRef",)}


def test_a_worker_is_named_as_its_pod_and_found_where_probes_and_prometheus_look(chart: Chart) -> None:
    rendered = chart.render()
    assert environment(rendered, "worker")["FLEET_WORKER_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    for part in PARTS:
        container, env = rendered.container(part), environment(rendered, part)
        (port,) = container["ports"]
        assert (port["name"], str(port["containerPort"])) == ("http", env[f"FLEET_{part.upper()}_PORT"])
        assert env[f"FLEET_{part.upper()}_HOST"] == "0.0.0.0"
        probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        alive, ready = ({"path": path, "port": "http"} for path in ("/healthz", "/readyz"))
        assert probes == {"startup": alive, "liveness": alive, "readiness": ready}
        assert container["command"] == ["python", "-m", {"gateway": "gateway", "worker": "workers"}[part]]
        annotations = rendered.one("Deployment", f"-{part}")["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == env[f"FLEET_{part.upper()}_PORT"]


@pytest.mark.parametrize("grace_s", [0.5, 30, 45.2, 3_600, 100_000, None])
def test_the_kubelet_waits_longer_than_a_worker_needs(chart: Chart, grace_s: float | None) -> None:
    pod = chart.render({"settings": {"FLEET_WORKER_GRACE_S": grace_s}}).pod("worker")
    default = WorkerSettings.model_fields["worker_grace_s"].default
    needed_s = default if grace_s is None else grace_s
    assert pod["terminationGracePeriodSeconds"] == math.ceil(needed_s) + 15


@pytest.mark.parametrize("timeout_ms", [None, 1_000, 6_000, 10_000, 45_000, 300_000])
def test_a_worker_that_hangs_ends_by_its_own_watchdog_first(chart: Chart, timeout_ms: int | None) -> None:
    said = {} if timeout_ms is None else {"FLEET_KAFKA_SESSION_TIMEOUT_MS": timeout_ms}
    probe = chart.render({"settings": said}).container("worker")["livenessProbe"]
    default = KafkaSettings.model_fields["kafka_session_timeout_ms"].default
    kafka = KafkaSettings(kafka_session_timeout_ms=timeout_ms or default, kafka_heartbeat_ms=100)
    limits = Limits.of(WorkerSettings(worker_stall_share=0.9), kafka)
    earliest_s = probe["periodSeconds"] * (probe["failureThreshold"] - 1)
    assert earliest_s >= limits.end_s
    assert probe["failureThreshold"] >= 2
    assert earliest_s <= kafka.kafka_session_timeout_ms / 1_000 + 20, "nor much later"


def test_the_files_of_a_worker_are_where_its_settings_say(chart: Chart) -> None:
    pod = chart.render({"worker": {"configMap": "files"}}).pod("worker")
    assert {"name": "worker", "configMap": {"name": "files"}} in pod["volumes"]
    assert {"name": "worker", "mountPath": "/etc/turnfleet/worker", "readOnly": True} in pod["containers"][0][
        "volumeMounts"
    ]


def test_before_a_pod_goes(chart: Chart) -> None:
    rendered = chart.render({"gateway": {"lameDuckSeconds": 9}})
    drain = rendered.container("worker")["lifecycle"]["preStop"]["exec"]["command"]
    assert drain == ["fleet", "drain", "--here", "--wait"]
    assert rendered.container("gateway")["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "9"]
    assert rendered.pod("gateway")["terminationGracePeriodSeconds"] == 49


def test_a_rolling_update_takes_nobody_away_and_a_node_drain_one_at_a_time(chart: Chart) -> None:
    rendered = chart.render()
    for part in PARTS:
        deployment, budget = rendered.one("Deployment", f"-{part}"), rendered.one("PodDisruptionBudget", f"-{part}")
        strategy = deployment["spec"]["strategy"]
        assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        assert budget["spec"]["maxUnavailable"] == 1
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert rendered.one("Service")["spec"]["selector"]["app.kubernetes.io/component"] == "gateway"


def test_other_settings_start_other_pods(chart: Chart) -> None:
    def checksums(values: dict[str, Any]) -> set[str]:
        rendered = chart.render(values)
        templates = [rendered.one("Deployment", f"-{part}")["spec"]["template"] for part in PARTS]
        return {template["metadata"]["annotations"]["checksum/settings"] for template in templates}

    assert checksums({}) != checksums({"settings": {"FLEET_AGENT": "echo"}})
    assert checksums({}) == checksums({"worker": {"replicas": 9}})


def test_nobody_is_root_nor_writes_but_to_tmp(chart: Chart, full: dict[str, Any]) -> None:
    rendered = chart.render(full)
    for part in (*PARTS, "topics"):
        pod = rendered.pod(part)
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            files = {"worker"} if part == "worker" else set()
            assert {one["name"] for one in container["volumeMounts"]} == {"tmp", "kafka-tls", "topics", *files}
            assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
            assert [one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")] == ["/tmp"]


def test_a_service_called_fleet_gateway_puts_no_port_into_the_environment(chart: Chart) -> None:
    rendered = chart.render(release="fleet")
    assert all(rendered.pod(part)["enableServiceLinks"] is False for part in (*PARTS, "topics"))


def test_topics_are_applied_and_checked_before_anything_else(chart: Chart, full: dict[str, Any]) -> None:
    rendered = chart.render(full)
    job = rendered.one("Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (first,), (then,) = job["spec"]["template"]["spec"]["initContainers"], job["spec"]["template"]["spec"]["containers"]
    assert (first["command"], then["command"]) == (["fleet", "topics", "apply"], ["fleet", "topics", "check"])
    assert first["env"] == then["env"]
    for part in (*PARTS, "topics"):
        env = environment(rendered, part)
        assert env["FLEET_TOPICS_FILE"] == "/etc/turnfleet/topics/topics.yaml"
        assert rendered.one("ConfigMap")["data"].items() <= env.items()
    assert "envFrom" not in then, "a hook runs before the ConfigMap is there"
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]


def test_the_worker_keeps_a_quarter_of_its_memory_for_what_it_starts() -> None:
    values = yaml.safe_load((ROOT / "helm" / "values.yaml").read_text())
    assert values["worker"]["resources"]["limits"]["memory"] == "1Gi"
    assert values["settings"]["FLEET_WORKER_MEMORY_MIB"] <= 768


def test_the_notes_say_where_the_gateway_is_and_that_nobody_signs_in(chart: Chart) -> None:
    text = chart.notes()
    assert "http://r-turnfleet-gateway.default:80" in text
    assert "development mode" in text
