"""The thin client: edits, jobs and sessions over one connection, with pyzmq and msgpack but without torch.

``Client`` and ``AsyncClient`` edit pictures; ``errors`` draws the tree of what can go wrong.
"""

from qied_client.aio import AsyncClient, AsyncJob, AsyncSession
from qied_client.client import Client, Job, Session
from qied_client.errors import QiedError
from qied_client.history import SessionSummary, Turn
from qied_client.job_status import JobStatus, JobSummary
from qied_client.results import Progress, Result
from qied_client.version import __version__

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "AsyncSession",
    "Client",
    "Job",
    "JobStatus",
    "JobSummary",
    "Progress",
    "QiedError",
    "Result",
    "Session",
    "SessionSummary",
    "Turn",
    "__version__",
]
