"""Claims about judging: what an error of a worker is called, and of which class it is."""

import errno
import pickle

import pytest
import torch
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from cluster.causes import of_node
from cluster.crew import judge
from cluster.outcomes import Failure
from cluster.shortage import Shortage
from engine.blending import NotFinite
from engine.faults import gpu_failed
from engine.memory import ran_out
from manifests.full import disk_full
from manifests.places import StoreError
from manifests.s3 import by_reply
from manifests.store import Corrupt


def reply(status, code):
    """What a worker raises of a reply of S3, as it arrives in the driver's process."""
    told = {"Error": {"Code": code, "Message": "told"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return pickle.loads(pickle.dumps(by_reply(translate_boto_error(ClientError(told, "GetObject")))))


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (503, "SlowDown", "SHARED"),
        (503, "ServiceUnavailable", "SHARED"),
        (429, "TooManyRequests", "SHARED"),
        (500, "InternalError", "TRANSIENT"),
        (502, "BadGateway", "TRANSIENT"),
        (504, "GatewayTimeout", "TRANSIENT"),
        (404, "NoSuchKey", "DATA"),
    ],
)
def test_a_reply_of_a_store_has_the_class_of_its_status(status, code, name):
    failure = judge(reply(status, code))
    assert failure.error_class == name and failure.code == "E801_STORE" and "told" in failure.message


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (ConnectionResetError("reset"), "E801_STORE", "TRANSIENT"),
        (TimeoutError("late"), "E801_STORE", "TRANSIENT"),
        (OSError(errno.EIO, "Input/output error"), "E801_STORE", "TRANSIENT"),
        (StoreError("cannot be reached", "s3://films", "check the network"), "E801_STORE", "TRANSIENT"),
        (OSError(errno.ENOSPC, "No space left on device"), "E803_DISK_FULL", "DISK_FULL"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "E803_DISK_FULL", "DISK_FULL"),
        (FileNotFoundError("no artefact"), "E801_STORE", "DATA"),
        (Corrupt("a" * 64, "b" * 64), "E804_CORRUPT", "DATA"),
        (NotFinite("a prediction has NaN"), "E621_NOT_FINITE", "QUALITY"),
        (torch.OutOfMemoryError("CUDA out of memory"), "E921_GPU_OOM", "GPU_OOM"),
        (MemoryError(), "E922_HOST_OOM", "HOST_OOM"),
        (Shortage(Failure("E920_MEMORY", "62 GiB short", "use less")), "E920_MEMORY", "HOST_OOM"),
        (RuntimeError("a wrong shape"), "E900_RENDER", "BUG"),
    ],
)
def test_an_error_is_of_the_class_that_says_whether_another_try_may_help(error, code, name):
    failure = judge(error)
    assert (failure.code, failure.error_class) == (code, name)


@pytest.mark.parametrize(
    "told",
    [
        "CUDA error: uncorrectable ECC error encountered\nCompile with TORCH_USE_CUDA_DSA",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled cuda error, NCCL Error 1: unhandled cuda error",
    ],
)
def test_a_gpu_that_failed_is_told_from_one_that_ran_out_of_memory_and_from_a_wrong_index(told):
    error = torch.AcceleratorError(told)
    assert gpu_failed(error) and not ran_out(error)
    failure = judge(error)
    assert (failure.code, failure.error_class) == ("E923_GPU_FAULT", "GPU_FAULT") and "Xid" in failure.hint
    for other in ("CUDA error: out of memory", "CUDA error: device-side assert triggered"):
        assert judge(torch.AcceleratorError(other)).error_class != "GPU_FAULT"


def test_a_full_disk_says_what_is_free_and_what_to_do(tmp_path):
    assert judge(disk_full(tmp_path)).message.endswith(
        "make room on this node, or have its TMPDIR name a folder on a larger disk"
    )


def test_a_worker_is_lost_with_its_node_only_where_that_is_gone_or_had_notice():
    assert of_node("gang-0", "a", draining=(), lives=True) is None
    assert of_node("gang-0", "", draining=(), lives=False) is None, "it never came to work"
    lost, gone = of_node("gang-0", "a", (), False), of_node("gang-0", "a", {"a"}, True)
    assert lost is not None and (lost.code, lost.error_class) == ("E912_NODE_LOST", "NODE_LOST")
    assert gone is not None and (gone.code, gone.error_class) == ("E913_PREEMPTED", "PREEMPTED")
