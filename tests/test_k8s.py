"""The Kubernetes files: every field is one that the API knows, and the promises between files hold."""

import copy
import gzip
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from engine.film.provenance import make_development_identity

ROOT = Path(__file__).parent.parent
K8S = ROOT / "k8s"
OLDEST = "1.27"  # k8s/README.md promises it
NEWEST = kubernetes_validate.latest_version()
COMMAND = re.compile(
    r"python -m jobs run( --config \S+)? (?P<manifest>[^-\s]\S*) --out (?P<out>\w+://\S+)( [\w.]+=\S+)*"
)
# Maps whose keys are the user's, Ray's or a device plugin's: no schema can know them.
FREE = {"data", "rayStartParams", "requests", "limits"}


def crd_folder():
    """Where the operator's schemas are looked for."""
    return Path(os.environ.get("LONGTAKE_CRD_DIR") or ROOT.parent / "shared" / "schemas")


def crd_file(kind):
    """The file of one kind, plain as upstream publishes it or gzipped; anywhere below the folder."""
    found = sorted(crd_folder().rglob(f"ray.io_{kind}.yaml*"))
    if found:
        return found[0]
    fault = f"no ray.io_{kind}.yaml or .yaml.gz in {crd_folder()}"
    pytest.fail(
        f"{fault}: set LONGTAKE_CRD_DIR to a folder with KubeRay's CRDs (see k8s/README.md)", pytrace=False
    )


def strict(node):
    """The schema with every field it does not name forbidden, as the API server's strict mode has it."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key in ("properties", "patternProperties"):
            out[key] = {name: strict(child) for name, child in value.items()}
        elif key in ("items", "additionalProperties", "allOf", "anyOf", "oneOf", "not"):
            out[key] = strict(value)
        else:
            out[key] = value
    if node.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    return out


@cache
def crd_validator(kind):
    """A strict validator of the operator's v1 of one kind."""
    path = crd_file(kind)
    with (gzip.open if path.suffix == ".gz" else open)(path) as file:
        crd = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    return Draft202012Validator(strict(version["schema"]["openAPIV3Schema"]))


def core_faults(document, version=NEWEST):
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{error.json_path}: {error.message[:200]}"]
    return []


def faults(document, version=NEWEST):
    """What the API server would refuse, as lines; an unknown kind raises."""
    if missing := {"apiVersion", "kind", "metadata"} - document.keys():
        return [f"$: {', '.join(sorted(missing))} missing"]
    if not document["apiVersion"].startswith("ray.io/"):
        return core_faults(document, version)
    validator = crd_validator(document["kind"].lower() + "s")
    found = [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(document)]
    # A CRD says nothing about its own metadata; any core kind does.
    stand_in = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": document["metadata"]}
    return found or core_faults(stand_in, version)


RAYJOB = yaml.safe_load((K8S / "rayjob.yaml").read_text())
CORE = {doc["kind"]: doc for doc in yaml.safe_load_all((K8S / "nightly.yaml").read_text())}
SCRIPT = CORE["ConfigMap"]["data"]["create.sh"]
TEMPLATE = CORE["ConfigMap"]["data"]["rayjob.yaml"]
NIGHTLY = yaml.safe_load(TEMPLATE.replace("NIGHT", "20260131"))
CRON = CORE["CronJob"]["spec"]
CRON_JOB = CRON["jobTemplate"]["spec"]
CRON_POD = CRON_JOB["template"]["spec"]
BOTH = pytest.mark.parametrize("job", [RAYJOB, NIGHTLY], ids=["rayjob", "nightly"])
ALL = pytest.mark.parametrize("document", [RAYJOB, NIGHTLY, *CORE.values()], ids=["one", "nightly", *CORE])


def pods(job):
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [job["spec"]["submitterPodTemplate"]["spec"], *(g["template"]["spec"] for g in groups)]


def environment(pod):
    return {item["name"]: item["value"] for item in pod["containers"][0]["env"]}


