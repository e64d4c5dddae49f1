"""The Kubernetes files: every field is one that the API knows, and the promises between files hold."""

import copy
import gzip
import os
import re
import subprocess
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parent.parent
K8S = ROOT / "k8s"


def strict(node, top=True):
    """The schema with every field it does not name forbidden, as the API server's strict mode has it."""
    if isinstance(node, list):
        return [strict(item, False) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key in ("properties", "patternProperties"):
            out[key] = {name: strict(child, False) for name, child in value.items()}
        elif key in ("items", "additionalProperties", "allOf", "anyOf", "oneOf", "not"):
            out[key] = strict(value, False)
        else:
            out[key] = value
    if node.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    if top:
        out["properties"]["metadata"] = {"type": "object"}
    return out


def load_schema(kind):
    with gzip.open(ROOT / "tests" / "schemas" / f"ray.io_{kind}.yaml.gz") as file:
        crd = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    return strict(version["schema"]["openAPIV3Schema"])


RAYJOB_SCHEMA = load_schema("rayjobs")
RAYJOB = yaml.safe_load((K8S / "rayjob.yaml").read_text())
CORE = {doc["kind"]: doc for doc in yaml.safe_load_all((K8S / "nightly.yaml").read_text())}
SCRIPT = CORE["ConfigMap"]["data"]["create.sh"]
TEMPLATE = CORE["ConfigMap"]["data"]["rayjob.yaml"]
NIGHTLY = yaml.safe_load(TEMPLATE.replace("NIGHT", "20260131"))
CRON = CORE["CronJob"]["spec"]
CRON_JOB = CRON["jobTemplate"]["spec"]
CRON_POD = CRON_JOB["template"]["spec"]
BOTH = pytest.mark.parametrize("job", [RAYJOB, NIGHTLY], ids=["rayjob", "nightly"])


def faults(document, schema=RAYJOB_SCHEMA):
    return [f"{e.json_path}: {e.message[:200]}" for e in Draft202012Validator(schema).iter_errors(document)]


def pods(job):
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [job["spec"]["submitterPodTemplate"]["spec"], *(g["template"]["spec"] for g in groups)]


@BOTH
def test_rayjob_has_no_field_that_the_operator_does_not_know(job):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert faults(job) == []


def test_a_misspelt_field_is_caught():
    bad = copy.deepcopy(RAYJOB)
    bad["spec"]["backofLimit"] = bad["spec"].pop("backoffLimit")
    (fault,) = faults(bad)
    assert "backofLimit" in fault


def test_a_misspelt_field_deep_in_a_pod_is_caught():
    bad = copy.deepcopy(RAYJOB)
    pods(bad)[-1]["containers"][0]["securityContex"] = {}
    (fault,) = faults(bad)
    assert "securityContex" in fault


def test_a_replica_count_in_quotes_is_caught():
    bad = copy.deepcopy(RAYJOB)
    bad["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"] = "2"
    (fault,) = faults(bad)
    assert "replicas" in fault and "integer" in fault


def test_nightly_renders_as_the_one_job_does():
    one, night = copy.deepcopy(RAYJOB["spec"]), copy.deepcopy(NIGHTLY["spec"])
    assert one.pop("entrypoint") == "python -m jobs run s3://farm/manifests/nightly.parquet"
    assert night.pop("entrypoint") == "python -m jobs run s3://farm/manifests/20260131/nightly.parquet"
    assert night == one


def test_the_same_night_fits_raycronjob():
    spec = {"schedule": CRON["schedule"], "timeZone": CRON["timeZone"], "jobTemplate": NIGHTLY["spec"]}
    moved = {"apiVersion": "ray.io/v1", "kind": "RayCronJob", "metadata": {}, "spec": spec}
    assert faults(moved, load_schema("raycronjobs")) == []


@BOTH
def test_pods_are_confined_pinned_and_given_time(job):
    for pod in [*pods(job), CRON_POD]:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            assert tag and tag != "latest"
    _, head, worker = pods(job)
    env = {item["name"]: item["value"] for item in worker["containers"][0]["env"]}
    assert worker["terminationGracePeriodSeconds"] >= int(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]) + 30
    stop = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]
    assert head["terminationGracePeriodSeconds"] >= int(stop) + 30


@BOTH
def test_work_stays_off_the_head_and_strangers_off_the_cluster(job):
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert int(pods(job)[-1]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) > 0
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_names_are_short_enough_for_what_is_made_from_them():
    for name in (
        RAYJOB["metadata"]["name"],
        NIGHTLY["metadata"]["name"],
        CORE["CronJob"]["metadata"]["name"],
    ):
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
        assert len(name) <= 47
    assert {doc["metadata"]["namespace"] for doc in [RAYJOB, NIGHTLY, *CORE.values()]} == {"longtake"}


