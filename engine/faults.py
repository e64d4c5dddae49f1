"""Whether an error says that a GPU has failed: what its process computes from then on fails too, or is wrong.

By the words of CUDA, cuDNN, cuBLAS and NCCL in torch's errors, which have no types of their own for it. An
assertion of a kernel is none of them: that is a wrong index, and comes again on any GPU.
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


def gpu_failed(error: BaseException) -> bool:
    """Whether an error of torch's is of a GPU that has failed."""
    return isinstance(error, RuntimeError) and any(told in str(error) for told in _TOLD)