def fields(node, path=()):
    """The path of every field that a schema must know."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from fields(item, (*path, index))
    elif isinstance(node, dict) and not FREE & {*path[-1:]}:
        for key, value in node.items():
            yield (*path, key)
            yield from fields(value, (*path, key))


def misspelt(document, path):
    """A copy of the document with the last letter of one field doubled."""
    bad = node = dict(document)
    for key in path[:-1]:
        # A copy of this node alone: YAML anchors share it, and the other places must stay right.
        node[key] = copy.copy(node[key])
        node = node[key]
    node[path[-1] + path[-1][-1]] = node.pop(path[-1])
    return bad


def test_the_kinds_are_those_that_a_night_needs():
    assert (RAYJOB["apiVersion"], RAYJOB["kind"]) == (NIGHTLY["apiVersion"], NIGHTLY["kind"])
    assert (RAYJOB["apiVersion"], RAYJOB["kind"]) == ("ray.io/v1", "RayJob")
    assert CORE.keys() == {"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "CronJob"}


@ALL
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_field_is_one_that_the_cluster_knows(document, version):
    assert faults(document, version) == []


@ALL
def test_a_misspelt_field_is_refused_wherever_it_stands(document):
    paths = list(fields(document))
    assert len(paths) >= 4
    assert [path for path in paths if not faults(misspelt(document, path))] == []


def test_a_replica_count_in_quotes_is_refused():
    bad = copy.deepcopy(RAYJOB)
    bad["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"] = "2"
    (fault,) = faults(bad)
    assert "replicas" in fault and "integer" in fault


def test_missing_schemas_are_a_failure_that_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGTAKE_CRD_DIR", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="set LONGTAKE_CRD_DIR") as failure:
        crd_file("rayjobs")
    assert str(tmp_path) in str(failure.value)


def test_schemas_are_read_plain_as_upstream_publishes_them(tmp_path, monkeypatch):
    plain = tmp_path / "ray.io_rayjobs.yaml"
    plain.touch()
    monkeypatch.setenv("LONGTAKE_CRD_DIR", str(tmp_path))
    assert crd_file("rayjobs") == plain


@BOTH
def test_the_driver_is_started_by_our_command_line(job):
    assert COMMAND.fullmatch(job["spec"]["entrypoint"])


def test_nightly_renders_as_the_one_job_does():
    one, night = copy.deepcopy(RAYJOB["spec"]), copy.deepcopy(NIGHTLY["spec"])
    assert one.pop("entrypoint") != night.pop("entrypoint")
    assert night == one


def test_a_night_has_its_date_in_its_name_its_manifest_and_its_films():
    command = COMMAND.fullmatch(NIGHTLY["spec"]["entrypoint"])
    for place in (NIGHTLY["metadata"]["name"], command["manifest"], command["out"]):
        assert "20260131" in place


def test_the_same_night_fits_raycronjob():
    spec = {"schedule": CRON["schedule"], "timeZone": CRON["timeZone"], "jobTemplate": NIGHTLY["spec"]}
    moved = {"apiVersion": "ray.io/v1", "kind": "RayCronJob", "metadata": {"name": "nightly"}, "spec": spec}
    assert faults(moved) == []


def test_no_field_of_a_rayjob_tells_one_exit_code_from_another_as_the_readme_says():
    known = crd_validator("rayjobs").schema["properties"]["spec"]["properties"]
    told = {name for name in known if re.search("(?i)failure|exit|retry", name)}
    told |= known["submitterConfig"]["properties"].keys() - {"backoffLimit"}
    assert told == set(), "say which exit codes are not to be retried, and mend k8s/README.md"
    assert "has no `podFailurePolicy`" in (K8S / "README.md").read_text()


@BOTH
def test_pods_are_confined_and_their_images_pinned(job):
    for pod in [*pods(job), CRON_POD]:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            assert tag and tag != "latest"


@BOTH
def test_a_pod_gets_more_time_to_end_than_ray_takes(job):
    _, head, worker = pods(job)
    drain_s = int(environment(worker)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    runtime = yaml.safe_load(job["spec"]["runtimeEnvYAML"])
    assert runtime.keys() == {"env_vars"}
    stop_s = int(runtime["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    # Ray alone takes up to 30 s, and so does Kubernetes' default.
    assert drain_s > 30 and worker["terminationGracePeriodSeconds"] >= drain_s + 30
    assert stop_s > 3 and head["terminationGracePeriodSeconds"] >= stop_s + 30


@BOTH
def test_gangs_stay_off_the_head_and_strangers_off_the_cluster(job):
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in pods(job)[1]["containers"][0]["resources"]["limits"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert {environment(pod)["RAY_AUTH_MODE"] for pod in pods(job)} == {"token"}
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert int(pods(job)[-1]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) > 0
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """The folder that the README's own command makes."""
    (line,) = re.findall(r"^\.venv/bin/python -c '(.*)'$", (K8S / "README.md").read_text(), re.MULTILINE)
    home = tmp_path_factory.mktemp("made")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", line], cwd=home, env=environment, check=True, timeout=120)
    return home / "out" / "identity" / "development-identity"


