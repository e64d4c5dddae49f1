"""What the crew, dispatch and the bill are told of a job's configuration. Decides nothing else."""

from pathlib import Path

from cluster.crew import Setup
from cluster.dispatch import Limits
from engine.parallel.axes import Axes
from jobs.bill import Price
from jobs.budget import hard_gpu_s, soft_gpu_s
from jobs.job import Job
from jobs.spec import ClusterSpec


def setup_of(job: Job, store_url: str) -> Setup:
    """What the crew is told."""
    cluster = job.spec.cluster
    return Setup(
        store_url=store_url,
        identity_folder=str(Path(job.spec.identity).expanduser()),
        device=cluster.device,
        stage_gpus=cluster.stage_gpus,
        threads=cluster.threads,
        checkpoint_every=cluster.checkpoint_every,
        gangs=cluster.gangs,
        axes=Axes.of_gang(cluster.cfg or 1, cluster.ring or 1, cluster.ulysses or 1),
        exchange=cluster.exchange,
        conductors=cluster.conductors,
        decoders=cluster.decoders,
        finishers=cluster.finishers,
        group_timeout_s=cluster.group_timeout_s,
        step_timeout_s=cluster.step_timeout_s,
        task_timeout_s=cluster.task_timeout_s,
        check_memory=cluster.check_memory,
        cache=cluster.cache,
        job_id=job.job_id,
        log=job.spec.log,
        share=cluster.share,
    )


def limits_of(cluster: ClusterSpec) -> Limits:
    """What dispatch is told."""
    return Limits(
        max_canvases=cluster.max_canvases,
        max_films=cluster.max_films,
        breaker_films=cluster.breaker_films,
        breaker_share=cluster.breaker_share,
        canary_films=cluster.canary_films,
        patience=cluster.patience,
        budget_gpu_s=hard_gpu_s(cluster),
        soft_gpu_s=soft_gpu_s(cluster),
    )


def price_of(cluster: ClusterSpec) -> Price:
    """What a GPU costs."""
    return Price(cluster.price_per_gpu_hour, cluster.currency)