def test_core_objects_have_only_known_fields():
    head = {"apiVersion", "kind", "metadata"}
    body = {"ServiceAccount": set(), "Role": {"rules"}, "RoleBinding": {"roleRef", "subjects"}}
    body |= {"ConfigMap": {"data"}, "CronJob": {"spec"}}
    version = {"ServiceAccount": "v1", "ConfigMap": "v1", "CronJob": "batch/v1"}
    assert CORE.keys() == body.keys()
    for kind, document in CORE.items():
        assert document.keys() == head | body[kind]
        assert document["metadata"].keys() == {"name", "namespace"}
        assert document["apiVersion"] == version.get(kind, "rbac.authorization.k8s.io/v1")
    limits = {"successfulJobsHistoryLimit", "failedJobsHistoryLimit", "startingDeadlineSeconds"}
    assert CRON.keys() == {"schedule", "timeZone", "concurrencyPolicy", "jobTemplate"} | limits
    assert all(type(CRON[key]) is int for key in limits)
    assert CRON["concurrencyPolicy"] == "Forbid"
    assert CRON["jobTemplate"].keys() == {"spec"}
    assert CRON_JOB.keys() == {"backoffLimit", "activeDeadlineSeconds", "template"}
    assert CRON_POD["restartPolicy"] == "Never"
    pod_schema = RAYJOB_SCHEMA["properties"]["spec"]["properties"]["submitterPodTemplate"]
    assert faults(CRON_JOB["template"], pod_schema) == []


def test_the_schedule_may_create_rayjobs_and_nothing_else():
    (rule,) = CORE["Role"]["rules"]
    assert rule == {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get", "list"]}
    account = CORE["ServiceAccount"]["metadata"]
    assert CORE["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", **account}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CORE["Role"]["metadata"]["name"]}
    assert CORE["RoleBinding"]["roleRef"] == role
    assert CRON_POD["serviceAccountName"] == account["name"]
    assert CRON_POD["volumes"][0]["configMap"]["name"] == CORE["ConfigMap"]["metadata"]["name"]


def test_a_late_start_still_falls_on_the_same_date():
    ZoneInfo(CRON["timeZone"])
    assert {"name": "TZ", "value": CRON["timeZone"]} in CRON_POD["containers"][0]["env"]
    minute, hour, *every = CRON["schedule"].split()
    assert every == ["*", "*", "*"]
    latest = CRON["startingDeadlineSeconds"] + CRON_JOB["activeDeadlineSeconds"]
    assert int(hour) * 3600 + int(minute) * 60 + latest < 24 * 3600


@pytest.mark.parametrize(
    ("answer", "code", "expected"),
    [
        ("rayjob.ray.io/nightly created", 0, 0),
        ('Error from server (AlreadyExists): rayjobs.ray.io "nightly" already exists', 1, 0),
        ("Error from server (Forbidden): rayjobs.ray.io is forbidden", 1, 1),
        ("The connection to the server was refused", 1, 1),
    ],
)
def test_the_script_creates_one_job_a_night(tmp_path, answer, code, expected):
    (tmp_path / "rayjob.yaml").write_text(TEMPLATE)
    fake = tmp_path / "kubectl"
    fake.write_text(
        f"#!/bin/sh\necho \"$*\" > {tmp_path}/args\ncat > {tmp_path}/sent\necho '{answer}' >&2\nexit {code}\n"
    )
    fake.chmod(0o755)
    clock = tmp_path / "date"
    clock.write_text("#!/bin/sh\necho 20260131\n")
    clock.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TEMPLATE": str(tmp_path / "rayjob.yaml")}
    done = subprocess.run(["sh", "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == expected
    assert answer in done.stdout + done.stderr
    assert (tmp_path / "args").read_text().strip() == "create -f -"
    assert yaml.safe_load((tmp_path / "sent").read_text()) == NIGHTLY


def test_the_image_is_pinned_and_not_root():
    lines = (K8S / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM")] == ["FROM python:3.11-slim"]
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000:1000"]
    installs = [line for line in lines if "pip install" in line]
    assert installs and all("-c constraints.txt" in line for line in installs)
    copied = {line.split()[1] for line in lines if line.startswith("COPY")}
    assert {"cluster", "engine", "jobs", "manifests"} <= copied
    assert "://" not in "\n".join(lines)
