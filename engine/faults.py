"""Errors that are not of what was asked: a GPU has failed, or another rank has.

What a process computes on a GPU that failed fails from then on, too, or is wrong. It is known by the words of
CUDA, cuDNN, cuBLAS and NCCL in torch's errors, which have no types of their own for it. An assertion of a
kernel is none of them: that is a wrong index, and comes again on any GPU.
"""

_TOLD = (
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error",
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "misaligned address",
    "unspecified launch failure",
    "hardware stack error",
    "the launch timed out and was terminated",
    "CUDA error: unknown error",
    "no CUDA-capable device is detected",
    "CUDA-capable device(s) is/are busy or unavailable",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "NCCL Error 1: unhandled cuda error",
    "ncclUnhandledCudaError",
)


class PeerFailed(Exception):
    """Another rank of the gang could not do what all were to do before a collective; this one is sound."""


def gpu_failed(error: BaseException) -> bool:
    """Whether an error of torch's is of a GPU that has failed."""
    return isinstance(error, RuntimeError) and any(told in str(error) for told in _TOLD)