@BOTH
def test_every_pod_that_may_sign_has_the_identity_where_the_signer_looks_and_never_makes_one(
    job, identity, tmp_path
):
    submitter, *signers = pods(job)
    assert "volumes" not in submitter
    (folder,) = re.findall(r" identity=(\S+)", job["spec"]["entrypoint"])
    for number, pod in enumerate(signers):
        (mount,) = pod["containers"][0]["volumeMounts"]
        (volume,) = pod["volumes"]
        assert mount == {"name": volume["name"], "mountPath": folder, "readOnly": True}
        assert volume["secret"]["defaultMode"] == 0o440  # and fsGroup makes the pod's group its owner
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
        assert (
            f"secret generic {volume['secret']['secretName']} --from-file" in (K8S / "README.md").read_text()
        )
        mounted = tmp_path / str(number)
        for item in volume["secret"]["items"]:
            (mounted / item["path"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(identity / item["key"], mounted / item["path"])
        found = make_development_identity(mounted)
        assert found.root.read_bytes() == (identity / "root.pem").read_bytes()
        assert found.chain.read_bytes() == (identity / "chain.pem").read_bytes()
        assert found.key.read_bytes() == (identity / "key.pem").read_bytes()


def test_names_are_short_enough_for_what_is_made_from_them():
    for name in (
        RAYJOB["metadata"]["name"],
        NIGHTLY["metadata"]["name"],
        CORE["CronJob"]["metadata"]["name"],
    ):
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
        assert len(name) <= 47
    assert {doc["metadata"]["namespace"] for doc in [RAYJOB, NIGHTLY, *CORE.values()]} == {"longtake"}


def test_two_nights_never_overlap_and_a_failed_pod_is_not_restarted_in_place():
    assert CRON["concurrencyPolicy"] == "Forbid"
    assert CRON_POD["restartPolicy"] == "Never"


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


def test_the_image_holds_the_four_rooms_and_nothing_else():
    lines = (K8S / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    about = {"constraints.txt", "pyproject.toml", "README.md", "LICENSE"}
    assert copied == {"cluster", "engine", "jobs", "manifests"} | about


@pytest.mark.parametrize(("extras", "told"), [("", "."), ("gcs", ".[gcs]"), ("gcs,azure", ".[gcs,azure]")])
def test_the_image_is_installed_with_the_extras_that_are_asked_for_and_with_none(extras, told):
    (line,) = [line for line in (K8S / "Dockerfile").read_text().splitlines() if " -e " in line]
    shown = f"EXTRAS={extras}; printf %s {line.rpartition(' -e ')[2]}"
    assert subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True).stdout == told


def test_the_image_is_pinned_and_not_root():
    lines = (K8S / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM")] == ["FROM python:3.11-slim"]
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000:1000"]
    installs = [line for line in lines if "pip install" in line]
    assert installs and all("-c constraints.txt" in line for line in installs)
    assert lines.index("COPY constraints.txt ./") < lines.index(installs[0])
    assert "HF_HUB_OFFLINE=1" in "\n".join(lines)
    assert "://" not in "\n".join(lines)
